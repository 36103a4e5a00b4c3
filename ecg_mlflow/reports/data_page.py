"""A corpus as an HTML page, with a picture of each class, and as a table of its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.records.snomed import abbreviated, in_words
from ecg_mlflow.reports.data_summary import CorpusSummary, spans_of
from ecg_mlflow.reports.figures.counts import bar_chart, histogram
from ecg_mlflow.reports.figures.ecg_paper import draw_record
from ecg_mlflow.reports.html import Picture, Table, render
from ecg_mlflow.tracking.run_log import csv_text

#: Classes that an example is drawn of: a page of more is slow to open.
MOST_EXAMPLES = 24
#: Rows of a table.
MOST_ROWS = 500
_EXAMPLE_S = 10.0


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
        spans=spans_of(summary.seconds),
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
            "faults": ["; ".join(map(str, summary.faults.get(name, ()))) for name in corpus.ids],
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
    chosen = min(
        rows,
        key=lambda row: (corpus.ids[row] in summary.faults, len(split_label(corpus.labels[row]))),
    )
    record = corpus.record(chosen)
    part = replace(record, signal=record.signal[: round(_EXAMPLE_S * record.fs)])
    caption = f"{in_words(name)}: record {record.id}, label {record.label}"
    return Picture.of(draw_record(part, most_rows=1), caption)


def _problems(summary: CorpusSummary) -> Mapping[str, Table]:
    """Return tables of what is wrong, by their headings."""
    bad: list[dict[str, Any]] = [
        {"record": one.id, "reason": one.reason, "file": one.path} for one in summary.corpus.bad
    ]
    faults = [
        {"record": record, "faults": "; ".join(map(str, found))}
        for record, found in summary.faults.items()
    ]
    copies = [
        {
            "records": " = ".join(group.records),
            "labels": " | ".join(group.labels),
            "labels differ": group.disagree,
        }
        for group in summary.copies
    ]
    named = {"Records that can't be used": bad, "Faulty leads": faults, "Exact copies": copies}
    return {heading: Table(rows) for heading, rows in named.items()}
