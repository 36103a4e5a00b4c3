"""From a user's request to a study: load, plan, show, run."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from tqdm import tqdm

from ecg_mlflow.driver import REQUEST_TAG, StudyOptions, StudyResult, run_study
from ecg_mlflow.errors import DeviceError, EcgMlflowError, ResumeError, TrackingError
from ecg_mlflow.executors import Slot, count_cores, find_gpus, plan_slots
from ecg_mlflow.grid_file import find_grid_file, load_grid_file
from ecg_mlflow.handover import RayShare
from ecg_mlflow.interrupts import sigterm_as_interrupt
from ecg_mlflow.networks import probe_networks
from ecg_mlflow.plan import StudyPlan
from ecg_mlflow.planning import Overrides, plan_study
from ecg_mlflow.process_mark import ProcessMark
from ecg_mlflow.records import Corpus, load_corpus
from ecg_mlflow.research import Research
from ecg_mlflow.summary import plan_table, result_table
from ecg_mlflow.tracking import EndStatus, Study, connect
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.ledger import PLAN_TAG, living_process, reap


@dataclass(frozen=True)
class StudyRequest:
    """What a user asks for; None where they left the choice to the grid file or the defaults.

    Attributes
    ----------
    visible_devices
        CUDA_VISIBLE_DEVICES as it was when the command was typed.
    folders
        Where relative paths start, the first that fits.
    how_to_resume
        The command that goes on with the study, with ``{run_id}`` in it.

    The others are the options of ``ecg-mlflow run``.
    """

    grid: str
    data: str | None = None
    labels: str | None = None
    epochs: int | None = None
    repetitions: int | None = None
    configs: str | None = None
    limit: int | None = None
    skip_bad_records: bool | None = None
    workers: int | None = None
    gpus: str | None = None
    threads: int | None = None
    visible_devices: str | None = None
    experiment: str | None = None
    dry_run: bool = False
    resume: str | None = None
    retry_failed: bool = False
    reuse: bool = False
    branches: int = 1
    checkpoint_minutes: float = 1.0
    hang_minutes: float = 15.0
    executor: str = "processes"
    ray_address: str | None = None
    gpus_per_worker: float = 0.0
    how_to_resume: str = "ecg-mlflow run --resume {run_id}"
    folders: tuple[Path, ...] = field(default_factory=lambda: (Path.cwd(),))


#: What a resumed study keeps of the request that it was started with, where nothing else is said.
DESIGN = ("grid", "data", "labels", "epochs", "repetitions", "configs", "limit", "skip_bad_records")


def run_request(request: StudyRequest) -> int:
    """Carry out a request; return the exit status, see `ecg_mlflow.cli.main`.

    Raises
    ------
    EcgMlflowError
        If it can't be carried out. Whatever is wrong is found before the first run starts; the
        run that ``mlflow run`` has created ends as FAILED then, with the reason.
    """
    project_run = os.environ.pop("MLFLOW_RUN_ID", None)
    with_store = project_run or request.resume or not request.dry_run
    # First, so that a store that can't be reached is known before anything is read or computed.
    client = connect(base_dir=request.folders[0]) if with_store else None
    try:
        with sigterm_as_interrupt():
            run_id = project_run
            if client is not None:
                run_id, request = _resumed(client, request, project_run)
                _reap(client, run_id)
            where = _where(request)
            grid = load_grid_file(find_grid_file(request.grid, request.folders))
            request = replace(request, grid=str(grid.path))
            plan = probe_networks(_plan(request, grid.research), grid.modules)
    except BaseException as error:
        # A study that could not be resumed, since another process runs it, is not ours to end.
        is_anothers = isinstance(error, ResumeError) and not request.resume
        if client and project_run and not is_anothers:
            _end_project_run(client, project_run, error)
        raise
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if plan.bad:
        print(f"note: {len(plan.bad)} bad records are left out", file=sys.stderr)
    if client is None or request.dry_run:
        n_workers = where.workers if isinstance(where, RayShare) else len(where)
        print(plan_table(plan, max(1, n_workers)))
        return 0
    options = StudyOptions(
        request.experiment or grid.research.name or "ecg-mlflow",
        run_id,
        where,
        grid.path,
        grid.modules,
        request=_design(request),
        how_to_resume=request.how_to_resume,
        retry_failed=request.retry_failed,
        reuse=request.reuse,
        branches=request.branches,
        save_every_s=60 * request.checkpoint_minutes,
        hang_s=60 * request.hang_minutes,
    )
    with _stand_in(client, project_run, run_id):
        return _report(run_study(plan, client, options), client.tracking_uri)


def _resumed(
    client: MlflowClient, request: StudyRequest, project_run: str | None
) -> tuple[str | None, StudyRequest]:
    """Find the study to go on with, if any, and complete the request by what it began with.

    It is the one that was asked for, or the one that ``mlflow run --run-id`` was given.

    Returns
    -------
    The parent run to work in, None for a new one; and the request.
    """
    run_id = request.resume or project_run
    if run_id is None:
        return None, request
    with store_errors(f"find the study {run_id}", "Is MLFLOW_TRACKING_URI its store?"):
        tags = client.get_run(run_id).data.tags
    if PLAN_TAG not in tags:
        if request.resume:
            raise ResumeError(
                f"run {run_id} is no study of ecg_mlflow; resume takes the id of a parent run, "
                "which the study prints when it starts and the MLflow UI shows"
            )
        return run_id, request
    process = living_process(tags)
    if process is not None and process != ProcessMark.own():
        raise ResumeError(
            f"study {run_id} is being run by {process}; end that first. If that process is on "
            "another machine and has died, this is known three minutes after its last sign of life"
        )
    before = json.loads(tags.get(REQUEST_TAG, "{}"))
    missing = {
        name: value
        for name, value in before.items()
        if name in DESIGN and getattr(request, name) in (None, "")
    }
    return run_id, replace(request, **missing)


def _design(request: StudyRequest) -> dict[str, object]:
    """Return what a resumed study needs to know, with paths that hold from anywhere."""
    design = {name: getattr(request, name) for name in DESIGN}
    for name in ("data", "labels"):
        if design[name]:
            design[name] = _located(str(design[name]), request.folders)
    return {name: value for name, value in design.items() if value is not None}


def _reap(client: MlflowClient, run_id: str | None) -> None:
    """End studies whose drivers have died, and tell of them."""
    for parent, name in reap(client, except_for=run_id).items():
        print(
            f"note: the driver of study {name} had died; go on with: "
            f"ecg-mlflow run --resume {parent}",
            file=sys.stderr,
        )


@contextmanager
def _stand_in(client: MlflowClient, project_run: str | None, run_id: str | None) -> Iterator[None]:
    """Let the run that ``mlflow run`` has created for a resumed study say which one that is."""
    if project_run is None or run_id is None or project_run == run_id:
        yield
        return
    experiment = client.get_run(run_id).info.experiment_id
    note = f"Went on with [the study {run_id}](#/experiments/{experiment}/runs/{run_id})."
    tags = {"ecg_mlflow.resumes": run_id, MLFLOW_RUN_NOTE: note}
    with Study.open(client, "", f"resume of {run_id}", run_id=project_run, tags=tags):
        yield


def _end_project_run(client: MlflowClient, run_id: str, error: BaseException) -> None:
    """End the run that ``mlflow run`` has created, with what kept the study from starting."""
    status = EndStatus.FAILED if isinstance(error, Exception) else EndStatus.KILLED
    reason = str(error) if isinstance(error, EcgMlflowError) else f"{type(error).__name__}: {error}"
    try:
        Study.open(client, "", "study", run_id=run_id).close(status, reason)
    except TrackingError as closing:
        error.add_note(str(closing))


def _plan(request: StudyRequest, research: Research) -> StudyPlan:
    data = _located(request.data or "demo", request.folders)
    overrides = Overrides(
        epochs=request.epochs,
        repetitions=request.repetitions,
        configs=request.configs,
        limit=request.limit,
        skip_bad_records=bool(request.skip_bad_records),
    )
    if data == "demo":
        data = f"demo:{research.demo.records}"
    if data.startswith("demo:"):
        overrides = _within_demo_budget(research, overrides)
    corpus = _load_corpus(data, request.labels and _located(request.labels, request.folders))
    return plan_study(research, corpus, overrides)


def _within_demo_budget(research: Research, overrides: Overrides) -> Overrides:
    """Fill in the grid file's smaller numbers where the user gave none, and say so in one line."""
    budget = research.demo
    names = {"epochs": "epochs", "repetitions": "reps", "test_every": "test_every"}
    smaller = {
        name: value
        for name in names
        if getattr(overrides, name) is None
        and (value := getattr(budget, name)) not in (None, getattr(research, name))
    }
    if smaller:
        changed = ", ".join(
            f"{names[name]}={value} instead of {getattr(research, name)!r}"
            for name, value in smaller.items()
        )
        print(
            f"note: on the demo corpus of made-up records {research.name} runs with {changed}; "
            "data=FOLDER runs the whole study",
            file=sys.stderr,
        )
    return replace(overrides, **smaller)


