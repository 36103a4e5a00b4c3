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
REFUSE, INTERPOLATE, AVOID = "refuse", "interpolate", "avoid"
_GAPS = re.compile(rf"{REFUSE}|({INTERPOLATE}|{AVOID}):(\d+\.?\d*|\.\d+)")


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
        ``interpolate:SECONDS`` draws a line over gaps of at most so long. ``avoid:SECONDS`` cuts a
        record at its gaps into stretches of at least so long, each a record of the same patient.

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
                f"gaps={self.gaps!r} must be {REFUSE}, {INTERPOLATE}: and the longest gap in s, as "
                f"in {INTERPOLATE}:0.5, or {AVOID}: and the shortest stretch between gaps in s"
            )

    @classmethod
    def of(cls, leads: str | Sequence[str] | None = None, gaps: str | None = None) -> Reading:
        """Return what is meant by values that may be None, for the defaults."""
        return cls(leads if isinstance(leads, str) else ",".join(leads or ()), gaps or REFUSE)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the leads."""
        return tuple(name.strip() for name in self.leads.split(",")) if self.leads else ()

    def usable(self, record: DigitalRecord) -> list[DigitalRecord]:
        """Return what is used of a record: the whole, without gaps, or its stretches between gaps.

        A stretch is named by the record and its first sample, such as ``R1#00250``.

        Raises
        ------
        RecordError
            If gaps are left, or there is no stretch that is long enough.
        """
        kind, _, seconds = self.gaps.partition(":")
        if kind != AVOID or not np.isnan(record.samples).any():
            return [self.fill(record)]
        whole = np.isfinite(record.samples).all(axis=1)
        edges = np.flatnonzero(np.diff(whole, prepend=False, append=False)).reshape(-1, 2)
        width = len(str(len(record.samples)))
        found = [
            replace(record, id=f"{record.id}#{start:0{width}}", samples=record.samples[start:end])
            for start, end in edges.tolist()
            if end - start >= max(1.0, float(seconds) * record.fs)
        ]
        if not found:
            raise RecordError(f"NaN among the samples: no stretch without gaps lasts {seconds} s")
        return found

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
        kind, _, seconds = self.gaps.partition(":")
        seconds = seconds if kind == INTERPOLATE else ""
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
        self._stretches = list[int]()
        self._left_out_s = 0.0

    def add(self, record: DigitalRecord, used: Sequence[DigitalRecord]) -> None:
        """Take notice of a record, and of what is used of it."""
        self._ignored.update(record.ignored)
        if used[0].interpolated:
            self._interpolated.append(used[0].interpolated)
        if used[0].id != record.id:
            self._stretches.append(len(used))
            n_used = sum(len(one.samples) for one in used)
            self._left_out_s += (len(record.samples) - n_used) / record.fs

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
        if self._stretches:
            notes.append(
                f"cut {len(self._stretches)} records with gaps into {sum(self._stretches)} "
                f"stretches; {self._left_out_s:.1f} s are left out"
            )
        return notes


def _runs_over(missing: npt.NDArray[np.bool_], longest: int) -> npt.NDArray[np.bool_]:
    """Keep the runs of True that are longer."""
    edges = np.flatnonzero(np.diff(missing, prepend=False, append=False))
    kept = missing.copy()
    for start, end in zip(edges[::2], edges[1::2], strict=True):
        kept[start:end] = end - start > longest
    return kept
