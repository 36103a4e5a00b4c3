"""The command line: ``ecg-mlflow run | plan | data``, and the entry points of the MLproject."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

from ecg_mlflow.errors import EcgMlflowError

RUN_HELP = "train every configuration of a grid file as nested MLflow runs"
PLAN_HELP = "show what `run` would do, and how long it would take; train nothing"
DATA_HELP = "show what is in a data set: classes, lengths, leads, bad records, copies"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0: all went well. 1: the command can't be carried out; the message says why. 2: wrong usage.
    3: the study ended, but some of its runs failed. 130: stopped by Ctrl-C or SIGTERM.
    """
    given = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except EcgMlflowError as error:
        print(f"ecg-mlflow: error: {error}", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("ecg-mlflow: stopped; what was finished is kept", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ecg-mlflow",
        description="Experimental designs over ECG classifiers, run and compared on MLflow.",
        epilog="First steps: `ecg-mlflow run quickstart.py`, then `mlflow ui`.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help=RUN_HELP, description=RUN_HELP)
    _add_design(run)
    _add_machine(run)
    run.add_argument(
        "--dry-run",
        "--dry_run",  # as in `mlflow run -P dry_run=true`
        type=_flag,
        default=False,
        nargs="?",
        const=True,
        metavar="true|false",
        help="show the plan and stop",
    )
    run.set_defaults(command=_run)
    plan = commands.add_parser("plan", help=PLAN_HELP, description=PLAN_HELP)
    _add_design(plan)
    _add_machine(plan)
    plan.set_defaults(command=_run, dry_run=True)
    data = commands.add_parser("data", help=DATA_HELP, description=DATA_HELP)
    data.add_argument("data", type=_text, nargs="?", default="demo", help=_DATA)
    data.add_argument("--labels", type=_text, help=_LABELS)
    data.set_defaults(command=_data)
    return parser


_DATA = (
    "demo (made-up records, the default), cinc2017 (downloads the Challenge's training set), a "
    "folder of WFDB records, or a glob of their headers"
)
_LABELS = "CSV file of record,label; REFERENCE.csv beside the records by default"


def _add_design(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("grid", type=_text, help="a grid file, or the name of a shipped example")
    parser.add_argument("--data", type=_text, help=_DATA)
    parser.add_argument("--labels", type=_text, help=_LABELS)
    parser.add_argument("--epochs", type=_whole, metavar="N", help="in place of the grid file's")
    parser.add_argument("--reps", type=_whole, metavar="N", help="repetitions, likewise")
    parser.add_argument(
        "--configs",
        type=_text,
        metavar="WHICH",
        help="only these configurations: 0,3,5-8 or 'model=ResNet18 & layout=cna'",
    )
    parser.add_argument(
        "--limit", type=_whole, metavar="N", help="use at most N records, evenly spread"
    )
    parser.add_argument(
        "--on-bad-record",
        "--on_bad_record",  # as in `mlflow run -P on_bad_record=skip`
        type=_text,
        choices=["error", "skip"],
        default="error",
        help="refuse to start (the default), or leave bad records out and log their list",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=_count,
        metavar="N",
        help="processes that train; by default one per core or GPU; 0 trains in this process",
    )
    parser.add_argument("--gpus", type=_text, help="such as 0,1 or 0:2,1 (two workers on GPU 0)")
    parser.add_argument(
        "--threads",
        type=_whole,
        metavar="N",
        help="threads of each worker; by default 1 on the CPU, an equal share beside a GPU",
    )
    parser.add_argument(
        "--experiment", type=_text, help="MLflow experiment; by default the study's name"
    )


def _text(text: str) -> str | None:
    """Read a text; ``mlflow run`` hands over an empty one for what was not given."""
    return text.strip() or None


def _count(text: str) -> int | None:
    if not text.strip():
        return None
    number = int(text)
    if number < 0:
        raise ValueError
    return number


def _whole(text: str) -> int | None:
    number = _count(text)
    if number == 0:
        raise ValueError
    return number


_count.__name__ = "whole number of at least 0"
_whole.__name__ = "whole number of at least 1"


def _flag(text: str) -> bool:
    if text.lower() in ("", "false", "no", "0"):
        return False
    if text.lower() in ("true", "yes", "1"):
        return True
    raise ValueError


_flag.__name__ = "true or false"


def _run(given: argparse.Namespace) -> int:
    # A grid file may import Keras: this process must not take a GPU for that.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    visible = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    from ecg_mlflow.interrupts import end_with_parent
    from ecg_mlflow.study import StudyRequest, run_request

    request = StudyRequest(
        grid=given.grid or "",
        data=given.data,
        labels=given.labels,
        epochs=given.epochs,
        repetitions=given.reps,
        configs=given.configs,
        limit=given.limit,
        skip_bad_records=given.on_bad_record == "skip",
        workers=given.workers,
        gpus=given.gpus,
        threads=given.threads,
        visible_devices=visible,
        experiment=given.experiment,
        dry_run=given.dry_run,
        folders=(*_callers_folder(), Path.cwd()),
    )
    if "MLFLOW_RUN_ID" in os.environ:
        end_with_parent()
    return run_request(request)


def _callers_folder() -> list[Path]:
    """Return where ``mlflow run`` was typed: paths that a user gives mean that folder.

    MLflow runs an entry point in the project's folder and does not say from where it was called;
    its own working directory does. The shell that it starts may stand in between.
    """
    if "MLFLOW_RUN_ID" not in os.environ:
        return []
    caller = os.getppid()
    with suppress(OSError, ValueError, IndexError):
        while Path(f"/proc/{caller}/comm").read_text().strip() in ("bash", "sh"):
            # "pid (name) state parent ...", and a shell's name has no spaces
            caller = int(Path(f"/proc/{caller}/stat").read_text().split()[3])
        return [Path(f"/proc/{caller}/cwd").resolve(strict=True)]
    return []


def _data(given: argparse.Namespace) -> int:
    from ecg_mlflow.records import load_corpus
    from ecg_mlflow.summary import summarise

    print(summarise(load_corpus(given.data or "demo", given.labels)))
    return 0
