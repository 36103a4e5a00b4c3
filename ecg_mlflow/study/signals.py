"""Turn Ctrl-C, SIGTERM and the parent's death into requests to stop, checked when it is safe."""

from __future__ import annotations

import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
#: Seconds within which signals of one kind are one request.
ONE_REQUEST_S = 0.5


class StopRequest:
    """Whether a stop of the study was requested."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was asked for.

        To be called where nothing is half done, such as a run created but not yet noted.
        """
        if self._seen:
            raise KeyboardInterrupt(f"stopped by {signal.Signals(min(self._seen)).name}")

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Take a signal: note the first of its kind, raise KeyboardInterrupt at the second.

        ``mlflow run`` answers Ctrl-C with a SIGTERM of its own, milliseconds after the terminal's
        SIGINT: that is one request, so kinds are counted apart. Signals of one kind in quick
        succession are one request, too: the kernel sends the one of a parent's death once for
        each of the parent's threads that has handled the child.
        """
        now = time.monotonic()
        if now - self._seen.setdefault(number, now) > ONE_REQUEST_S:
            raise KeyboardInterrupt(f"stopped by a second {signal.Signals(number).name}")


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Let SIGINT and SIGTERM ask for a stop, which `StopRequest.check` then carries out."""
    stop = StopRequest()
    with _handlers(stop.note, signal.SIGINT, signal.SIGTERM):
        yield stop


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")

    with _handlers(interrupt, signal.SIGTERM):
        yield


@contextmanager
def _handlers(handler: object, *numbers: signal.Signals) -> Iterator[None]:
    # Only the main thread may set handlers; a study in another thread is its caller's to stop.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def end_with_parent() -> None:
    """Have the kernel send SIGTERM when the parent dies, where it can (Linux).

    For a driver under ``mlflow run``, which does not pass on the signal that kills it.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
