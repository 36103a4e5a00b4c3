"""The commands of a study: run, plan, reap."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from ecg_mlflow.cli.environment import PROJECT_RUN, base_folders
from ecg_mlflow.cli.parameters import (
    AMOUNT,
    COUNT,
    MINUTES,
    PLACE,
    POSITIVE,
    RECORDINGS,
    CliOption,
    command,
    labels_option,
    reading_options,
    section,
    trust_option,
)
from ecg_mlflow.terminal import say

if TYPE_CHECKING:
    from ecg_mlflow.study.request import StudyRequest

_GRID = click.Argument(["grid"], default="", type=PLACE)
_DATA = section(
    "Data",
    CliOption("--data", "demo by default; see `ecg-mlflow data -h`.", RECORDINGS),
    labels_option(),
    *reading_options(),
    CliOption("--limit", "Use at most N records, evenly spread.", POSITIVE),
    CliOption(
        "--on-bad-record skip_bad_records",
        "Refuse to start (the default), or leave bad records out and log their list.",
        click.Choice(["error", "skip"]),
        callback=lambda ctx, param, value: None if value is None else value == "skip",
    ),
)
_DESIGN = section(
    "Design, in place of the grid file's",
    CliOption("--epochs", "Epochs of each run.", POSITIVE),
    CliOption("--reps repetitions", "Repetitions of each configuration.", POSITIVE),
    CliOption("--configs", "Only these: 0,3,5-8 or 'model=ResNet18 & layout=cna'."),
)
_SEARCH = section(
    "Search",
    CliOption("--sampler", "grid (all, the default), random, tpe, or another of Optuna's."),
    CliOption("--trials", "Number of configurations that the sampler tries.", POSITIVE),
    CliOption("--search-seed", "Seed of the sampler. Default: the grid file's.", COUNT),
    CliOption(
        "--pruner",
        "Stop configurations early: asha, hyperband, median or none (the default); with arguments "
        "as in asha:eta=4,min_epochs=2.",
    ),
    CliOption(
        "--objective",
        "What selects configurations. Default: validation_f1, or test_f1 without validation "
        "records. Several, with commas between them, give a Pareto front.",
    ),
    CliOption("--direction", "maximize or minimize, one for each objective."),
    CliOption("--adaptive/--no-adaptive", "Repeat only those still in contention.", default=None),
    CliOption("--finalists", "Number of configurations tested at the end. Default: 3.", POSITIVE),
)
#: Where and how a study runs; the project backend takes them from a file.
MACHINES = section(
    "Machines",
    CliOption("--workers", "Processes. Default: one per core or GPU; 0 means this one.", COUNT),
    CliOption("--gpus", "Such as 0,1; or 0:2,1 for two workers on GPU 0."),
    CliOption("--threads", "Threads of a worker. Default: 1; with GPUs an equal share.", POSITIVE),
    CliOption("--branches", "Train N configurations per process. Default: 1.", POSITIVE),
    CliOption(
        "--executor",
        "Processes on this machine (the default), or a Ray cluster.",
        click.Choice(["processes", "ray"]),
    ),
    CliOption("--ray-address", "Default: RAY_ADDRESS, or a new cluster on this machine."),
    CliOption("--gpus-per-worker", "Share of each worker on Ray, such as 1 or 0.5.", AMOUNT),
    CliOption("--checkpoint-minutes", "Time between checkpoints. Default: 1.", MINUTES),
    CliOption("--hang-minutes", "Restart workers that are silent so long. Default: 15.", MINUTES),
)
_RESUME = section(
    "Resume",
    CliOption(
        "--resume",
        "Resume a study: the id of its parent run, the beginning of that id, or its name.",
        metavar="STUDY",
    ),
    trust_option(),
    CliOption("--retry-failed", "With --resume: try failed runs again.", is_flag=True),
    CliOption(
        "--reuse/--no-reuse",
        "Take over finished runs of earlier studies that are the same. A sampler does so by "
        "default.",
        default=None,
    ),
)
_EXPERIMENT = CliOption(
    "--experiment",
    "MLflow experiment. Default: MLFLOW_EXPERIMENT_NAME, or the study's name.",
    envvar="MLFLOW_EXPERIMENT_NAME",
)
_DRY_RUN = CliOption("--dry-run", "Show the plan and stop.", is_flag=True)
_PLANNED = (_GRID, *_DATA, *_DESIGN, *_SEARCH, *MACHINES)
_EXAMPLES = """
    ecg-mlflow run quickstart.py
    ecg-mlflow run resnet.py --data cinc2017 --gpus 0,1 --branches 4
    ecg-mlflow run grid.py --data records --configs 'layout=cna' --epochs 20
    ecg-mlflow run grid.py --sampler tpe --trials 40 --pruner asha
    ecg-mlflow run --resume RUN_ID --retry-failed
"""


@command("run", *_PLANNED, *_RESUME, _EXPERIMENT, _DRY_RUN, examples=_EXAMPLES)
def run_command(**given: Any) -> int:
    """Train every configuration of a grid file as nested MLflow runs.

    GRID is a grid file, or the name of a shipped example. With --resume it is the study's own by
    default, and so are the options for data, design and search.
    """
    return _start(given)


@command("plan", *_PLANNED, _EXPERIMENT, examples="ecg-mlflow plan resnet.py --configs 0-3")
def plan_command(**given: Any) -> int:
    """Show what `run` would train and how long it would take.

    GRID is a grid file, or the name of a shipped example. Nothing is trained.
    """
    return _start({**given, "dry_run": True})


@command("reap")
def reap_command() -> int:
    """End the runs of studies whose driver has died.

    Checkpoints that no run needs are removed too. The next study on this machine does the same.
    """
    from ecg_mlflow.study.resume import reap_all

    say(reap_all())
    return 0


def _start(given: dict[str, Any]) -> int:
    if not given["grid"] and not given.get("resume"):
        raise click.UsageError("Missing argument 'GRID': name a grid file.")
    # A grid file may import Keras: this process must not take a GPU for that.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    visible_devices = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    # MLflow's own retries repeat what must not be done twice, and last for minutes in silence.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    from ecg_mlflow.study.launch import run_request
    from ecg_mlflow.study.signals import end_with_parent

    request = study_request(given, visible_devices)
    if PROJECT_RUN in os.environ:
        end_with_parent()
    return run_request(request)


def study_request(given: dict[str, Any], visible_devices: str | None) -> StudyRequest:
    """Make the request of a study from the options of `run`, which are its fields.

    Parameters
    ----------
    given
        Values by name; None for those that were not given.
    visible_devices
        CUDA_VISIBLE_DEVICES as it was when the command was typed.
    """
    from ecg_mlflow.study.request import StudyRequest

    if PROJECT_RUN in os.environ:
        given = {**given, "how_to_resume": "the same command and -P resume={run_id}"}
    given = {name: value for name, value in given.items() if value is not None}
    return StudyRequest(**given, visible_devices=visible_devices, folders=base_folders())
