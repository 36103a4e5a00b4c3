"""Define a recording: signal, sampling frequency, leads and label; and a bad recording."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ecg_mlflow.errors import BadRecordsError

#: Called with what is done, and what there is in total: records, or bytes.
Progress = Callable[[int, int], None]

LISTED_AT_MOST = 50


@dataclass(frozen=True, eq=False)
class Record:
    """One labelled recording in physical units.

    Attributes
    ----------
    id
        Name of the record: the file name of its header without the suffix.
    signal
        Samples in mV, shape ``(n_samples, n_leads)``, float32.
    fs
        Sampling frequency in Hz.
    leads
        One name per column of `signal`.
    label
        The record's class, or None if unknown.
    """

    id: str
    signal: NDArray[np.float32]
    fs: float
    leads: tuple[str, ...]
    label: str | None


@dataclass(frozen=True, eq=False)
class DigitalRecord:
    """One recording as stored in its files: ``mV = (samples - baseline) / gain``.

    Attributes
    ----------
    id
        Name of the record.
    fs
        Sampling frequency in Hz.
    leads
        One name per lead.
    samples
        Shape ``(n_samples, n_leads)``: int16 as the converter gave them; or float32 in mV, with
        gain 1 and baseline 0, if they need more than 16 bits.
    gain
        Units of the converter per mV, shape ``(n_leads,)``, float32.
    baseline
        The converter's value at 0 mV, shape ``(n_leads,)``, float32.
    comments
        A WFDB header's comments without their ``#``, in ASCII, as wfdb reads them.
    ignored
        Channels of the file that are none of the leads, each as ``PLETH (NU, 125 Hz)``.
    interpolated
        How many samples of all leads were interpolated.
    """

    id: str
    fs: float
    leads: tuple[str, ...]
    samples: NDArray[np.int16] | NDArray[np.float32]
    gain: NDArray[np.float32]
    baseline: NDArray[np.float32]
    comments: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()
    interpolated: int = 0

    @classmethod
    def from_millivolts(
        cls, name: str, signal: NDArray[np.float32], fs: float, leads: tuple[str, ...]
    ) -> DigitalRecord:
        """Make a record of a signal in mV, ``(n_samples, n_leads)`` float32."""
        ones = np.ones(len(leads), np.float32)
        return cls(name, fs, leads, signal, ones, np.zeros_like(ones))

    def millivolts(self) -> NDArray[np.float32]:
        """Return the signal in mV, shape ``(n_samples, n_leads)``, float32."""
        return to_millivolts(self.samples, self.gain, self.baseline)


@dataclass(frozen=True)
class BadRecord:
    """One recording that can't be used, with the reason.

    Attributes
    ----------
    id
        Name of the record.
    path
        The file at fault, with its line where there is one (``REFERENCE.csv:12``).
    reason
        The kind of fault, then a colon and the details if there are any.
    """

    id: str
    path: str
    reason: str

    @property
    def kind(self) -> str:
        """The reason without its details; lists are grouped by it."""
        return self.reason.partition(":")[0]


def to_millivolts(
    samples: NDArray[np.int16] | NDArray[np.float32],
    gain: NDArray[np.float32],
    baseline: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Convert stored samples to mV.

    Parameters
    ----------
    samples
        Shape ``(n_samples, n_leads)``.
    gain, baseline
        Units per mV and value at 0 mV, shape ``(n_leads,)``.

    Returns
    -------
    ndarray
        A new array in mV, shape ``(n_samples, n_leads)``, float32.
    """
    signal = samples.astype(np.float32)
    signal -= baseline
    signal /= gain
    return signal


def list_bad_records(bad: Iterable[BadRecord]) -> list[str]:
    """List all bad records as lines of text, grouped by the kind of fault."""
    groups: dict[str, list[BadRecord]] = defaultdict(list)
    for record in bad:
        groups[record.kind].append(record)
    lines = []
    for kind, members in sorted(groups.items(), key=lambda group: (-len(group[1]), group[0])):
        lines.append(f"{kind} ({len(members)}):")
        for record in sorted(members, key=lambda member: (member.id, member.path)):
            details = record.reason.partition(":")[2].strip()
            lines.append(f"  {record.id}  {record.path}" + (f"  {details}" if details else ""))
    return lines


def bad_records_error(bad: Sequence[BadRecord]) -> BadRecordsError:
    """Return the error that lists all bad records by kind, in at most 50 lines."""
    lines = list_bad_records(bad)
    shown = lines[:LISTED_AT_MOST]
    if len(lines) > len(shown):
        listed = sum(line.startswith("  ") for line in shown)
        shown.append(f"... and {len(bad) - listed} more")
    n_records = len({record.id for record in bad})
    return BadRecordsError(
        f"{n_records} records can't be used ({len(bad)} faults):\n"
        + "\n".join(shown)
        + "\nRepair or remove them, or leave them out with on_bad_record=skip."
    )
