"""What is in a corpus: as lines of text, as an HTML page with pictures, and as a table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from ecg_mlflow.records import Corpus, list_bad_records
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.records.quality import lead_faults
from ecg_mlflow.records.snomed import abbreviated, in_words
from ecg_mlflow.reports.figures.counts import bar_chart, histogram, round_edges
from ecg_mlflow.reports.figures.ecg_paper import draw_record
from ecg_mlflow.reports.html import Picture, Table, render
from ecg_mlflow.tracking.run_data import csv_text

#: Classes that an example is drawn of: a page of more is slow to open.
MOST_EXAMPLES = 24
#: Rows of a table.
MOST_ROWS = 500
_EXAMPLE_S = 10.0
#: Samples of all leads that are checked for faults: a few seconds' work.
MOST_SAMPLES = 400_000_000
_BINS, _BAR = 10, 40

Key = TypeVar("Key")


class Copies(NamedTuple):
    """Records whose signals are equal to the last sample.

    Attributes
    ----------
    records, labels
        Their names and labels.
    disagree
        Whether one signal has two labels, whatever order several diagnoses come in.
    """

    records: tuple[str, ...]
    labels: tuple[str, ...]
    disagree: bool


class CorpusSummary:
    """The figures of a corpus; samples are read once, those of evenly spread records if many.

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
        How many records each known patient has; empty where the labels name no patient.
    copies
        Groups of copies.
    faults
        Faults of leads by record, in words.
    n_checked
        How many records were checked for faults.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        diagnoses = [split_label(label) for label in corpus.labels]
        self.labels = _counted(corpus.labels)
        self.diagnoses = _counted(one for found in diagnoses for one in found)
        self.several = sum(len(found) > 1 for found in diagnoses)
        self.seconds: npt.NDArray[np.float64] = corpus.seconds
        self.fs = _counted(corpus.fs.tolist())
        self.leads = _counted(corpus.leads)
        self.patients = _counted(filter(None, corpus.patients or ()))
        self.copies = []
        for group in corpus.copies:
            labels = tuple(corpus.labels[corpus.index(name)] for name in group)
            disagree = len({frozenset(split_label(label)) for label in labels}) > 1
            self.copies.append(Copies(group, labels, disagree))
        n_values = int((corpus.n_samples * corpus.signals.n_leads).sum())
        checked = range(0, len(corpus), max(1, -(-n_values // MOST_SAMPLES)))
        self.n_checked = len(checked)
        self.faults = {}
        for row in checked:
            samples, fs = corpus.signals.samples(row), float(corpus.fs[row])
            if found := lead_faults(samples, fs, corpus.leads[row]):
                self.faults[corpus.ids[row]] = "; ".join(map(str, found))


def summary_text(summary: CorpusSummary) -> str:
    """Write the figures of a corpus as lines of text."""
    together = [(name, n) for name, n in summary.labels.items() if len(split_label(name)) > 1]
    return render(
        "summary.txt",
        summary=summary,
        corpus=summary.corpus,
        diagnoses=[f"{in_words(name)} {n}" for name, n in summary.diagnoses.items()],
        together=[f"{abbreviated(name)} {n}" for name, n in together],
        sampled=[f"{fs:g} Hz ({n})" for fs, n in summary.fs.items()],
        leads=[f"{', '.join(names)} ({n})" for names, n in summary.leads.items()],
        spans=_spans(summary.seconds),
        lengths=_length_lines(summary.seconds),
        numbers=sorted({*summary.patients.values()}),
        bad=list_bad_records(summary.corpus.bad),
    )


def data_page(summary: CorpusSummary) -> str:
    """Return the page: classes, lengths, leads, an example of each class, copies, bad records."""
    corpus, labels, lengths = summary.corpus, None, None
    if np.ptp(summary.seconds) > 0:
        lengths = Picture.of(histogram(summary.seconds, "length in s", title="Lengths"), "Lengths")
    if summary.several:
        rows = [
            {"label": name, "in short": abbreviated(name), "records": n, "share": n / len(corpus)}
            for name, n in summary.labels.items()
        ]
        labels = Table(rows[:MOST_ROWS])
    frequencies = [{"sampled at": f"{fs:g} Hz", "records": n} for fs, n in summary.fs.items()]
    leads = [{"leads": ", ".join(names), "records": n} for names, n in summary.leads.items()]
    return render(
        "data.html",
        title=f"Recordings of {corpus.source}",
        summary=summary,
        corpus=corpus,
        spans=_spans(summary.seconds),
        classes=_classes(summary),
        labels=labels,
        lengths=lengths,
        frequencies=Table(frequencies),
        leads=Table(leads[:MOST_ROWS]),
        examples=[_example(summary, name) for name in list(summary.diagnoses)[:MOST_EXAMPLES]],
        problems=_problems(summary),
        most_rows=MOST_ROWS,
    )


def records_table(summary: CorpusSummary) -> str:
    """Return a CSV with a line for each usable record."""
    corpus = summary.corpus
    return csv_text(
        {
            "record": corpus.ids,
            "label": corpus.labels,
            "patient": corpus.patients or [""] * len(corpus),
            "seconds": summary.seconds,
            "fs": corpus.fs,
            "leads": [" ".join(leads) for leads in corpus.leads],
            "faults": [summary.faults.get(name, "") for name in corpus.ids],
        }
    )


def _classes(summary: CorpusSummary) -> Picture:
    counts = {in_words(name): n for name, n in summary.diagnoses.items()}
    note = f"A record with several counts for each of them; {len(summary.corpus):,} records."
    figure = bar_chart(counts, title="Records of each class", note=note * bool(summary.several))
    return Picture.of(figure, "Records of each class")


def _example(summary: CorpusSummary, name: str) -> Picture:
    """Draw the record of a class with the fewest other diagnoses; faultless if there is one."""
    corpus = summary.corpus
    rows = [row for row, label in enumerate(corpus.labels) if name in split_label(label)]

    def shortcomings(row: int) -> tuple[bool, int]:
        return corpus.ids[row] in summary.faults, len(split_label(corpus.labels[row]))

    record = corpus.record(min(rows, key=shortcomings))
    part = replace(record, signal=record.signal[: round(_EXAMPLE_S * record.fs)])
    caption = f"{in_words(name)}: record {record.id}, label {record.label}"
    return Picture.of(draw_record(part, most_rows=1), caption)


def _problems(summary: CorpusSummary) -> dict[str, Table]:
    """Return tables of what is wrong, by their headings."""
    bad = [{"record": one.id, "reason": one.reason, "file": one.path} for one in summary.corpus.bad]
    faults = [{"record": record, "faults": found} for record, found in summary.faults.items()]
    copies = [
        {
            "records": " = ".join(group.records),
            "labels": " | ".join(group.labels),
            "labels differ": group.disagree,
        }
        for group in summary.copies
    ]
    return {
        "Records that can't be used": Table(bad),
        "Faulty leads": Table(faults),
        "Exact copies": Table(copies),
    }


def _spans(seconds: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """Return the shortest, the longest and the median length in s, and that of all in h."""
    return seconds.min(), seconds.max(), float(np.median(seconds)), seconds.sum() / 3600


def _length_lines(seconds: npt.NDArray[np.float64]) -> list[str]:
    """Draw a histogram of lengths, unless all are equal."""
    if np.ptp(seconds) < 1e-9:
        return []
    edges = round_edges(seconds, _BINS)
    counts = np.histogram(seconds, edges)[0].tolist()
    names = [f"{low:g} to {high:g} s" for low, high in pairwise(edges)]
    width, most = max(map(len, names)), max(counts)
    # A bar is empty only for 0.
    bars = ["#" * max(round(_BAR * count / most), count > 0) for count in counts]
    return [
        f"{name:>{width}}  {count:>{len(str(most))}}  {bar}".rstrip()
        for name, count, bar in zip(names, counts, bars, strict=True)
    ]


def _counted(values: Iterable[Key]) -> dict[Key, int]:
    """Count equal values, the most frequent first."""
    return dict(Counter(values).most_common())
