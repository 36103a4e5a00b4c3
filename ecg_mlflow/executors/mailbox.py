"""Letters: what the driver tells a job that is running.

A letter is a pickled dict, small enough to be handed on at once. How it comes to the job's thread
is each executor's affair. Jobs know nothing of that: they call `received`.
"""

from __future__ import annotations

import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ecg_mlflow.executors.base import ExecutorError
from ecg_mlflow.executors.messages import encode_dict

LETTER_LIMIT = 16_000  # bytes; a connection writes so much in one piece, and so do sockets

_HERE = threading.local()


def encode_letter(data: dict[str, Any]) -> bytes:
    """Pickle what the driver sends.

    Raises
    ------
    ExecutorError
        `data` is no dict, doesn't survive pickling or is too large.
    """
    try:
        letter = encode_dict(data, "send()", "the job")
    except TypeError as error:
        raise ExecutorError(str(error)) from error
    if len(letter) > LETTER_LIMIT:
        raise ExecutorError(
            f"send() can't send {sorted(map(str, data))} to the job: these are {len(letter)} "
            f"bytes, and {LETTER_LIMIT} are allowed. Send a path or an id of what is large"
        )
    return letter


def take_all(letters: deque[bytes]) -> list[bytes]:
    """Empty a deque to which another thread may be adding."""
    return [letters.popleft() for _ in range(len(letters))]


@contextmanager
def reading(take: Callable[[], list[bytes]]) -> Iterator[None]:
    """Make `take`, which returns new letters without waiting, what `received` asks in this thread.

    Other threads of the job get nothing: a connection can't be read by two.
    """
    _HERE.take = take
    try:
        yield
    finally:
        del _HERE.take


def received() -> list[dict[str, Any]]:
    """Return what the driver has sent to this job since the last call, the oldest first.

    To be called in the job's thread, as often as once per iteration: a call that finds nothing
    takes some microseconds at most. Elsewhere, and outside jobs, it returns an empty list. What
    it had found when `Terminated` is raised in it is lost; in a `shielded` block nothing is::

        for batch in batches:
            step(batch)
            for data in received():
                drop(data["pruned"])
    """
    take = getattr(_HERE, "take", None)
    return [pickle.loads(letter) for letter in take()] if take else []
