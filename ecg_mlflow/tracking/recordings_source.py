"""Where recordings come from, in the form in which MLflow keeps it beside a run.

The runs of a study and ``mlflow.data.from_wfdb`` write the same form, so that
``mlflow.data.get_source(...).load()`` opens the recordings of either.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Self

#: MLflow's name for this kind of source.
SOURCE_TYPE = "wfdb"
#: Characters of a data set's digest in MLflow's database.
DIGEST_LIMIT = 36
#: Characters of a source in MLflow's database.
SOURCE_LIMIT = 65_535


@dataclass(frozen=True)
class RecordingsSource:
    """A labelled set of recordings: what to ask for to get it, and how to know it again.

    Attributes
    ----------
    data
        A folder, a glob or a word such as ``demo:400:0``, as ``ecg-mlflow run`` takes it; paths
        are absolute.
    labels
        The file of their labels, where it was named.
    digest
        SHA-256 of the whole corpus; '' where it isn't known.
    rows
        Positions in the corpus of the records of a part of it, ascending; None for all of them.
    n_unkept
        How many rows there were, where they were too many to be kept.
    leads, gaps
        How the recordings are read, where that was said; see `ecg_mlflow.load_corpus`.
    """

    data: str
    labels: str | None = None
    digest: str = ""
    rows: tuple[int, ...] | None = None
    n_unkept: int = 0
    leads: str | None = None
    gaps: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data; rows are written as ``0-5,8``."""
        names = ("labels", "digest", "n_unkept", "leads", "gaps")
        optional = {name: getattr(self, name) for name in names}
        found = {"data": self.data} | {key: value for key, value in optional.items() if value}
        return found if self.rows is None else {**found, "rows": write_rows(self.rows)}

    def to_json(self) -> str:
        """Return it as JSON that MLflow takes.

        Of a part in so many pieces that its rows exceed MLflow's limit (of some 15,000 at least)
        only their number is kept.
        """
        text = json.dumps(self.to_dict())
        if len(text) > SOURCE_LIMIT and self.rows is not None:
            text = replace(self, rows=None, n_unkept=len(self.rows)).to_json()
        return text

    @classmethod
    def from_dict(cls, source_dict: Mapping[Any, Any]) -> Self:
        """Read what `to_dict` or `to_json` has written.

        Raises
        ------
        KeyError, TypeError, ValueError
            It is not of that form.
        """
        rows = source_dict.get("rows")
        return cls(
            str(source_dict["data"]),
            source_dict.get("labels"),
            str(source_dict.get("digest", "")),
            None if rows is None else read_rows(rows),
            int(source_dict.get("n_unkept", 0)),
            source_dict.get("leads"),
            source_dict.get("gaps"),
        )


def write_rows(rows: Iterable[int]) -> str:
    """Write ascending numbers with runs of them put together, as in ``0-5,8``."""
    runs = []
    for _, group in groupby(enumerate(rows), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in group]
        runs.append(f"{numbers[0]}-{numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}")
    return ",".join(runs)


def read_rows(text: str) -> tuple[int, ...]:
    """Read what `write_rows` has written.

    Raises
    ------
    ValueError
        It is something else.
    """
    found: list[int] = []
    for run in text.split(",") if text else ():
        first, _, last = run.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return tuple(found)
