"""What is in a corpus: classes, lengths, leads, patients, copies, and faulty records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records import Corpus, list_bad_records
from ecg_mlflow.records.grouping import rows_by_patient
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.records.quality import LeadFault, lead_faults
from ecg_mlflow.records.snomed import abbreviated, in_words
from ecg_mlflow.reports.figures.counts import round_edges

#: Samples of all leads that are checked for faults: a few seconds' work.
MOST_SAMPLES = 400_000_000
SHOWN_COPIES, SHOWN_FAULTS, SHOWN_COMBINATIONS, SHOWN_LEADS = 10, 10, 5, 5
_BINS, _BAR = 10, 40
_INDENT = " " * 10

Key = TypeVar("Key")


@dataclass(frozen=True)
class Copies:
    """Records whose signals are equal to the last sample.

    Attributes
    ----------
    records, labels
        Their names and labels.
    """

    records: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def disagree(self) -> bool:
        """Whether one signal has two labels, whatever order several diagnoses come in."""
        return len({frozenset(split_label(label)) for label in self.labels}) > 1


@dataclass(frozen=True, eq=False)
class CorpusSummary:
    """The figures of a corpus.

    Attributes
    ----------
    corpus
        It.
    labels
        How many records have each label as it stands, several diagnoses with commas between.
    diagnoses
        How many records have each single diagnosis.
    several
        How many records have more than one.
    seconds
        Length of each record, ``(n_records,)``.
    fs, leads
        How many records have each sampling frequency in Hz, and each list of leads.
    patients
        How many records each known patient has; None where the labels name no patient.
    copies
        Groups of copies.
    faults
        Faults of leads by record.
    n_checked
        How many records were checked for faults.
    """

    corpus: Corpus
    labels: Mapping[str, int]
    diagnoses: Mapping[str, int]
    several: int
    seconds: npt.NDArray[np.float64]
    fs: Mapping[float, int]
    leads: Mapping[tuple[str, ...], int]
    patients: Mapping[str, int] | None
    copies: tuple[Copies, ...]
    faults: Mapping[str, tuple[LeadFault, ...]]
    n_checked: int

    @classmethod
    def of(cls, corpus: Corpus) -> CorpusSummary:
        """Gather the figures; samples are read once, those of evenly spread records if many."""
        whose = rows_by_patient(range(len(corpus)), corpus.patients)
        checked = _checked_rows(corpus)
        faults = {corpus.ids[row]: found for row in checked if (found := _faults_of(corpus, row))}
        return cls(
            corpus,
            _by_number(Counter(corpus.labels)),
            _by_number(Counter(one for label in corpus.labels for one in split_label(label))),
            sum(len(split_label(label)) > 1 for label in corpus.labels),
            corpus.n_samples / corpus.fs,
            _by_number(Counter(corpus.fs.tolist())),
            _by_number(Counter(corpus.leads)),
            None if corpus.patients is None else {name: len(rows) for name, rows in whose.items()},
            tuple(_copies(corpus, group) for group in corpus.copies),
            faults,
            len(checked),
        )


def summarise(corpus: Corpus) -> str:
    """Describe a corpus in lines of text."""
    return summary_text(CorpusSummary.of(corpus))


def summary_text(summary: CorpusSummary) -> str:
    """Write the figures of a corpus as lines of text."""
    corpus, seconds = summary.corpus, summary.seconds
    fs = ", ".join(f"{value:g} Hz ({n})" for value, n in summary.fs.items())
    leads = [f"{', '.join(names)} ({n})" for names, n in summary.leads.items()]
    more = len(leads) - SHOWN_LEADS
    lines = [
        f"{len(corpus)} records from {corpus.source} (digest {corpus.digest[:12]})",
        *_label_lines(summary),
        f"sampled:  {fs}",
        f"leads:    {'; '.join(leads[:SHOWN_LEADS])}" + (f"; {more} other lists" * (more > 0)),
        f"lengths:  {seconds.min():.1f} to {seconds.max():.1f} s, median "
        f"{np.median(seconds):.1f} s, {seconds.sum() / 3600:.1f} h in all",
        *_length_lines(seconds),
        *_patient_lines(summary),
        *_fault_lines(summary),
        *_copy_lines(summary.copies),
    ]
    if corpus.bad:
        lines += [f"bad:      {len(corpus.bad)} records", *list_bad_records(corpus.bad)]
    return "\n".join(lines)


def _label_lines(summary: CorpusSummary) -> list[str]:
    counts = ", ".join(f"{in_words(name)} {n}" for name, n in summary.diagnoses.items())
    lines = [f"labels:   {counts}"]
    if summary.several:
        together = [(name, n) for name, n in summary.labels.items() if len(split_label(name)) > 1]
        often = ", ".join(f"{abbreviated(name)} {n}" for name, n in together[:SHOWN_COMBINATIONS])
        lines.append(
            f"{_INDENT}{summary.several} of {len(summary.corpus)} records have several, in "
            f"{len(together)} combinations: {often}"
            + (", ..." if len(together) > SHOWN_COMBINATIONS else "")
        )
    return lines


def _length_lines(seconds: npt.NDArray[np.float64]) -> list[str]:
    """Draw a histogram of lengths, unless all are equal."""
    if np.ptp(seconds) < 1e-9:
        return []
    edges = round_edges(seconds, _BINS)
    counts, _ = np.histogram(seconds, edges)
    names = [f"{low:g} to {high:g} s" for low, high in pairwise(edges)]
    width, digits = max(map(len, names)), len(str(max(counts)))
    return [
        f"{_INDENT}{name:>{width}}  {count:>{digits}}  {_bar(count, max(counts))}".rstrip()
        for name, count in zip(names, counts.tolist(), strict=True)
    ]


def _bar(count: int, most: int) -> str:
    """Return a bar; it is empty only for 0."""
    return "#" * max(round(_BAR * count / most), int(count > 0))


def _patient_lines(summary: CorpusSummary) -> list[str]:
    if not summary.patients:
        return []
    numbers = list(summary.patients.values())
    spread = f"{min(numbers)} to {max(numbers)}" if len(set(numbers)) > 1 else f"{numbers[0]}"
    nameless = len(summary.corpus) - sum(numbers)
    line = f"patients: {len(numbers)}, {spread} records each"
    return [line + (f"; {nameless} records name none" if nameless else "")]


def _fault_lines(summary: CorpusSummary) -> list[str]:
    lines = []
    for record, faults in list(summary.faults.items())[:SHOWN_FAULTS]:
        lines.append(f"  {record}: {'; '.join(map(str, faults))}")
    if len(summary.faults) > SHOWN_FAULTS:
        lines.append(f"  ... and {len(summary.faults) - SHOWN_FAULTS} more")
    if lines:
        lines.insert(0, f"signals:  {len(summary.faults)} usable records have faulty leads")
    if summary.n_checked < len(summary.corpus):
        lines.append(
            f"signals:  only {summary.n_checked} of {len(summary.corpus)} records, evenly spread, "
            "were checked for flat and saturated leads"
        )
    return lines


def _copy_lines(copies: Sequence[Copies]) -> list[str]:
    # Copies with contradictory labels come first.
    ordered = sorted(copies, key=lambda group: not group.disagree)
    lines = [
        f"copies:   {' = '.join(group.records)} hold the same signal"
        + (f", with different labels: {', '.join(group.labels)}" if group.disagree else "")
        for group in ordered[:SHOWN_COPIES]
    ]
    if len(copies) > SHOWN_COPIES:
        lines.append(f"{_INDENT}... and {len(copies) - SHOWN_COPIES} more groups of copies")
    return lines


def _copies(corpus: Corpus, group: tuple[str, ...]) -> Copies:
    return Copies(group, tuple(corpus.labels[corpus.index(name)] for name in group))


def _checked_rows(corpus: Corpus) -> list[int]:
    n_values = int((corpus.n_samples * corpus.signals.n_leads).sum())
    every = max(1, -(-n_values // MOST_SAMPLES))
    return list(range(0, len(corpus), every))


def _faults_of(corpus: Corpus, row: int) -> tuple[LeadFault, ...]:
    return lead_faults(corpus.signals.samples(row), float(corpus.fs[row]), corpus.leads[row])


def _by_number(counts: Counter[Key]) -> dict[Key, int]:
    return dict(counts.most_common())
