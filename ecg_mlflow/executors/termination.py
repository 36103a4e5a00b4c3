"""SIGTERM as one exception in the job, which then has time to flush and to end in order."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from types import FrameType


class Terminated(BaseException):  # not an Exception: a job's own `except Exception` must let it by
    """The job is told to stop: flush what must be kept, and let this exception pass."""


class TermSignal:
    """Raises `Terminated` in the main thread at the first SIGTERM, and ignores the later ones.

    Ignoring them is what lets a job flush undisturbed; who can't wait sends SIGKILL.
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


# A process has one SIGTERM handler, hence one object for it.
TERM_SIGNAL = TermSignal()


def shielded() -> AbstractContextManager[None]:
    """Hold `Terminated` back inside a ``with`` block that must not be cut in two.

    For jobs: around writing a file or sending a message whose half would do harm. Keep such
    blocks short, since a worker that doesn't end within its grace is killed. Where no SIGTERM
    can arrive, as in the in-process executor, the block simply runs.
    """
    return TERM_SIGNAL.shielded()
