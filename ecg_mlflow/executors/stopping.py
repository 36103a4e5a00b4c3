"""Stop a job by an exception, after which it has time to flush.

A worker process is stopped by SIGTERM (`TermSignal`), a job in a thread by a flag (`ThreadStop`).
Jobs use `shielded` and `stop_requested` in both cases.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType


class Terminated(BaseException):  # so that a job's own `except Exception` lets it pass
    """The job is told to stop: flush what must be kept, and let this exception pass."""


class TermSignal:
    """Raises `Terminated` in the main thread at the first SIGTERM, and ignores the later ones.

    Later signals are ignored so that a job can flush; SIGKILL ends it immediately.
    """

    def __init__(self) -> None:
        self.raised = False
        self._waiting = False
        self._shields = 0

    def install(self) -> None:
        """Take over SIGTERM; only the main thread may call this."""
        signal.signal(signal.SIGTERM, self._on_signal)

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        if self._shields:
            self._waiting = True
        else:
            self._raise_once()

    def _raise_once(self) -> None:
        self._waiting = False
        if not self.raised:
            self.raised = True
            raise Terminated("SIGTERM")

    @property
    def requested(self) -> bool:
        """Whether SIGTERM has been received, held back or not."""
        return self._waiting or self.raised

    @contextmanager
    def shielded(self) -> Iterator[None]:
        """Hold `Terminated` back until the block is left. Nests; a no-op in other threads."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        self._shields += 1
        try:
            yield
        finally:
            self._shields -= 1
            if self._waiting and not self._shields:
                self._raise_once()


class ThreadStop:
    """Raises `Terminated` once, in the thread of one job, at its next look after `request`.

    The job looks by `check`, which its ``report`` calls, and by leaving a shielded block.
    """

    def __init__(self) -> None:
        self.told = False
        self._raised = False
        self._shields = 0
        self._requested = threading.Event()

    def request(self) -> None:
        """Ask the job to stop; from any thread."""
        self._requested.set()

    @property
    def requested(self) -> bool:
        """Whether the job was asked to stop. Having read that, it counts as told."""
        self.told = self.told or self._requested.is_set()
        return self.told

    def check(self) -> None:
        """Raise `Terminated` if it is time to; elsewhere than in the job's thread, do nothing."""
        if _stop_here() is not self or self._shields or self._raised:
            return
        if self.requested:
            self._raised = True
            raise Terminated("cancelled")

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
        """Make it what `shielded` and `stop_requested` turn to in this thread."""
        _HERE.stop = self
        try:
            yield
        finally:
            del _HERE.stop


# A process has one SIGTERM handler, hence one object for it.
TERM_SIGNAL = TermSignal()

_HERE = threading.local()


def _stop_here() -> TermSignal | ThreadStop:
    """Return what may stop the job that this thread executes."""
    stop: TermSignal | ThreadStop = getattr(_HERE, "stop", TERM_SIGNAL)
    return stop


def shielded() -> AbstractContextManager[None]:
    """Hold `Terminated` back inside a ``with`` block that must not be cut in two.

    For jobs: around writing a file or sending a message whose half would do harm, or around an
    iteration that asks `stop_requested` itself. `Terminated` is raised on leaving the outermost
    block. A worker that doesn't end within its grace is killed, shielded or not.
    """
    return _stop_here().shielded()


def stop_requested() -> bool:
    """Return whether the driver has asked this job to stop. To be called in the job's thread.

    Inside a `shielded` block the job continues, and can finish its work, write
    a checkpoint and then leave the block, where `Terminated` is raised::

        with shielded():
            for batch in batches:
                step(batch)
                if stop_requested():
                    save(checkpoint)
                    break
    """
    return _stop_here().requested
