"""Control a Ray actor from the driver."""

from __future__ import annotations

import contextlib
import pickle
import time
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.exceptions import ActorUnavailableError, GetTimeoutError, RayError, RayTaskError

from ecg_mlflow.executors.base import Job, Outcome, OutcomeState, Report
from ecg_mlflow.executors.execution import describe_error, take_all
from ecg_mlflow.executors.job_queue import UNKNOWN
from ecg_mlflow.executors.pool import Worker
from ecg_mlflow.executors.ray_actor import ActorInfo, FolderFile, JobActor

_STACKS_GRACE = 1.5  # seconds to get the stacks of a hanging actor
_END = 10.0  # seconds to wait for an actor that was killed


class RayWorker(Worker):
    """One actor and the call that it is answering.

    It describes itself, receives the folder if its node lacks it, and then gets jobs. One call
    runs at a time (`call`), beside the one that fails when the actor dies (`end`), and calls whose
    answers are ignored.

    Parameters
    ----------
    slot
        Number of the slot whose jobs it executes.
    options
        Of the actor: its share of a node and its environment.
    arguments
        Of `JobActor`.
    load
        Returns the files of the folder.
    """

    def __init__(
        self,
        slot: int,
        options: dict[str, Any],
        arguments: tuple[Any, ...],
        load: Callable[[], list[FolderFile]],
    ) -> None:
        super().__init__(slot)
        # Calls without a group run in one thread, in the order in which they are sent.
        remote = ray.remote(concurrency_groups={"at once": 5})(JobActor)
        self._actor: Any = remote.options(max_restarts=0, **options).remote(*arguments)
        self.info: ActorInfo | None = None
        self.is_ready = False
        self.end = self._call_at_once("stay")
        self.call: Any = self._call_at_once("describe")
        self._load = load
        self._ray_says = ""
        self._is_away = False
        self._stacks = ""

    def _call_at_once(self, method: str, *arguments: object) -> Any:
        return getattr(self._actor, method).options(concurrency_group="at once").remote(*arguments)

    @property
    def name(self) -> str:
        """The worker's name in messages."""
        where = f" (pid {self.info.pid} on {self.info.host})" if self.info else ""
        return f"worker {self.slot}{where}"

    @property
    def device(self) -> str:
        """The device, unique in the cluster; `UNKNOWN` before the actor has described itself."""
        return f"{self.info.node} {self.info.device}" if self.info else UNKNOWN

    def _begin(self, job: Job) -> None:
        if self.is_ready:
            self.call = self._actor.begin.remote(job)
            self.forward_inbox()

    def forward_inbox(self) -> None:
        """Send the messages to its job, if the actor has got the job."""
        if self.job and self.is_ready and self._inbox:
            # The death of the actor shows in `end`; Ray drops the error of this call.
            self._actor.deliver.remote(take_all(self._inbox))

    def reports(self) -> Iterator[Report]:
        """Yield what the answer to its call brings, if the answer has arrived."""
        if self.call is None or not ray.wait([self.call], timeout=0)[0]:
            return
        try:
            answer, self.call = ray.get(self.call), None
            yield from self._handle(answer)
        except (RayTaskError, OSError) as error:
            if self.job:
                yield self._refusal(self.job, error)
            self.kill("could not be made ready")
        except RayError as error:
            self._lose(error)

    def _handle(self, answer: Any) -> Iterator[Report]:
        if isinstance(answer, ActorInfo):
            self.info = answer
            if answer.lacks_folder:
                self.call = self._call_at_once("receive", self._load())
                return
        if not self.is_ready:
            self.is_ready = True
            if self.job:
                self._begin(self.job)
            return
        self._has_shown_life()
        yield from map(pickle.loads, answer or [])  # nothing where it answers that a job begins
        if self.job:
            self.call = self._call_at_once("next_reports")

    def _refusal(self, job: Job, error: Exception) -> Outcome:
        cause = error.cause if isinstance(error, RayTaskError) else error
        described = describe_error(cause)
        reason = f"{self.name} could not be made ready: {described['reason']}"
        text, kind = f"{reason}\n{error}", described["error_type"]
        return Outcome(job.key, OutcomeState.FAILED, None, text, reason, kind)

    def has_ended(self) -> bool:
        """Whether it has ended or is out of reach: a call has failed, or a kill has no effect."""
        if not self._ray_says and ray.wait([self.end], timeout=0)[0]:
            try:
                ray.get(self.end)
            except RayError as error:
                self._lose(error)
        is_overdue = self._stop_by is not None and self._stop_by <= time.monotonic()
        return bool(self._ray_says) or (self._killed_because is not None and is_overdue)

    def _lose(self, error: RayError) -> None:
        if not self._ray_says:
            self._ray_says = str(error).strip() or repr(error)
            self._is_away = isinstance(error, ActorUnavailableError)
            self._kill()

    def close(self) -> None:
        """Wait for the end of an actor that was killed."""
        if not self.has_ended():
            ray.wait([self.end], timeout=_END)
            self.has_ended()

    def _request_stop(self) -> None:
        if self.job and self.is_ready:
            self._actor.stop.remote()
        else:
            self.kill("was not needed")

    def _abort(self) -> None:
        with contextlib.suppress(GetTimeoutError, RayError):
            self._stacks = ray.get(self._call_at_once("stacks"), timeout=_STACKS_GRACE)
        self._kill()

    def _kill(self) -> None:
        ray.kill(self._actor)
        self._end_within(_END)  # a node that is cut off tells no end

    def _describe_end(self) -> str:
        if self._is_away:
            return "is lost, or the way to its node is"
        # The last line says what happened, after the addresses.
        why = self._ray_says.splitlines()[-1].strip().partition(" Some common causes")[0]
        return f"died: {why}"

    def _details(self) -> str:
        return f"Ray says:\n{self._ray_says or '(nothing)'}\n{self._stacks}"
