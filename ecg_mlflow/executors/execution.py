"""Execute jobs in a worker, and pass on what the worker and the driver send each other.

A worker sends pickled reports (`Event`, `Outcome`). The driver sends a job pickled dicts, small
enough to be delivered without waiting, and the request to stop. A job calls `received`,
`stop_requested` and `shielded`.
"""

from __future__ import annotations

import pickle
import signal
import threading
import traceback
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from pkgutil import resolve_name
from typing import Any

from ecg_mlflow.executors.base import Event, Job, Outcome, OutcomeState, Report

_HERE = threading.local()


class Terminated(BaseException):  # so that a job's own `except Exception` lets it pass
    """The job is told to stop: flush what must be kept, and let this exception pass."""


class DriverLink(ABC):
    """Connects the thread of a job with the driver.

    After `request_stop` it raises `Terminated` once in that thread.

    Attributes
    ----------
    told
        Whether the job knows of the request: it has asked for it, or `Terminated` was raised.
    """

    def __init__(self) -> None:
        self.told = False
        self._stop_requested = False
        self._raised = False
        self._shields = 0

    @abstractmethod
    def send(self, report: bytes) -> None:
        """Send a pickled report; from any thread."""

    @abstractmethod
    def take_messages(self) -> list[bytes]:
        """Return the driver's new messages to the job, without waiting."""

    def request_stop(self) -> None:
        """Ask the job to stop; from any thread."""
        self._stop_requested = True

    @property
    def stop_requested(self) -> bool:
        """Whether the job was asked to stop. A job that has read this has been told."""
        self.told = self.told or self._stop_requested
        return self.told

    def check(self) -> None:
        """Raise `Terminated` if it is time to; in other threads than the job's, do nothing."""
        is_here = _current_link() is self
        if is_here and not self._shields and not self._raised and self.stop_requested:
            self._raised = True
            raise Terminated

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold `Terminated` back until the block is left. Nests."""
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            self.check()

    @contextmanager
    def serving_this_thread(self) -> Iterator[None]:
        """Make `received`, `shielded` and `stop_requested` use this link in this thread."""
        _HERE.link = self
        try:
            yield
        finally:
            del _HERE.link

    def follow_sigterm(self) -> None:
        """Raise `Terminated` at the first SIGTERM; ignore later ones, so that a job can flush."""

        def on_signal(*_: object) -> None:
            self.request_stop()
            self.check()

        signal.signal(signal.SIGTERM, on_signal)


def _current_link() -> DriverLink | None:
    """Return the link of the job that this thread executes."""
    return getattr(_HERE, "link", None)


def shielded() -> AbstractContextManager[None]:
    """Hold `Terminated` back inside a ``with`` block that must not be interrupted.

    For jobs: around writing a file or sending a message whose half would do harm, or around an
    iteration that asks `stop_requested` itself. `Terminated` is raised on leaving the outermost
    block. A worker that doesn't end within its grace is killed, shielded or not. Outside jobs, and
    in other threads than the job's, the block changes nothing.
    """
    link = _current_link()
    return link.shielded() if link else nullcontext()


def stop_requested() -> bool:
    """Return whether the driver has asked this job to stop. Call it in the job's thread.

    Inside a `shielded` block the job continues, and can finish its work, write
    a checkpoint and then leave the block, where `Terminated` is raised::

        with shielded():
            for batch in batches:
                step(batch)
                if stop_requested():
                    save(checkpoint)
                    break
    """
    link = _current_link()
    return link is not None and link.stop_requested


def received() -> list[dict[str, Any]]:
    """Return the driver's messages to this job since the last call, the oldest first.

    Call it in the job's thread, up to once per iteration: without messages it takes some
    microseconds. In other threads and outside jobs it returns an empty list. If `Terminated`
    interrupts it, its messages are lost; in a `shielded` block they are kept::

        for batch in batches:
            step(batch)
            for data in received():
                drop(data["pruned"])
    """
    link = _current_link()
    return [pickle.loads(message) for message in link.take_messages()] if link else []


def execute(function: str, job: Job, link: DriverLink) -> None:
    """Execute a job in this thread, which `link` serves, and send its reports, the outcome last.

    SystemExit and KeyboardInterrupt propagate: the job requests the end of the process.

    Parameters
    ----------
    function
        The job function's import path.
    job
        The job.
    link
        Sends the reports, and tells the job to stop.
    """

    def report(data: dict[str, Any]) -> None:
        link.send(_encode(Event(job.key, data)))
        link.check()

    try:
        value = resolve_name(function)(job.payload, report)
        outcome = Outcome(job.key, OutcomeState.DONE, value)
        _encode(outcome)  # a result that can't be sent is an error of the job
    except Terminated as error:
        asked = link.stop_requested
        outcome = Outcome(job.key, OutcomeState.CANCELLED) if asked else _failure(job.key, error)
    except Exception as error:  # noqa: BLE001 - whatever a job raises becomes its outcome
        outcome = _failure(job.key, error)
    if link.told:  # the job may have returned a value or failed after that
        outcome = replace(outcome, state=OutcomeState.CANCELLED)
    link.send(pickle.dumps(outcome, pickle.HIGHEST_PROTOCOL))


def _encode(report: Report) -> bytes:
    """Pickle a report; raise here, and not in the driver, if it can't be unpickled."""
    encoded = pickle.dumps(report, pickle.HIGHEST_PROTOCOL)
    pickle.loads(encoded)
    return encoded


