"""The commands that come after a study: compare, errors, promote, rollback, predict."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.cli_values import (
    amount,
    callers_folder,
    count,
    flag_option,
    probability,
    spellings,
    text,
    whole,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

COMPARE_HELP = "compare the configurations of studies, with intervals and corrected tests"
ERRORS_HELP = "show a model's worst errors as ECG strips, and its figures by groups of records"
PROMOTE_HELP = "register a study's winner, and make it the champion if it is better beyond chance"
ROLLBACK_HELP = "give an alias back to the version that had it before"
PREDICT_HELP = "classify recordings with a registered model, into a CSV"

_STUDY = "a study: its parent run's id, the beginning of it, or its name"
_METRIC = (
    "f1 (f1_macro where records are of several classes), or another metric of record-level "
    "predictions, such as roc_auc"
)


def add_model_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the commands to a parser's subcommands."""
    _add_compare(commands)
    _add_errors(commands)
    _add_promote(commands)
    _add_rollback(commands)
    _add_predict(commands)


def _add_compare(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    compare = commands.add_parser("compare", help=COMPARE_HELP, description=COMPARE_HELP)
    compare.add_argument("studies", type=text, nargs="+", metavar="STUDY", help=_STUDY)
    _add_statistics(compare)
    compare.add_argument(
        "--output", type=Path, metavar="FOLDER", help="write the report into a folder too"
    )
    compare.set_defaults(command=_compare)


def _add_errors(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    errors = commands.add_parser("errors", help=ERRORS_HELP, description=ERRORS_HELP)
    errors.add_argument("study", type=text, metavar="STUDY", help=_STUDY)
    errors.add_argument("--run", type=text, help="a child run; by default the study's winner")
    errors.add_argument("--worst", type=whole, default=12, metavar="N", help="strips drawn (12)")
    errors.add_argument(
        "--groups",
        type=text,
        metavar="FILE",
        help="CSV with the column record and others, such as age, sex or site; by default the "
        "study's label file",
    )
    _add_rule(errors)
    _add_statistics(errors)
    _add_place(errors)
    errors.add_argument(
        "--output", type=Path, metavar="FOLDER", help="write the report into a folder too"
    )
    errors.set_defaults(command=_errors)


def _add_promote(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    promote = commands.add_parser("promote", help=PROMOTE_HELP, description=PROMOTE_HELP)
    promote.add_argument("study", type=text, metavar="STUDY", help=_STUDY)
    promote.add_argument("--name", type=text, required=True, help="of the registered model")
    promote.add_argument("--alias", type=text, default="champion", help="what is fought for")
    promote.add_argument("--run", type=text, help="a child run; by default the study's winner")
    _add_rule(promote)
    promote.add_argument(
        "--threshold",
        type=text,
        default="f1",
        metavar="RULE",
        help="chosen on the validation records: f1 (the default), youden, sensitivity=0.95, "
        "specificity=0.95, or none for the most probable class",
    )
    _add_statistics(promote)
    for name, what in (
        ("--min-sensitivity", "that is sure at the level"),
        ("--min-specificity", "likewise"),
        ("--max-calibration-error", "expected calibration error"),
        ("--max-size-mb", "of the network's file"),
        ("--max-ms-per-record", "on this machine"),
    ):
        promote.add_argument(*spellings(name), type=amount, metavar="X", help=what)
    _add_place(promote)
    promote.set_defaults(command=_promote)


def _add_rollback(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    rollback = commands.add_parser("rollback", help=ROLLBACK_HELP, description=ROLLBACK_HELP)
    rollback.add_argument("--name", type=text, required=True, help="of the registered model")
    rollback.add_argument("--alias", type=text, default="champion", help="champion by default")
    rollback.set_defaults(command=_rollback)


def _add_predict(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    predict = commands.add_parser("predict", help=PREDICT_HELP, description=PREDICT_HELP)
    predict.add_argument("model", type=text, help="such as models:/af-resnet@champion")
    predict.add_argument("records", nargs="+", help="headers, folders, or globs in quotes")
    predict.add_argument(
        "--output", "-o", type=Path, metavar="FILE", help="CSV to write; by default to the terminal"
    )
    flag_option(predict, "--windows", "add the probabilities of every window")
    predict.set_defaults(command=_predict)


def _add_rule(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--rule",
        type=text,
        choices=["lower_bound", "mean", "smallest"],
        default="lower_bound",
        help="who wins: the highest lower bound of the interval (the default), the highest mean, "
        "or the smallest of those that can't be told from the best",
    )


def _add_statistics(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--metric", type=text, default="", help=_METRIC)
    parser.add_argument(
        "--level", type=probability, default=0.95, help="confidence of intervals (0.95)"
    )
    parser.add_argument(
        "--resamples", type=whole, default=2000, metavar="N", help="of the bootstrap (2000)"
    )
    parser.add_argument("--seed", type=count, default=0, metavar="N", help="of the bootstrap (0)")


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=text, help="where the study's recordings are now")
    parser.add_argument("--labels", type=text, help="and their labels")


def _folders() -> tuple[Path, ...]:
    return (*callers_folder(), Path.cwd())


def _quiet() -> None:
    """Keep TensorFlow off the GPUs, where studies may be training, and silent.

    While it is loaded it says things that no setting can stop, straight to the terminal.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    # Not that of all of MLflow, which sets its own when it is imported.
    logging.getLogger("mlflow.pyfunc").setLevel(logging.WARNING)
    sys.stderr.flush()
    terminal = os.dup(2)
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        import_module("keras").backend.backend()
    finally:
        os.dup2(terminal, 2)
        os.close(terminal)


def _compare(given: argparse.Namespace) -> int:
    from ecg_mlflow.reports.compare import compare_studies
    from ecg_mlflow.reports.options import Question
    from ecg_mlflow.tracking.client import connect

    client = connect(base_dir=_folders()[0])
    print(compare_studies(client, given.studies, Question.of(given), given.output))
    return 0


def _errors(given: argparse.Namespace) -> int:
    _quiet()
    from ecg_mlflow.reports.error_analysis import analyse_errors
    from ecg_mlflow.reports.options import Question
    from ecg_mlflow.reports.study_corpus import Place
    from ecg_mlflow.tracking.client import connect

    client = connect(base_dir=_folders()[0])
    print(
        analyse_errors(
            client,
            given.study,
            Question.of(given),
            Place(given.data, given.labels, _folders()),
            run_id=given.run,
            n_worst=given.worst,
            groups=given.groups,
            output=given.output,
        )
    )
    return 0


def _promote(given: argparse.Namespace) -> int:
    _quiet()
    from ecg_mlflow.serving.promote import promote
    from ecg_mlflow.serving.promotion_request import PromotionRequest
    from ecg_mlflow.tracking.client import connect

    folders = _folders()
    client = connect(base_dir=folders[0])
    with _project_run(client, f"promotion of {given.study}"):
        return promote(client, PromotionRequest.of(given, folders))


def _rollback(given: argparse.Namespace) -> int:
    from ecg_mlflow.tracking.client import connect
    from ecg_mlflow.tracking.registry import rollback

    client = connect(base_dir=_folders()[0])
    with _project_run(client, f"rollback of {given.name}"):
        done = rollback(client, given.name, given.alias)
    print(f"{given.alias} of {given.name} is {done.restored} again, and no longer {done.left}")
    return 0


def _predict(given: argparse.Namespace) -> int:
    _quiet()
    from ecg_mlflow.serving.predict import predict_files
    from ecg_mlflow.tracking.client import connect

    client = connect(base_dir=_folders()[0])
    return predict_files(
        given.model, given.records, given.output, with_windows=given.windows, client=client
    )


@contextmanager
def _project_run(client: MlflowClient, name: str) -> Iterator[None]:
    """Name and end the run that ``mlflow run`` has created for a command, if it has."""
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    if run_id is None:
        yield
        return
    from ecg_mlflow.tracking.study_run import Study

    with Study.open(client, "", name, run_id=run_id):
        yield
