"""The commands that look at recordings: data, datasets, show."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from ecg_mlflow.cli.environment import base_folders
from ecg_mlflow.cli.parameters import (
    AMOUNT,
    PLACE,
    RECORDINGS,
    CliOption,
    command,
    labels_option,
    output_option,
    reading_options,
)
from ecg_mlflow.terminal import say

_SUMMARY = "summary"


@command(
    "data",
    click.Argument(["words"], nargs=-1, metavar="[summary] [DATA]"),
    labels_option(),
    *reading_options(),
    output_option("Folder to write a page with pictures and a table of all records into."),
)
def data_command(
    words: tuple[str, ...],
    labels: str | None,
    leads: str | None,
    gaps: str | None,
    output: Path | None,
) -> int:
    """Show what is in a data set: classes, lengths, leads, faults.

    DATA is demo (made-up records, the default; demo:200 makes as many), demo12 (made-up records of
    12 leads with several diagnoses), the name of a data set (cinc2017 is downloaded, ptbxl@FOLDER
    was before; `ecg-mlflow datasets` lists the names), a folder of recordings (WFDB, EDF, BDF,
    .npz, .h5, .mat of CPSC 2018, DICOM, SCP-ECG, ISHNE, XML), or a glob of these. The word summary
    before it may be left out.

    The labels are a CSV file of record,label, or with a header that may also name patient; or the
    word headers, for the diagnoses in #Dx lines of WFDB headers. By default they are
    REFERENCE.csv beside the records, or the headers where there is none.
    """
    from ecg_mlflow.files import write_output
    from ecg_mlflow.records import load_corpus
    from ecg_mlflow.records.catalogue import located
    from ecg_mlflow.reports.data_summary import (
        CorpusSummary,
        data_page,
        records_table,
        summary_text,
    )

    words = tuple(word for word in words if word)
    # A folder that is called summary is meant where the word stands alone.
    if words[:1] == (_SUMMARY,) and (len(words) > 1 or not Path(_SUMMARY).exists()):
        words = words[1:]
    if len(words) > 1:
        raise click.UsageError(f"name one data set; given are {' '.join(words)}")
    data = located(words[0], base_folders()) if words else "demo"
    summary = CorpusSummary(load_corpus(data, labels, leads=leads, gaps=gaps))
    say(summary_text(summary))
    if output:
        page, table = output / "summary.html", output / "records.csv"
        write_output(page, data_page(summary).encode())
        write_output(table, records_table(summary).encode())
        say(f"written:  {page}, {table}")
    return 0


@command("datasets", click.Argument(["name"], required=False))
def datasets_command(name: str | None) -> int:
    """List the data sets that have names, or describe one of them.

    `ecg-mlflow data NAME` shows what a data set holds. It is downloaded, unless it needs a
    permission or is on a server without checksums; NAME@FOLDER takes the copy in a folder. GB is
    the size of the signals as samples of 16 bits.
    """
    from ecg_mlflow.reports.data_sets import data_set_text, data_sets_table

    say(data_sets_table() if name is None else data_set_text(name))
    return 0


@command(
    "show",
    click.Argument(["record"], type=PLACE),
    CliOption("--data", "Data set that has RECORD.", RECORDINGS),
    labels_option(),
    CliOption("--from start_s", "Start of the picture, in s.", AMOUNT, default=0.0),
    CliOption("--seconds", "Length of the picture. Default: the rest of the record.", AMOUNT),
    CliOption(
        "--leads",
        "Only these leads, such as II,V1.",
        callback=lambda ctx, param, value: tuple(filter(None, re.split(r"[,\s]+", value or ""))),
    ),
    CliOption(
        "--layout",
        "clinical: three rows of four leads and a rhythm strip, the default where there are the 12 "
        "standard leads. rows: leads one below the other.",
        click.Choice(["clinical", "rows"]),
    ),
    output_option("PNG file. Default: RECORD.png in the current folder."),
)
def show_command(record: str, output: Path | None, **view: Any) -> int:
    """Draw a recording on millimetre paper, and say what it is.

    RECORD is the path of a header (.hea) or another recording, with or without its ending; with
    --data it is the record's name. What data and labels may be is in `ecg-mlflow data --help`.
    """
    from ecg_mlflow.reports.show import show_record

    say(show_record(record, out=output, **view))
    return 0
