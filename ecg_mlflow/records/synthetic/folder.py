"""The folder that a made-up corpus is written to: new, and there whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ecg_mlflow.errors import RecordError
from ecg_mlflow.files import move_folder, scratch_folder

MAX_RECORDS = 99_999  # as many as five digits name


@contextmanager
def corpus_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a folder to write in, which takes the target's place when the block ends well.

    Raises
    ------
    RecordError
        If the target holds something already.
    """
    place = Path(target)
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise RecordError(
            f"demo corpus: {place} holds something already; give a new or an empty folder"
        )
    with scratch_folder(place.parent, place.name) as aside:
        yield aside
        if place.exists():
            place.rmdir()
        move_folder(aside, place)


def check_arguments(**given: tuple[float, float, float, str]) -> None:
    """Refuse arguments that no corpus can be made of.

    Parameters
    ----------
    **given
        By name: the value, the least and the most that are allowed, and these in words.

    Raises
    ------
    RecordError
        At the first that is out of range.
    """
    for name, (value, least, most, allowed) in given.items():
        if not least <= value <= most:
            raise RecordError(f"demo corpus: {name} is {value!r}; allowed is {allowed}")
