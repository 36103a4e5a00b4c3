"""From a user's request to a study: load, plan, show, run."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlflow import MlflowClient
from tqdm import tqdm

from ecg_mlflow.driver import StudyOptions, StudyResult, run_study
from ecg_mlflow.errors import DeviceError, EcgMlflowError, TrackingError
from ecg_mlflow.executors import Slot, count_cores, find_gpus, plan_slots
from ecg_mlflow.grid_file import find_grid_file, load_grid_file
from ecg_mlflow.interrupts import sigterm_as_interrupt
from ecg_mlflow.networks import probe_networks
from ecg_mlflow.plan import StudyPlan
from ecg_mlflow.planning import Overrides, plan_study
from ecg_mlflow.records import Corpus, load_corpus
from ecg_mlflow.research import Research
from ecg_mlflow.summary import plan_table, result_table
from ecg_mlflow.tracking import EndStatus, Study, connect


@dataclass(frozen=True)
class StudyRequest:
    """What a user asks for; None where they left the choice to the grid file or the defaults.

    Attributes
    ----------
    visible_devices
        CUDA_VISIBLE_DEVICES as it was when the command was typed.
    folders
        Where relative paths start, the first that fits.

    The others are the options of ``ecg-mlflow run``.
    """

    grid: str
    data: str | None = None
    labels: str | None = None
    epochs: int | None = None
    repetitions: int | None = None
    configs: str | None = None
    limit: int | None = None
    skip_bad_records: bool = False
    workers: int | None = None
    gpus: str | None = None
    threads: int | None = None
    visible_devices: str | None = None
    experiment: str | None = None
    dry_run: bool = False
    folders: tuple[Path, ...] = field(default_factory=lambda: (Path.cwd(),))


def run_request(request: StudyRequest) -> int:
    """Carry out a request; return the exit status, see `ecg_mlflow.cli.main`.

    Raises
    ------
    EcgMlflowError
        If it can't be carried out. Whatever is wrong is found before the first run starts; the
        run that ``mlflow run`` has created ends as FAILED then, with the reason.
    """
    run_id = os.environ.pop("MLFLOW_RUN_ID", None)
    # First, so that a store that can't be reached is known before anything is read or computed.
    client = connect(base_dir=request.folders[0]) if run_id or not request.dry_run else None
    try:
        with sigterm_as_interrupt():
            slots = _slots(request)
            grid = load_grid_file(find_grid_file(request.grid, request.folders))
            plan = probe_networks(_plan(request, grid.research), grid.modules)
    except BaseException as error:
        if client and run_id:
            _end_project_run(client, run_id, error)
        raise
    for note in plan.notes:
        print(f"note: {note}", file=sys.stderr)
    if plan.bad:
        print(f"note: {len(plan.bad)} bad records are left out", file=sys.stderr)
    if client is None or request.dry_run:
        print(plan_table(plan, max(1, len(slots))))
        return 0
    experiment = request.experiment or grid.research.name or "ecg-mlflow"
    options = StudyOptions(experiment, run_id, slots, grid.path, grid.modules)
    return _report(run_study(plan, client, options), client.tracking_uri)


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
        skip_bad_records=request.skip_bad_records,
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