def _located(text: str, folders: Sequence[Path]) -> str:
    """Make a relative path, or glob, start where it leads to something; keep other words."""
    if text in ("demo", "cinc2017") or text.startswith("demo:") or Path(text).is_absolute():
        return text
    for folder in folders:
        if any(folder.glob(text)) if set(text) & set("*?[") else (folder / text).exists():
            return str(folder / text)
    return text


def _load_corpus(data: str, labels: str | None) -> Corpus:
    with tqdm(desc=f"reading {data}", leave=False, delay=1.0, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return load_corpus(data, labels, on_progress=show)


def _report(result: StudyResult, tracking_uri: str) -> int:
    """Say how a study ended and where to look; return the exit status."""
    print(result_table(result.leaderboard))
    print(
        f"{result.finished} runs finished, {result.failed} failed; parent run {result.run_id}\n"
        f"Look at them with: mlflow ui --backend-store-uri {tracking_uri}"
    )
    return 3 if result.failed else 0


def _where(request: StudyRequest) -> list[Slot] | RayShare:
    """Say where runs train.

    Raises
    ------
    DeviceError
        If what was asked for isn't there, or doesn't go together.
    """
    if request.executor != "ray":
        return _slots(request)
    if not request.workers:
        raise DeviceError(
            "executor=ray needs workers=N, the number of runs that train at once; with "
            "gpus_per_worker each of them has GPUs, or a part of one"
        )
    if request.gpus:
        raise DeviceError(
            f"gpus={request.gpus!r} names GPUs of this machine; Ray shares out those of its "
            "cluster: say gpus_per_worker=1, or 0.5 for two workers on each"
        )
    cpus = float(request.threads or 1)
    return RayShare(
        request.workers,
        request.ray_address,
        cpus,
        request.gpus_per_worker,
        request.visible_devices,
    )


def _slots(request: StudyRequest) -> list[Slot]:
    """Plan where runs train; one thread each on a CPU, whatever the number of workers.

    One worker per core is what small nets are fastest with, and the same number of threads in
    every study is what makes its results independent of the number of workers.
    """
    if request.workers == 0 and request.gpus:
        raise DeviceError(
            f"workers=0 trains in this process, which never holds a GPU, and gpus={request.gpus!r} "
            "asks for one: leave workers out, which makes one worker per GPU"
        )
    threads = request.threads or (None if request.gpus else 1)
    if request.workers == 0:
        (slot,) = plan_slots(1, None, count_cores(), threads=threads)
        os.environ.update(slot.env)  # read by TensorFlow and numba when they are imported
        return []
    environ = dict(os.environ)
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    if request.visible_devices is not None:
        environ["CUDA_VISIBLE_DEVICES"] = request.visible_devices
    visible = find_gpus(environ) if request.gpus else []
    return plan_slots(request.workers, request.gpus, count_cores(), visible, threads)
