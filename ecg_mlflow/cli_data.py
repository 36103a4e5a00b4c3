"""The commands that look at data: data, show."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.cli_values import amount, callers_folder, text

if TYPE_CHECKING:
    from ecg_mlflow.reports.data_summary import CorpusSummary

DATA_HELP = "show what is in a data set: classes, lengths, leads, bad records, copies"
SHOW_HELP = "draw a recording on millimetre paper into a PNG file, and say what it is"
DATA = (
    "demo (made-up records, the default), demo12 (made-up records of 12 leads with several "
    "diagnoses), cinc2017 (downloads the Challenge's training set), a folder of WFDB records or "
    "EDF files, or a glob of these"
)
LABELS = (
    "CSV file of record,label, or with a header that may also name patient; or headers, for the "
    "diagnoses of #Dx lines in WFDB headers. By default REFERENCE.csv beside the records, or the "
    "headers where there is none"
)
SUMMARY = "summary"


def add_data_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser's subcommands."""
    data = commands.add_parser("data", help=DATA_HELP, description=DATA_HELP)
    data.add_argument(
        "data",
        type=text,
        nargs="*",
        metavar="[summary] DATA",
        help=f"{DATA}. The word summary before it may be left out",
    )
    data.add_argument("--labels", type=text, help=LABELS)
    data.add_argument(
        "--html", type=Path, metavar="FILE", help="write a page with pictures of each class too"
    )
    data.add_argument(
        "--out",
        type=Path,
        metavar="FOLDER",
        help="write that page as summary.html, and a table of all records as records.csv",
    )
    data.set_defaults(command=_data, usage_error=data.error)
    show = commands.add_parser("show", help=SHOW_HELP, description=SHOW_HELP)
    show.add_argument(
        "record",
        type=text,
        help="path of its header (.hea, which may be left out) or EDF file; or its name, with "
        "--data",
    )
    show.add_argument("--data", type=text, help=DATA)
    show.add_argument("--labels", type=text, help=LABELS)
    show.add_argument(
        "--out", type=Path, metavar="FILE", help="by default RECORD.png in the current folder"
    )
    show.add_argument(
        "--from", dest="start", type=amount, default=0.0, metavar="S", help="seconds left out (0)"
    )
    show.add_argument(
        "--seconds", type=amount, metavar="S", help="how much is drawn; by default what has room"
    )
    show.add_argument("--leads", type=text, help="only these, such as II,V1")
    show.add_argument(
        "--layout",
        type=text,
        choices=["clinical", "rows"],
        help="clinical: three rows of four leads and a rhythm strip, the default where there are "
        "the 12 standard leads; rows: leads one under the other",
    )
    show.set_defaults(command=_show, usage_error=show.error)


def _data(given: argparse.Namespace) -> int:
    from ecg_mlflow.records import load_corpus
    from ecg_mlflow.records.locating import located
    from ecg_mlflow.reports.data_summary import CorpusSummary, summary_text

    folders = (*callers_folder(), Path.cwd())
    words = [word for word in given.data if word]
    # A folder that is called summary is meant where the word stands alone.
    if words[:1] == [SUMMARY] and (len(words) > 1 or not Path(SUMMARY).exists()):
        words = words[1:]
    if len(words) > 1:
        given.usage_error(f"name one data set; given are {' '.join(words)}")
    data = located(words[0] if words else "demo", folders)
    labels = given.labels and located(given.labels, folders)
    summary = CorpusSummary.of(load_corpus(data, labels))
    print(summary_text(summary))
    if given.html is not None or given.out is not None:
        _write_pages(summary, given.html, given.out)
    return 0


def _show(given: argparse.Namespace) -> int:
    from ecg_mlflow.records.locating import located
    from ecg_mlflow.reports.record import View, show_record

    if given.record is None:
        given.usage_error("name a recording")
    folders = (*callers_folder(), Path.cwd())
    leads = tuple(lead.strip() for lead in (given.leads or "").split(",") if lead.strip())
    view = View(given.start, given.seconds, leads, given.layout)
    told = show_record(
        given.record,
        data=given.data and located(given.data, folders),
        labels=given.labels and located(given.labels, folders),
        view=view,
        out=given.out,
    )
    print(told)
    return 0


def _write_pages(summary: CorpusSummary, html: Path | None, folder: Path | None) -> None:
    from ecg_mlflow.files import write_output
    from ecg_mlflow.reports.data_page import data_page, records_table

    page = data_page(summary).encode()
    files = {} if html is None else {html: page}
    if folder is not None:
        files[folder / "summary.html"] = page
        files[folder / "records.csv"] = records_table(summary).encode()
    for path, content in files.items():
        write_output(path, content)
    print(f"written:  {', '.join(map(str, files))}")
