"""A corpus as an HTML page, with a picture of each class, and as a table of its records."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.records.snomed import abbreviated, in_words
from ecg_mlflow.reports.data_summary import CorpusSummary
from ecg_mlflow.reports.figures.counts import bar_chart, histogram
from ecg_mlflow.reports.html import Paragraph, Picture, Section, Table, html_report
from ecg_mlflow.reports.record_picture import draw_record

#: Classes that an example is drawn of: a page of more is slow to open.
MOST_EXAMPLES = 24
#: Rows of a table of faults or copies.
MOST_ROWS = 500
_EXAMPLE_S = 10.0


def data_page(summary: CorpusSummary) -> str:
    """Return the page: classes, lengths, leads, an example of each class, copies, bad records."""
    sections = [
        Section("", [Paragraph(_told(summary))]),
        Section("Classes", list(_classes(summary))),
        Section("Lengths and leads", list(_lengths(summary))),
        Section("An example of each class", list(_examples(summary))),
        *_troubles(summary),
    ]
    return html_report(f"Recordings of {summary.corpus.source}", sections)


def records_table(summary: CorpusSummary) -> str:
    """Return a CSV with a line for each usable record."""
    corpus = summary.corpus
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["record", "label", "patient", "seconds", "fs", "leads", "faults"])
    for row, name in enumerate(corpus.ids):
        cells = (
            name,
            corpus.labels[row],
            corpus.patients[row] if corpus.patients is not None else "",
            float(summary.seconds[row]),
            float(corpus.fs[row]),
            " ".join(corpus.leads[row]),
            "; ".join(map(str, summary.faults.get(name, ()))),
        )
        writer.writerow(cells)
    return text.getvalue()


def _told(summary: CorpusSummary) -> str:
    corpus, seconds = summary.corpus, summary.seconds
    lines = [
        f"{len(corpus):,} usable records of {seconds.min():.1f} to {seconds.max():.1f} s, median "
        f"{np.median(seconds):.1f} s, {seconds.sum() / 3600:.1f} hours in all.",
        f"{len(summary.diagnoses)} classes"
        + (f"; {summary.several:,} records have several." if summary.several else "."),
    ]
    if summary.patients:
        lines.append(f"{len(summary.patients):,} patients.")
    lines.append(
        f"{len(corpus.bad):,} records can't be used, {len(summary.faults):,} have faulty leads, "
        f"{sum(len(group.records) for group in summary.copies):,} are exact copies of each other."
    )
    lines.append(f"Digest of the content: {corpus.digest}")
    return "\n".join(lines)


def _classes(summary: CorpusSummary) -> Iterator[Picture | Table]:
    total = len(summary.corpus)
    counts = {in_words(name): n for name, n in summary.diagnoses.items()}
    note = f"A record with several counts for each of them; {total:,} records."
    figure = bar_chart(counts, title="Records of each class", note=note * bool(summary.several))
    yield Picture.of(figure, "Records of each class")
    if summary.several:
        rows = [
            {"label": name, "in short": abbreviated(name), "records": n, "share": n / total}
            for name, n in summary.labels.items()
        ]
        yield Table(rows[:MOST_ROWS], "Labels as they stand, several diagnoses with commas between")


def _lengths(summary: CorpusSummary) -> Iterator[Paragraph | Picture | Table]:
    if np.ptp(summary.seconds) > 0:
        yield Picture.of(histogram(summary.seconds, "length in s", title="Lengths"), "Lengths")
    else:
        yield Paragraph(f"All records are {summary.seconds[0]:g} s long.")
    yield Table([{"sampled at": f"{fs:g} Hz", "records": n} for fs, n in summary.fs.items()])
    leads = [{"leads": ", ".join(names), "records": n} for names, n in summary.leads.items()]
    yield Table(leads[:MOST_ROWS])


def _examples(summary: CorpusSummary) -> Iterator[Paragraph | Picture]:
    classes = list(summary.diagnoses)
    if len(classes) > MOST_EXAMPLES:
        yield Paragraph(f"The {MOST_EXAMPLES} most frequent of {len(classes)} classes are shown.")
    for name in classes[:MOST_EXAMPLES]:
        record = summary.corpus.record(_example_of(summary, name))
        caption = f"{in_words(name)}: record {record.id}, label {record.label}"
        part = replace(record, signal=record.signal[: round(_EXAMPLE_S * record.fs)])
        yield Picture.of(draw_record(part, most_rows=1), caption)


def _example_of(summary: CorpusSummary, name: str) -> int:
    """Choose the record with the fewest other diagnoses; faultless if there is one, the first."""
    corpus = summary.corpus
    rows = [row for row, label in enumerate(corpus.labels) if name in split_label(label)]
    return min(
        rows,
        key=lambda row: (corpus.ids[row] in summary.faults, len(split_label(corpus.labels[row]))),
    )


def _troubles(summary: CorpusSummary) -> list[Section]:
    """Sections of what is wrong, each only where something is."""
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
    bad = [{"record": one.id, "reason": one.reason, "file": one.path} for one in summary.corpus.bad]
    named: dict[str, list[dict[str, Any]]] = {
        "Records that can't be used": bad,
        "Faulty leads": faults,
        "Exact copies": copies,
    }
    sections = [Section(title, _cut(rows)) for title, rows in named.items() if rows]
    if summary.n_checked < len(summary.corpus):
        note = (
            f"{summary.n_checked:,} of {len(summary.corpus):,} records, evenly spread, were looked "
            "at for faulty leads."
        )
        sections.append(Section("", [Paragraph(note)]))
    return sections


def _cut(rows: Sequence[dict[str, Any]]) -> list[Paragraph | Table | Picture]:
    more = len(rows) - MOST_ROWS
    items: list[Paragraph | Table | Picture] = [Table(rows[:MOST_ROWS])]
    return [*items, Paragraph(f"... and {more:,} more")] if more > 0 else items
