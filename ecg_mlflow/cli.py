"""The command line, and the MLproject's entry points.

`cli_data` has what looks at data, `cli_models` what follows a study.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ecg_mlflow.cli_data import DATA, LABELS, add_data_commands
from ecg_mlflow.cli_models import add_model_commands
from ecg_mlflow.cli_values import (
    amount,
    callers_folder,
    count,
    flag_option,
    minutes,
    spellings,
    text,
    whole,
)
from ecg_mlflow.errors import EcgMlflowError

RUN_HELP = "train every configuration of a grid file as nested MLflow runs"
PLAN_HELP = "show what `run` would do, and how long it would take; train nothing"
REAP_HELP = "end the runs of studies whose driver has died; remove checkpoints that nobody needs"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return the exit status.

    0: all went well. 1: the command can't be carried out; the message says why. 2: wrong usage.
    3: it was carried out, but some runs failed, a model was not promoted, or some recordings
    could not be classified. 130: stopped by Ctrl-C or SIGTERM.
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
    except KeyboardInterrupt as error:
        print("ecg-mlflow: stopped", file=sys.stderr)
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)
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
    _add_search(run)
    _add_machine(run)
    _add_ledger(run)
    flag_option(run, "--dry-run", "show the plan and stop")
    run.set_defaults(command=_run, usage_error=run.error)
    plan = commands.add_parser("plan", help=PLAN_HELP, description=PLAN_HELP)
    _add_design(plan)
    _add_search(plan)
    _add_machine(plan)
    plan.set_defaults(command=_run, dry_run=True, usage_error=plan.error)
    add_data_commands(commands)
    reap = commands.add_parser("reap", help=REAP_HELP, description=REAP_HELP)
    reap.set_defaults(command=_reap)
    add_model_commands(commands)
    return parser


def _add_design(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "grid",
        type=text,
        nargs="?",
        help="a grid file, or the name of a shipped example; with --resume the study's by default",
    )
    parser.add_argument("--data", type=text, help=DATA)
    parser.add_argument("--labels", type=text, help=LABELS)
    parser.add_argument("--epochs", type=whole, metavar="N", help="in place of the grid file's")
    parser.add_argument("--reps", type=whole, metavar="N", help="repetitions, likewise")
    parser.add_argument(
        "--configs",
        type=text,
        metavar="WHICH",
        help="only these configurations: 0,3,5-8 or 'model=ResNet18 & layout=cna'",
    )
    parser.add_argument(
        "--limit", type=whole, metavar="N", help="use at most N records, evenly spread"
    )
    parser.add_argument(
        *spellings("--on-bad-record"),
        type=text,
        choices=["error", "skip"],
        help="refuse to start (the default), or leave bad records out and log their list",
    )


def _add_search(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--sampler",
        type=text,
        help="grid (every configuration, the default), random, tpe, or another of Optuna's",
    )
    parser.add_argument(
        "--trials", type=whole, metavar="N", help="how many configurations a sampler tries"
    )
    parser.add_argument(
        *spellings("--search-seed"),
        type=count,
        metavar="N",
        help="seed of the sampler; by default the grid file's seed, which is also the networks'",
    )
    parser.add_argument(
        "--pruner",
        type=text,
        help="give configurations up early: asha, hyperband, median or none (the default); with "
        "arguments as in asha:eta=4,min_epochs=2",
    )
    parser.add_argument(
        "--objective",
        type=text,
        metavar="METRIC",
        help="what configurations are chosen by: validation_f1, or test_f1 without validation "
        "records; several, with commas between them, give a Pareto front",
    )
    parser.add_argument(
        "--direction", type=text, help="maximize or minimize, one for each objective"
    )
    flag_option(
        parser,
        "--adaptive",
        "one repetition for every configuration, more for those still in contention",
        default=None,
    )
    parser.add_argument(
        "--finalists",
        type=whole,
        metavar="N",
        help="how many configurations a search scores on the test records, at its end (3)",
    )


def _add_machine(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=count,
        metavar="N",
        help="processes that train; by default one per core or GPU; 0 trains in this process",
    )
    parser.add_argument("--gpus", type=text, help="such as 0,1 or 0:2,1 (two workers on GPU 0)")
    parser.add_argument(
        "--threads",
        type=whole,
        metavar="N",
        help="threads of each worker; by default 1 on the CPU, an equal share beside a GPU",
    )
    parser.add_argument(
        "--executor",
        type=text,
        choices=["processes", "ray"],
        default="processes",
        help="processes on this machine (the default), or a Ray cluster",
    )
    parser.add_argument(
        *spellings("--ray-address"),
        type=text,
        help="of the cluster; by default RAY_ADDRESS, or a new one on this machine",
    )
    parser.add_argument(
        *spellings("--gpus-per-worker"),
        type=amount,
        default=0.0,
        metavar="N",
        help="with Ray: each worker's share, such as 1 or 0.5",
    )
    parser.add_argument(
        "--branches",
        type=whole,
        default=1,
        metavar="K",
        help="train up to K configurations together in one process, on one stream of batches",
    )
    parser.add_argument(
        "--experiment",
        type=text,
        default=os.environ.get("MLFLOW_EXPERIMENT_NAME"),
        help="MLflow experiment; by default that of MLFLOW_EXPERIMENT_NAME, or the study's name",
    )


def _add_ledger(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--resume",
        type=text,
        metavar="RUN_ID",
        help="go on with the study of this parent run: what is finished is not run again",
    )
    flag_option(parser, "--retry-failed", "with --resume: try runs again that failed")
    flag_option(
        parser,
        "--reuse",
        "take over finished runs of earlier studies that are the same (a sampler does anyway)",
        default=None,
    )
    parser.add_argument(
        *spellings("--checkpoint-minutes"),
        type=minutes,
        default=1.0,
        metavar="N",
        help="save each run at least so often (1); it is saved at each test too",
    )
    parser.add_argument(
        *spellings("--hang-minutes"),
        type=minutes,
        default=15.0,
        metavar="N",
        help="end and restart a worker that gives no sign of life for so long (15)",
    )


def _run(given: argparse.Namespace) -> int:
    if not given.grid and not getattr(given, "resume", None):
        given.usage_error("name a grid file")
    # A grid file may import Keras: this process must not take a GPU for that.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    visible = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # MLflow's own retries repeat what must not be done twice, and last for minutes in silence.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from ecg_mlflow.study.launch import run_request
    from ecg_mlflow.study.request import SEARCH, StudyRequest
    from ecg_mlflow.study.signals import end_with_parent

    request = StudyRequest(
        grid=given.grid or "",
        data=given.data,
        labels=given.labels,
        epochs=given.epochs,
        repetitions=given.reps,
        configs=given.configs,
        limit=given.limit,
        skip_bad_records=given.on_bad_record and given.on_bad_record == "skip",
        **{name: getattr(given, name) for name in SEARCH},
        workers=given.workers,
        gpus=given.gpus,
        threads=given.threads,
        visible_devices=visible,
        experiment=given.experiment,
        dry_run=given.dry_run,
        branches=given.branches,
        executor=given.executor or "processes",
        ray_address=given.ray_address,
        gpus_per_worker=given.gpus_per_worker,
        folders=(*callers_folder(), Path.cwd()),
        **_ledger_options(given),
    )
    if "MLFLOW_RUN_ID" in os.environ:
        end_with_parent()
    return run_request(request)


def _ledger_options(given: argparse.Namespace) -> dict[str, Any]:
    """Return what `_add_ledger` has read; `plan` has none of it."""
    if "resume" not in given:
        return {}
    options = ("resume", "retry_failed", "reuse", "checkpoint_minutes", "hang_minutes")
    found = {name: getattr(given, name) for name in options}
    if "MLFLOW_RUN_ID" in os.environ:
        found["how_to_resume"] = "the same command and -P resume={run_id}"
    return found


def _reap(given: argparse.Namespace) -> int:
    from ecg_mlflow.study.reaping import reap_all

    print(reap_all())
    return 0
