"""Stop a job by an exception, after which it has time to flush.

A worker process requests the stop when it gets SIGTERM, a job in a thread is asked by its driver.
Jobs use `shielded` and `stop_requested` in both cases.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext


class Terminated(BaseException):  # so that a job's own `except Exception` lets it pass
    """The job is told to stop: flush what must be kept, and let this exception pass."""


class StopFlag:
    """Raises `Terminated` once in the thread of one job, after `request`.

    Attributes
    ----------
    told
        Whether the job knows of the request: it has asked for it, or `Terminated` was raised.
    """

    def __init__(self) -> None:
        self.told = False
        self._requested = False
        self._raised = False
        self._shields = 0

    def request(self) -> None:
        """Ask the job to stop; from any thread."""
        self._requested = True

    @property
    def requested(self) -> bool:
        """Whether the job was asked to stop. A job that has read this has been told."""
        self.told = self.told or self._requested
        return self.told

    def check(self) -> None:
        """Raise `Terminated` if it is time to; in other threads than the job's, do nothing."""
        if _current_flag() is self and not self._shields and not self._raised and self.requested:
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
    def governing_this_thread(self) -> Iterator[None]:
        """Make `shielded` and `stop_requested` use this flag in this thread."""
        _HERE.flag = self
        try:
            yield
        finally:
            del _HERE.flag

    def follow_sigterm(self) -> None:
        """Raise `Terminated` at the first SIGTERM; ignore later ones, so that a job can flush."""

        def on_signal(*_: object) -> None:
            self.request()
            self.check()

        signal.signal(signal.SIGTERM, on_signal)


_HERE = threading.local()


def _current_flag() -> StopFlag | None:
    """Return what may stop the job that this thread executes."""
    return getattr(_HERE, "flag", None)


def shielded() -> AbstractContextManager[None]:
    """Hold `Terminated` back inside a ``with`` block that must not be interrupted.

    For jobs: around writing a file or sending a message whose half would do harm, or around an
    iteration that asks `stop_requested` itself. `Terminated` is raised on leaving the outermost
    block. A worker that doesn't end within its grace is killed, shielded or not. Outside jobs, and
    in other threads than the job's, the block changes nothing.
    """
    flag = _current_flag()
    return flag.shielded() if flag else nullcontext()


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
    flag = _current_flag()
    return flag is not None and flag.requested
