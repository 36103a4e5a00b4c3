"""Control a Ray actor from the driver."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from ecg_mlflow.executors.base import Job, Outcome, OutcomeState
from ecg_mlflow.executors.folders import FolderFile
from ecg_mlflow.executors.job_queue import UNKNOWN
from ecg_mlflow.executors.messages import WorkerMessage, take_all, type_name
from ecg_mlflow.executors.ray_actor import Introduction

_STACKS_GRACE = 1.5  # seconds to get the stacks of a hanging actor


class Began:
    """The current job of a worker has started."""


class RayWorker:
    """One actor, the call that it is answering and the job that it has in hand.

    It describes itself, receives the folders that its node lacks, and then gets jobs. One call runs
    at a time, beside the one that fails when the actor dies, and those that deliver messages to its
    job, whose answers are ignored.

    Parameters
    ----------
    slot
        Number of the slot whose jobs it executes.
    actor
        Handle of a `JobActor`.
    folders
        Content hashes of what has to be on its node.
    load
        Returns a folder's files, from wherever they are.
    hang_timeout
        Seconds that its job may go without a sign of life; None for any time.
    """

    def __init__(
        self,
        slot: int,
        actor: Any,
        folders: list[str],
        load: Callable[[str], list[FolderFile]],
        hang_timeout: float | None,
    ) -> None:
        self.slot = slot
        self.job: Job | None = None
        self.alone = False
        self.stopping = False
        self.introduction: Introduction | None = None
        self.end = actor.stay.remote()
        self.call = actor.introduce.remote(folders)
        self._answer: Callable[[Any], Iterator[Began | WorkerMessage | Outcome]] = (
            self._on_introduced
        )
        self._actor = actor
        self._load = load
        self._missing: list[str] = []
        self._inbox: deque[bytes] = deque()
        self._n_bundles = 0
        self.is_ready = False
        self._began = False
        self._hang_timeout = hang_timeout
        self._last_sign = 0.0
        self._grace = 0.0
        self._deadline: float | None = None
        self._killed_because: str | None = None
        self._said = ""
        self._stacks = ""

    @property
    def is_idle(self) -> bool:
        """Whether it can be given a job."""
        return self.job is None and not self._killed_because and not self.is_lost

    @property
    def is_lost(self) -> bool:
        """Whether a call to it has failed because there is no actor any more, or no way to it."""
        return bool(self._said)

    @property
    def pid(self) -> int:
        """The actor's process id on its node, -1 while it is unknown."""
        return self.introduction.pid if self.introduction else -1

    @property
    def device(self) -> str:
        """The device, unique in the cluster; `UNKNOWN` before it has introduced itself."""
        one = self.introduction
        return f"{one.node} {one.device}" if one else UNKNOWN

    @property
    def name(self) -> str:
        """How messages call it."""
        if not self.introduction:
            return f"worker {self.slot}"
        return f"worker {self.slot} (pid {self.pid} on {self.introduction.host})"

    @property
    def seconds_left(self) -> float | None:
        """Until `enforce_limits` has something to do, as far as can be known; None for never."""
        if self._killed_because or self.is_lost:
            return None
        limit = self._deadline
        if self._began and not self.stopping and self._hang_timeout is not None:
            limit = self._last_sign + self._hang_timeout
        return None if limit is None else max(0.0, limit - time.monotonic())

    def start(self, job: Job, inbox: deque[bytes]) -> None:
        """Hand over a job, which begins when the actor is ready for it.

        What is sent to the job is taken from `inbox` then, and by `forward_inbox`.
        """
        self.job = job
        self._inbox = inbox
        self.alone = job.exclusive
        self.stopping = False
        self._began = False
        if self.is_ready:
            self._begin(job)

    def answers(self) -> Iterator[Began | WorkerMessage | Outcome]:
        """Yield what has come with the answer to its call, which has to be there.

        Raises
        ------
        RayError
            The actor is dead, or its call raised.
        OSError
            A folder that it lacks can't be read.
        """
        answer = ray.get(self.call)
        self.call = None
        yield from self._answer(answer)

    def _on_introduced(
        self, introduction: Introduction
    ) -> Iterator[Began | WorkerMessage | Outcome]:
        self.introduction = introduction
        self._missing = list(introduction.missing)
        yield from self._on_received(None)

    def _on_received(self, _: None) -> Iterator[Began | WorkerMessage | Outcome]:
        if self._missing:
            content_hash = self._missing.pop()
            self._answer = self._on_received
            self.call = self._actor.receive.remote(content_hash, self._load(content_hash))
            return
        self.is_ready = True
        if self.job:
            self._begin(self.job)
        yield from ()

    def _begin(self, job: Job) -> None:
        self._answer = self._on_begun
        self.call = self._actor.begin.remote(job, self._n_bundles)
        self.forward_inbox()

    def forward_inbox(self) -> None:
        """Send what is sent to its job, if the job itself has gone to the actor."""
        if self.job and self.is_ready and self._inbox:
            # That the actor is dead shows in `end`; Ray drops the error that comes of this call.
            self._actor.deliver.remote(self._n_bundles, take_all(self._inbox))
            self._n_bundles += 1

    def _on_begun(self, _: None) -> Iterator[Began | WorkerMessage | Outcome]:
        self._began = True
        self._last_sign = time.monotonic()
        self._listen()
        yield Began()

    def _on_messages(
        self, messages: list[WorkerMessage | Outcome]
    ) -> Iterator[Began | WorkerMessage | Outcome]:
        self._last_sign = time.monotonic()
        if self._began:
            yield from messages
        if self.job:
            self._listen()

    def _listen(self) -> None:
        self._answer = self._on_messages
        self.call = self._actor.next_messages.remote()

    def finish(self) -> None:
        """Note that its job has its outcome."""
        self.job = None
        self.stopping = False
        self._began = False
        self._deadline = None

    def withdraw(self) -> bool:
        """Take back a job that has not been sent to the actor, and say whether that was so."""
        if self.is_ready:
            return False
        self.finish()
        return True

    def stop(self, grace: float) -> None:
        """Tell its job to end within `grace` seconds; a later call can only shorten that."""
        deadline = time.monotonic() + grace
        first = not self.stopping
        if first and self.job:
            self.stopping = True
            self._actor.stop.remote(self.job.key)
        if first or (self._deadline is not None and deadline < self._deadline):
            self._grace, self._deadline = grace, deadline

    def enforce_limits(self) -> None:
        """Kill it if the grace of `stop` is over, or if its job hangs, once it has said where."""
        if self.seconds_left != 0:
            return
        if self.stopping:
            self.kill(f"did not stop within {self._grace:g} s and was killed")
            return
        with contextlib.suppress(GetTimeoutError, RayError):
            self._stacks = ray.get(self._actor.stacks.remote(), timeout=_STACKS_GRACE)
        self.kill(f"gave no sign of life for {self._hang_timeout:g} s and was killed")

    def kill(self, because: str) -> None:
        """End the actor at once."""
        self._killed_because = self._killed_because or because
        ray.kill(self._actor)

    def lose(self, error: RayError) -> None:
        """Give the actor up, for a call to it has failed; what is out of reach may yet be alive."""
        self._said = self._said or str(error).strip() or repr(error)
        if isinstance(error, ActorUnavailableError):
            self._killed_because = self._killed_because or "is lost, or the way to its node is"
        ray.kill(self._actor)

    def close(self) -> None:
        """Do nothing: who retires it has killed it, or it has ended."""

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, under which the actor has died, with what Ray says."""
        if not self.is_lost:
            with contextlib.suppress(GetTimeoutError):
                self._ask_why()
        said = self._said
        how = self._killed_because or f"died: {_short(said)}"
        reason = f"{self.name} {how}"
        parts = [reason, f"Ray says:\n{said}", self._stacks]
        state = OutcomeState.CANCELLED if self.stopping else OutcomeState.DIED
        return Outcome(job.key, state, error="\n".join(filter(None, parts)), reason=reason)

    def _ask_why(self) -> None:
        try:
            ray.get(self.end, timeout=5)
        except GetTimeoutError:
            raise
        except RayError as error:
            self.lose(error)


def refusal(job: Job, worker: RayWorker, error: Exception) -> Outcome:
    """Return the outcome of a job whose worker could not be made ready for it."""
    cause = error.cause if isinstance(error, RayTaskError) else error
    reason = f"{worker.name} could not be made ready: {type_name(cause)}: {cause}"
    return Outcome(
        job.key,
        OutcomeState.FAILED,
        error=f"{reason}\n{error}",
        reason=" ".join(reason.split()),
        error_type=type_name(cause),
    )


def _short(said: str) -> str:
    """Return the sentence of Ray's that says what happened, without the addresses before it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    text = lines[-1] if lines else "Ray does not say why"
    return text.partition(" Some common causes")[0]
