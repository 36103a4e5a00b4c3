"""How a user wants recordings to be read: which leads, and what is done about gaps."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import DataNotFoundError, RecordError
from ecg_mlflow.records.record import DigitalRecord

#: Channels that a note names.
_SHOWN = 5
REFUSE, INTERPOLATE = "refuse", "interpolate"
_GAPS = re.compile(rf"{REFUSE}|{INTERPOLATE}:(\d+\.?\d*|\.\d+)")


@dataclass(frozen=True)
class Reading:
    """What is read of a recording.

    Attributes
    ----------
    leads
        The leads, in this order, by names in any spelling (`leads.lead_key`), separated by commas;
        empty for all ECG leads.
    gaps
        What becomes of samples that are invalid or missing: ``refuse`` makes a bad record,
        ``interpolate:SECONDS`` draws a line over gaps of at most so long.

    Raises
    ------
    DataNotFoundError
        If they have another form.
    """

    leads: str = ""
    gaps: str = REFUSE

    def __post_init__(self) -> None:
        if self.leads and (not all(self.names) or len({*self.names}) < len(self.names)):
            raise DataNotFoundError(
                f"leads={self.leads!r} must be names with commas between them, each once: II,V5"
            )
        if not _GAPS.fullmatch(self.gaps):
            raise DataNotFoundError(
                f"gaps={self.gaps!r} must be {REFUSE}, or {INTERPOLATE}: and the longest gap in "
                f"seconds, such as {INTERPOLATE}:0.5"
            )

    @classmethod
    def of(cls, leads: str | Sequence[str] | None = None, gaps: str | None = None) -> Reading:
        """Return what is meant by values that may be None, for the defaults."""
        return cls(leads if isinstance(leads, str) else ",".join(leads or ()), gaps or REFUSE)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the leads."""
        return tuple(name.strip() for name in self.leads.split(",")) if self.leads else ()

    def fill(self, record: DigitalRecord) -> DigitalRecord:
        """Interpolate gaps as far as that is wanted; `DigitalRecord.interpolated` counts samples.

        A gap at an end of the record has the value beside it.

        Raises
        ------
        RecordError
            If invalid or missing samples are left.
        """
        if record.samples.dtype != np.float32:
            return record
        missing = np.isnan(record.samples)
        if not missing.any():
            return record
        _, _, seconds = self.gaps.partition(":")
        longest = int(float(seconds or 0) * record.fs)
        too_long = np.stack([_runs_over(lead, longest) for lead in missing.T], axis=1)
        too_long |= missing.all(axis=0)
        if too_long.any():
            first, lead = np.argwhere(too_long)[0]
            over = f" in gaps of more than {seconds} s" if seconds else ""
            raise RecordError(
                f"NaN among the samples: {too_long.any(axis=1).sum()} of {len(missing)} samples "
                f"are invalid or missing{over}, the first is number {first} of lead "
                f"{record.leads[lead]!r}"
            )
        samples = record.samples.copy()
        for lead, gaps in zip(samples.T, missing.T, strict=True):
            lead[gaps] = np.interp(np.flatnonzero(gaps), np.flatnonzero(~gaps), lead[~gaps])
        return replace(record, samples=samples, interpolated=int(missing.sum()))


#: All ECG leads, no gaps.
DEFAULT = Reading()


class Remarks:
    """What is to be said of the records of a corpus: once for all, not of each."""

    def __init__(self) -> None:
        self._ignored = Counter[str]()
        self._interpolated = list[int]()

    def add(self, record: DigitalRecord) -> None:
        """Take notice of a record."""
        self._ignored.update(record.ignored)
        if record.interpolated:
            self._interpolated.append(record.interpolated)

    def notes(self) -> list[str]:
        """Return the notes."""
        notes = []
        if self._ignored:
            listed = [f"{name} of {n} records" for name, n in self._ignored.most_common(_SHOWN)]
            more = f" and {rest} more" if (rest := len(self._ignored) - _SHOWN) > 0 else ""
            notes.append(f"ignored channels that are no leads: {', '.join(listed)}{more}")
        if self._interpolated:
            notes.append(
                f"interpolated {sum(self._interpolated)} samples in gaps of "
                f"{len(self._interpolated)} records"
            )
        return notes


def _runs_over(missing: npt.NDArray[np.bool_], longest: int) -> npt.NDArray[np.bool_]:
    """Keep the runs of True that are longer."""
    edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
    kept = missing.copy()
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        kept[start:end] = end - start > longest
    return kept