def _failure(key: str, error: BaseException) -> Outcome:
    own_frame = error.__traceback__
    error = error.with_traceback(own_frame.tb_next if own_frame else None)
    return Outcome(key, OutcomeState.FAILED, **describe_error(error))


def describe_error(error: BaseException) -> dict[str, Any]:
    """Return ``error``, ``reason`` and ``error_type`` of an exception, as in `Outcome`."""
    kind = type(error)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return {
        "error": "".join(traceback.format_exception(error)),
        "reason": " ".join("".join(traceback.format_exception_only(error)).split()),
        "error_type": prefix + kind.__qualname__,
    }


def take_all(inbox: deque[bytes]) -> list[bytes]:
    """Empty a deque to which another thread may be adding."""
    return [inbox.popleft() for _ in range(len(inbox))]


class JobThread(DriverLink):
    """Executes one job in a new thread, from `start` on, and links it with the driver.

    Parameters
    ----------
    function
        The job function's import path.
    job
        The job.
    inbox
        To which another thread adds the driver's messages.
    send
        Sends a pickled report.
    """

    def __init__(
        self, function: str, job: Job, inbox: deque[bytes], send: Callable[[bytes], None]
    ) -> None:
        super().__init__()
        self._inbox = inbox
        self._send = send
        # A daemon thread, so that the process can exit despite an abandoned job.
        self._thread = threading.Thread(target=self._run, args=(function, job), daemon=True)

    def start(self) -> None:
        """Start the thread. If this is interrupted, the thread may have been started."""
        self._thread.start()

    def send(self, report: bytes) -> None:
        """Send a pickled report; from any thread."""
        self._send(report)

    def take_messages(self) -> list[bytes]:
        """Return the driver's new messages to the job."""
        return take_all(self._inbox)

    def _run(self, function: str, job: Job) -> None:
        """Execute the job. If it requests the end of the process, its outcome is DIED."""
        try:
            with self.serving_this_thread():
                execute(function, job, self)
        except BaseException as error:  # noqa: BLE001 - without an outcome the driver would wait on
            code = error.code if isinstance(error, SystemExit) else 1
            exitcode = code if isinstance(code, int) else int(code is not None)
            reason = f"the job raised {error!r}, which ends a process, with exit code {exitcode}"
            text = "".join(traceback.format_exception(error))
            outcome = Outcome(job.key, OutcomeState.DIED, None, text, reason, None, exitcode)
            self.send(pickle.dumps(outcome))
