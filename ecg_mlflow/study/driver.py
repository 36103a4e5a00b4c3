"""The driver: opens or resumes the study, runs what is left of it, and closes it.

It decides and logs; it never trains, loads no TensorFlow and holds no GPU.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from importlib.util import decode_source
from pathlib import Path

from mlflow import MlflowClient
from tqdm import tqdm

from ecg_mlflow.errors import ResumeError
from ecg_mlflow.executors.devices import RayShare, Slot
from ecg_mlflow.executors.factory import make_executor
from ecg_mlflow.files import cache_root, file_name, locked
from ecg_mlflow.grids import Grid
from ecg_mlflow.grids.canonical import VERSION
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.reports.text_tables import result_table
from ecg_mlflow.study.descriptions import (
    Counts,
    dataset_infos,
    describe_study,
    describe_unplanned,
)
from ecg_mlflow.study.dispatcher import Dispatcher
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.progress import StudyProgress
from ecg_mlflow.study.request import DESIGN, StudyRequest
from ecg_mlflow.study.resume import KnownRuns, end_abandoned, summary, superfluous
from ecg_mlflow.study.search_history import known_identities
from ecg_mlflow.study.signals import StopRequest, stop_on_signals
from ecg_mlflow.study.status import conclude_search, leaderboard
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.study.trials import finalists, is_scored
from ecg_mlflow.terminal import printable, say
from ecg_mlflow.tracking.dataset_inputs import log_datasets
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.stored_run import (
    CORPUS_TAG,
    IDENTITY_VERSION_TAG,
    PLAN_TAG,
    REQUEST_TAG,
    StoredRun,
)
from ecg_mlflow.tracking.stored_study import find_finished, read_children
from ecg_mlflow.tracking.study_run import Study

#: Seconds between two messages while the store stays away.
MESSAGE_S = 60.0


@dataclass(frozen=True)
class StudyOptions:
    """How a study is run, as opposed to what it computes.

    Attributes
    ----------
    request
        What the user asked for; its grid is the file that the research comes from.
    where
        Where runs train: slots of this machine, none for this process, or a share of a cluster.
    run_id
        Parent run to work in: one that ``mlflow run`` has created, or a study to resume.
    code
        The grid file and what it has beside it, which workers get.
    """

    request: StudyRequest
    where: Sequence[Slot] | RayShare
    run_id: str | None = None
    code: UserCode = field(default_factory=UserCode)


def run_study(plan: StudyPlan, client: MlflowClient, options: StudyOptions) -> Counts:
    """Run the planned runs that the store lacks, each once; print and return how they ended.

    Runs that fail don't stop the others.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C or SIGTERM: the workers have finished their iterations and saved them, their
        runs and the study have ended as KILLED. A second signal of the same kind leaves the
        workers no time.
    ResumeError
        If the study to resume is still being run, or is another one.
    StorageError, TrackingError
        If a disk is full or the store stays away; the study can be resumed.
    """
    with stop_on_signals() as stop, _only_driver(options.run_id):
        retry = RetryPolicy(on_wait=_Waiting(stop))
        known_runs = _look_up(plan, retry.client(client), options)
        if options.run_id is not None:
            # While nothing has been touched: it may be another study.
            _check_same_study(plan, options.run_id, known_runs)
        with _opened(plan, client, options, retry) as study:
            scheduler = _run(plan, study, options, known_runs, stop)
    # The study is complete, whatever becomes of these lines.
    counts = scheduler.counts
    ranked = leaderboard(scheduler.trials.values(), plan.search, plan.research.repetitions)
    say(
        f"{result_table(ranked)}\n"
        f"{counts.finished} runs finished{counts}; "
        f"parent run {study.run_id}\n"
        f"Look at them with: mlflow ui --backend-store-uri {client.tracking_uri}"
    )
    return counts


def _look_up(plan: StudyPlan, client: MlflowClient, options: StudyOptions) -> KnownRuns:
    """Read the stored runs of the study, and those that it may take over from others."""
    entries: list[StoredRun] = []
    if options.run_id is not None:
        parent = client.get_run(options.run_id)
        entries = read_children(client, parent.info.experiment_id, options.run_id)
    # What a search asks for and is known already is taken over, so nothing is trained twice.
    reuse = plan.search.is_sampled if options.request.reuse is None else options.request.reuse
    reusable = find_finished(client, plan.corpus.digest[:16]) if reuse else {}
    if not plan.holds_test_back:
        # Runs of a search may lack what is wanted here: their score on the test records.
        reusable = {key: one for key, one in reusable.items() if is_scored(one.metrics)}
    return KnownRuns(entries, reusable, retry_failed=options.request.retry_failed)


def _check_same_study(plan: StudyPlan, run_id: str, known_runs: KnownRuns) -> None:
    """Raise a `ResumeError` if nothing that the study has trained is among what is planned."""
    planned = {run.identity for run in plan.runs}
    if plan.search.is_sampled:
        known = known_identities(plan, known_runs.history.options, known_runs.identities)
        if not known:  # the runs of a grid, which the search takes over as it comes to them
            return
        planned |= known
    if known_runs.identities and not known_runs.identities & planned:
        raise ResumeError(
            f"study {run_id} has {len(known_runs.identities)} runs, and not one of them is "
            f"among the {len(planned)} that are planned now: the grid file, the recordings or the "
            "options have changed in what every run depends on. Undo that, or start a new "
            "study without resume"
        )


@contextmanager
def _only_driver(run_id: str | None) -> Iterator[None]:
    """Hold the study against other drivers on this machine."""
    if run_id is None:
        yield
        return
    try:
        with locked(cache_root() / "studies" / file_name(run_id), timeout_s=0):
            yield
    except TimeoutError as error:
        raise ResumeError(f"study {run_id} is being run by another process") from error


@contextmanager
def _opened(
    plan: StudyPlan, client: MlflowClient, options: StudyOptions, retry: RetryPolicy
) -> Iterator[Study]:
    """Open the parent run; whatever ends the study early says how to resume it."""
    asked = vars(options.request)
    design = {name: asked[name] for name in DESIGN if asked[name] is not None}
    tags = {
        IDENTITY_VERSION_TAG: str(VERSION),
        PLAN_TAG: plan.digest[:16],
        CORPUS_TAG: plan.corpus.digest[:16],
        REQUEST_TAG: json.dumps(design),
    }
    name = plan.research.name or "study"
    experiment = options.request.experiment or plan.research.name or "ecg-mlflow"
    how = ""
    try:
        with Study.open(
            client, experiment, name, run_id=options.run_id, tags=tags, retry=retry
        ) as study:
            how = options.request.how_to_resume.format(run_id=study.run_id)
            say(f"study {name}: parent run {study.run_id}", file=sys.stderr)
            yield study
    except BaseException as error:  # that of closing too: a Ctrl-C while the store is away
        if how:
            error.add_note(f"What was finished is kept. Go on with: {how}")
        raise


def _run(
    plan: StudyPlan, study: Study, options: StudyOptions, known_runs: KnownRuns, stop: StopRequest
) -> TrialScheduler:
    search, grid = plan.search, plan.research.grid
    assert isinstance(grid, Grid)
    sampler = search.make_sampler(grid, known_runs.history.options)
    scheduler = TrialScheduler(plan, sampler, known_runs, study.client)
    decisions = scheduler.open()
    unplanned = describe_unplanned(scheduler.unplanned, search.first.metric)
    for found in filter(None, (summary(decisions), unplanned)):
        say(found, file=sys.stderr)
    for entry in superfluous(decisions, known_runs.runs):
        end_abandoned(study.client, entry, "no planned run goes on with it")
    mean_seconds = plan.seconds / len(plan.runs)
    with closing(StudyProgress(scheduler, mean_seconds)) as progress:
        describe_study(study, plan, options.code, scheduler.counts.n_runs)
        log_datasets(study.client, study.run_id, dataset_infos(plan.corpus, plan.configs[0]))
        dispatcher = Dispatcher(plan, study, scheduler, progress, options.request, options.code)
        dispatcher.refresh()
        for decision in decisions:
            dispatcher.take(decision)
        executor = make_executor(
            "ecg_mlflow.study.worker.main:work",
            options.where,
            corpus=plan.corpus.path,
            hang_s=60 * options.request.hang_minutes,
        )
        try:
            with executor:
                dispatcher.run(executor, stop)
                if plan.holds_test_back:
                    best = finalists(scheduler.trials.values(), search.objectives, search.finalists)
                    dispatcher.score(best)
                    dispatcher.run(executor, stop)
        except BaseException:
            dispatcher.settle(executor)
            raise
        dispatcher.refresh()
        if search.selects:
            source = options.code.files[Path(options.request.grid).name]
            conclude_search(study, plan, scheduler, decode_source(source))
        counts, n_unscored = scheduler.counts, dispatcher.n_unscored
        failures = [
            *([f"{counts.failed} of {counts.n_runs} runs failed"] if counts.failed else []),
            *([f"{n_unscored} runs could not be scored on the test records"] if n_unscored else []),
        ]
        status_of_study = EndStatus.FAILED if failures else EndStatus.FINISHED
        study.close(status_of_study, "; ".join(failures) or None)
    return scheduler


class _Waiting:
    """While the store is away, print so once a minute, and check for Ctrl-C."""

    def __init__(self, stop: StopRequest) -> None:
        self._stop = stop
        self._before_s = math.inf

    def __call__(self, waited_s: float, error: BaseException) -> None:
        is_another = waited_s < self._before_s
        if is_another or waited_s // MESSAGE_S > self._before_s // MESSAGE_S:
            what = str(error).partition("\n")[0][:300]
            text = f"the store is away, waiting for it ({waited_s:.0f} s so far; workers train on)"
            tqdm.write(printable(f"{text}: {what}"), file=sys.stderr)
        self._before_s = waited_s
        self._stop.check()
