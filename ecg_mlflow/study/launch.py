"""From a user's request to a study: load, plan, show, run."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace

from mlflow import MlflowClient
from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE
from tqdm import tqdm

from ecg_mlflow.errors import DeviceError, EcgMlflowError, ResumeError, TrackingError
from ecg_mlflow.executors.devices import RayShare, Slot, count_cores, find_gpus, plan_slots
from ecg_mlflow.files import cache_root, check_writable, checkpoint_root
from ecg_mlflow.records import Corpus, load_corpus
from ecg_mlflow.records.catalogue import DEMO_RECORDS, is_demo
from ecg_mlflow.study.changed_code import check_grid_file
from ecg_mlflow.study.descriptions import plan_table
from ecg_mlflow.study.driver import StudyOptions, run_study
from ecg_mlflow.study.grid_file import find_grid_file, load_grid_file
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.planning import plan_study, probe_networks
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.research import Research
from ecg_mlflow.study.resume import reap_dead_studies, resumed
from ecg_mlflow.study.signals import sigterm_as_interrupt
from ecg_mlflow.terminal import say
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.study_run import Study
from ecg_mlflow.tracking.trusted_code import Consent, trust


def run_request(request: StudyRequest) -> int:
    """Carry out a request; return the exit status, see `ecg_mlflow.cli.main`.

    Raises
    ------
    EcgMlflowError
        If it can't be carried out. Whatever is wrong is found before the first run starts; the
        run that ``mlflow run`` has created ends as FAILED then, with the reason.
    """
    project_run = os.environ.pop("MLFLOW_RUN_ID", None)
    with_store = project_run or request.resume is not None or not request.dry_run
    for folder in (cache_root(), checkpoint_root()):
        check_writable(folder)
    # First, so that a store that can't be reached is known before anything is read or computed.
    client = connect(base_dir=request.folders[0]) if with_store else None
    try:
        with sigterm_as_interrupt():
            run_id, named = project_run, bool(request.grid)
            if client is not None:
                run_id, request = resumed(client, request, project_run)
                for line in reap_dead_studies(client, run_id):
                    say(f"note: {line}", file=sys.stderr)
            where = _where(request)
            path = find_grid_file(request.grid, request.folders)
            if client and run_id:
                check_grid_file(client, run_id, path, Consent(request.trust_code), named=named)
            grid = load_grid_file(path)
            trust(grid.code.files)
            request = replace(
                request,
                grid=str(grid.path),
                leads=request.leads or grid.research.reading.leads or None,
                gaps=request.gaps or grid.research.gaps,
            )
            plan = probe_networks(_plan(request, grid.research), grid.code)
    except BaseException as error:
        # A study that could not be resumed, since another process runs it, is not ours to end.
        is_anothers = isinstance(error, ResumeError) and request.resume is None
        if client and project_run and not is_anothers:
            end_project_run(client, project_run, error)
        raise
    for note in plan.notes:
        say(f"note: {note}", file=sys.stderr)
    if plan.bad:
        say(f"note: {len(plan.bad)} bad records are left out", file=sys.stderr)
    if client is None or request.dry_run:
        n_workers = where.workers if isinstance(where, RayShare) else len(where)
        say(plan_table(plan, max(1, n_workers)))
        return 0
    options = StudyOptions(request, where, run_id, grid.code)
    with link_project_run(client, project_run, run_id):
        return 3 if run_study(plan, client, options).failed else 0


def _plan(request: StudyRequest, research: Research) -> StudyPlan:
    data = request.data or "demo"
    if data in DEMO_RECORDS:
        data = f"{data}:{research.demo.records}"
    if is_demo(data):
        request = _within_demo_budget(research, request)
    corpus = _load_corpus(data, request)
    return plan_study(research, corpus, request)


def _within_demo_budget(research: Research, request: StudyRequest) -> StudyRequest:
    """Fill in the grid file's smaller numbers where the user gave none, and say so in one line."""
    smaller = {
        name: value
        for name in ("epochs", "repetitions", "test_every")
        if getattr(request, name) is None
        and (value := getattr(research.demo, name)) not in (None, getattr(research, name))
    }
    if smaller:
        changed = ", ".join(
            f"{name}={value} instead of {getattr(research, name)!r}"
            for name, value in smaller.items()
        ).replace("repetitions=", "reps=")
        say(
            f"note: on the demo corpus of made-up records {research.name} runs with {changed}; "
            "data=FOLDER runs the whole study",
            file=sys.stderr,
        )
    return replace(request, **smaller)


def _load_corpus(data: str, request: StudyRequest) -> Corpus:
    with tqdm(desc=f"reading {data}", leave=False, delay=1.0, disable=None) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        return load_corpus(data, request.labels, show, leads=request.leads, gaps=request.gaps)


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
    return RayShare(
        request.workers,
        request.ray_address,
        float(request.threads or 1),
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
    environ = {n: value for n, value in os.environ.items() if n != "CUDA_VISIBLE_DEVICES"}
    if request.visible_devices is not None:
        environ["CUDA_VISIBLE_DEVICES"] = request.visible_devices
    visible = find_gpus(environ) if request.gpus else []
    return plan_slots(request.workers, request.gpus, count_cores(), visible, threads)


def link_project_run(
    client: MlflowClient, project_run: str | None, run_id: str | None
) -> AbstractContextManager[object]:
    """Link the run that ``mlflow run`` has created to the study that it resumes."""
    if project_run is None or run_id is None or project_run == run_id:
        return nullcontext()
    experiment = client.get_run(run_id).info.experiment_id
    note = f"Went on with [the study {run_id}](#/experiments/{experiment}/runs/{run_id})."
    tags = {"ecg_mlflow.resumes": run_id, MLFLOW_RUN_NOTE: note}
    return Study.open(client, "", f"resume of {run_id}", run_id=project_run, tags=tags)


def end_project_run(client: MlflowClient, run_id: str, error: BaseException) -> None:
    """End the run that ``mlflow run`` has created, with the error that prevented the study."""
    status = EndStatus.FAILED if isinstance(error, Exception) else EndStatus.KILLED
    kind = "" if isinstance(error, EcgMlflowError) else f"{type(error).__name__}: "
    try:
        Study.open(client, "", "study", run_id=run_id).close(status, f"{kind}{error}")
    except TrackingError as closing:
        error.add_note(str(closing))
