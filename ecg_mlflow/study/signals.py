"""Ctrl-C, SIGTERM and the caller's death, as requests that are answered at a good moment."""

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
#: Seconds within which signals of one kind are one wish.
ONE_WISH = 0.5


class StopRequest:
    """Whether somebody wants the study to stop."""

    def __init__(self) -> None:
        self._seen: dict[int, float] = {}

    def check(self) -> None:
        """Raise KeyboardInterrupt if a stop was asked for.

        To be called where nothing is half done: no run created that nobody knows of yet.
        """
        if self._seen:
            raise KeyboardInterrupt(f"stopped by {signal.Signals(min(self._seen)).name}")

    def note(self, number: int, frame: FrameType | None = None) -> None:
        """Take a signal: the first of its kind is noted, the second one is obeyed at once.

        Of its kind, because ``mlflow run`` answers Ctrl-C with a SIGTERM of its own,
        milliseconds after the terminal's SIGINT: that is one wish, and not a second one. So are
        signals of one kind in quick succession: the kernel sends the one of a parent's death
        once for each of its threads that has had the child in hand.
        """
        now = time.monotonic()
        if now - self._seen.setdefault(number, now) > ONE_WISH:
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

    For a driver under ``mlflow run``, which dies of a signal without a word to its command.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
