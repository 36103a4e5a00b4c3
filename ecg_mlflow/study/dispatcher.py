"""Hand runs to workers, watch them, and decide what becomes of a run when its job ends early."""

from __future__ import annotations

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

from ecg_mlflow.errors import RunGoneError, StorageError, TrackingError
from ecg_mlflow.executors.base import Event, Job, Outcome, OutcomeState
from ecg_mlflow.executors.devices import count_oom_kills
from ecg_mlflow.executors.pool import Executor
from ecg_mlflow.files import checkpoint_path, discard_checkpoint
from ecg_mlflow.grids.code_transfer import pickle_for_worker
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.study import jobs
from ecg_mlflow.study.child_runs import ChildRuns, OpenRun
from ecg_mlflow.study.jobs import Ended, RunEnd, RunReport
from ecg_mlflow.study.plan import PlannedRun, StudyPlan
from ecg_mlflow.study.progress import StudyProgress
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.resume import ResumeAction, RunDecision
from ecg_mlflow.study.signals import StopRequest
from ecg_mlflow.study.status import show_status
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.study.trials import OpenTrial, is_scored
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.stored_run import DIED_TAG, PRUNED_TAG, REPLACED_TAG
from ecg_mlflow.tracking.study_run import Study

#: A run whose processes die so often, without having got further in between, has failed.
MOST_DEATHS = 3
#: Characters of a reason that are sent to a worker.
REASON_LIMIT = 500
#: Errors in a worker that are the machine's, after which the other runs would fail as well.
MACHINE_ERRORS = {
    f"{kind.__module__}.{kind.__qualname__}": kind for kind in (StorageError, TrackingError)
}


class Dispatcher:
    """Keeps every slot busy until all runs have ended.

    Parameters
    ----------
    plan, study
        The study and its parent run.
    scheduler
        Chooses the next runs and those to give up; is told of every event.
    progress
        Shows the study in the terminal.
    request
        How runs are trained: how many share a process, how often they are saved.
    code
        The user's files, which workers get.

    Attributes
    ----------
    n_unscored
        How many finished runs could not be scored on the test records.
    """

    def __init__(
        self,
        plan: StudyPlan,
        study: Study,
        scheduler: TrialScheduler,
        progress: StudyProgress,
        request: StudyRequest,
        code: UserCode,
    ) -> None:
        self._plan = plan
        self._study = study
        self._scheduler = scheduler
        self._progress = progress
        self._request = request
        self._children = ChildRuns(plan, study)
        self._code = code
        self._waiting: dict[str, OpenRun] = {}
        self._jobs: dict[str, dict[str, OpenRun]] = {}
        self._n_submitted = 0
        self._settling = False
        self._shown: object = None
        self._n_oom_kills = count_oom_kills()
        self.n_unscored = 0

    def take(self, decision: RunDecision) -> None:
        """Queue a run to be trained, or take note that it has ended before."""
        run, action, stored = decision.run, decision.action, decision.stored
        if action in (ResumeAction.START, ResumeAction.REPLACE, ResumeAction.CONTINUE):
            run_id = stored.run_id if stored and action is ResumeAction.CONTINUE else ""
            self._waiting[run.key] = OpenRun(run, run_id, stored.attempt if stored else 0)
            return
        assert stored is not None
        if action is ResumeAction.SKIP:
            if stored.status != EndStatus.FINISHED:
                self._study.finish_child(stored.run_id, EndStatus.FINISHED)
            discard_checkpoint(stored.run_id)
        elif action is ResumeAction.LEAVE:
            self._progress.ended(run, "FAILED: failed before; retry_failed=true would try it again")
        elif action is ResumeAction.PRUNED and (
            stored.status == "RUNNING"
            or not stored.is_pruned
            or checkpoint_path(stored.run_id).exists()
        ):
            # The driver died between the decision and its execution, and another may have
            # ended the run since, without what its checkpoint holds.
            with suppress(RunGoneError):
                self._children.end_pruned(
                    stored.run_id, "its configuration was pruned in another session"
                )

    def score(self, trials: Iterable[OpenTrial]) -> None:
        """Queue finished runs of these trials to be scored on the test records, once."""
        for trial in trials:
            for repetition, metrics in sorted(trial.metrics.items()):
                if not is_scored(metrics):
                    run = trial.runs[repetition]
                    run_id = trial.run_ids[repetition]
                    self._waiting[run.key] = OpenRun(run, run_id, alone=True, is_trained=True)

    # --- The loop ------------------------------------------------------------------------------

    def run(self, executor: Executor, stop: StopRequest) -> None:
        """Run everything that is waiting.

        Raises
        ------
        KeyboardInterrupt
            If `stop` was asked for.
        RunGoneError
            If the parent run was deleted, or ended by anybody else.
        StorageError, TrackingError
            If a worker stopped for these reasons.
        """
        self._ask(executor)
        while self._waiting or self._jobs:
            self._attend(executor, timeout=1.0)
            self._ask(executor)
            while self._waiting and executor.free_slots:
                stop.check()
                self._submit(executor)
            stop.check()
            # After the next runs were handed out: no worker waits for the store.
            self._study.beat()
            self.refresh()

    def settle(self, executor: Executor) -> None:
        """Take note of how the runs ended that the executor has stopped."""
        self._waiting.clear()
        self._settling = True
        self._attend(executor, timeout=0.0)
        self.refresh()

    def refresh(self) -> None:
        """Show the study; in the parent run only where anything has ended since the last time."""
        state = self._scheduler.counts, self._scheduler.n_scored
        if state != self._shown:
            self._shown = state
            show_status(self._study, self._plan, self._scheduler)
        self._progress.refresh()

    def _ask(self, executor: Executor) -> None:
        """Ask the scheduler for more runs where more could start than wait."""
        self._store_ends()
        while len(self._waiting) < executor.free_slots * self._request.branches:
            decisions = self._scheduler.next_runs()
            if not decisions:
                return
            for decision in decisions:
                self.take(decision)

    def _store_ends(self) -> None:
        for run_ids, end in self._scheduler.ends():
            self._children.store_end(run_ids, end)

    def _attend(self, executor: Executor, timeout: float) -> None:
        for report in executor.events(timeout):
            if isinstance(report, Event):
                self._take_report(self._jobs[report.key], report.data[jobs.REPORT])
            elif isinstance(report, Outcome):
                self._end_job(report)
            if not self._settling:
                # First the ends: a trial that is known to be pruned stays so.
                self._store_ends()
                for run, reason in self._scheduler.withdrawals():
                    self._withdraw(executor, run, reason)

    # --- Handing out ---------------------------------------------------------------------------

    def _submit(self, executor: Executor) -> None:
        group = [one for one in self._next_group(executor.n_slots) if self._open(one)]
        if not group:
            return
        first = group[0]
        self._n_submitted += 1
        key = f"{'+'.join(one.run.key for one in group)} #{self._n_submitted}"
        self._jobs[key] = {one.run.key: one for one in group}
        job = jobs.WorkerJob(
            self._study.client.tracking_uri,
            self._plan.corpus.path,
            tuple(self._children.job(one) for one in group),
            60 * self._request.checkpoint_minutes,
            first.is_trained,
        )
        payload = pickle_for_worker(job, self._code)
        executor.submit(Job(key, payload, exclusive=first.exclusive))

    def _open(self, one: OpenRun) -> bool:
        """Open the child run of one that is to be trained; say whether a worker can have it."""
        if one.is_trained:
            return True
        with self._giving_up_if_gone(one):
            self._children.open(one, self._scheduler.trial_tags(one.run))
            self._scheduler.handed_out(one.run, one.run_id)
            return True
        return False

    def _next_group(self, n_slots: int) -> list[OpenRun]:
        """Take the next run, and those behind it that can share its stream of batches.

        No more than leaves each of the slots its share.
        """
        first, *others = self._waiting.values()
        share = -(-len(self._waiting) // n_slots)
        most = 1 if first.alone else min(self._request.branches, share)
        fitting = [
            one
            for one in others
            if not one.alone
            and one.run.repetition == first.run.repetition
            and one.run.config.stream == first.run.config.stream
        ]
        group = [first, *fitting[: most - 1]]
        for one in group:
            del self._waiting[one.run.key]
        return group

    def _queue_first(self, one: OpenRun) -> None:
        self._waiting = {one.run.key: one, **self._waiting}

    # --- Giving up -----------------------------------------------------------------------------

    def _withdraw(self, executor: Executor, run: PlannedRun, reason: str) -> None:
        """Give up a run: at once where it waits, by a message where it is trained."""
        if (waiting := self._waiting.pop(run.key, None)) is not None:
            if waiting.run_id:
                with suppress(RunGoneError):
                    self._children.end_pruned(waiting.run_id, reason)
            if reason:
                self._progress.ended(run, reason)
            return
        for key, runs in self._jobs.items():
            if run.key in runs:
                one = runs[run.key]
                one.pruned = reason
                # First in the store: whatever happens now, the run is not resumed.
                with suppress(RunGoneError):  # its worker will notice, too
                    self._study.tag_child(one.run_id, {PRUNED_TAG: reason})
                executor.send(key, {"prune": run.key, "reason": reason[:REASON_LIMIT]})

    @contextmanager
    def _giving_up_if_gone(self, one: OpenRun) -> Iterator[None]:
        """Give a run up if its child turns out to be gone from the store, and go on."""
        try:
            yield
        except RunGoneError as error:
            if error.run_id != one.run_id:
                raise
            self._end_gone(one, str(error))

    def _end_gone(self, one: OpenRun, reason: str) -> None:
        """Give up a run that was deleted or ended by anybody else; its checkpoint stays."""
        self._study.forget_child(one.run_id)
        self._scheduler.gone(one.run)
        self._progress.ended(one.run, f"given up: {reason}")

    # --- Watching ------------------------------------------------------------------------------

    def _take_report(self, runs: dict[str, OpenRun], report: RunReport) -> None:
        """Note what a worker reports of one of its runs."""
        one = runs[report.run]
        if isinstance(report, Ended):
            del runs[report.run]
            with self._giving_up_if_gone(one):
                self._end_run(one, report)
            return
        if isinstance(report, jobs.Saved):
            if report.iteration > one.saved:
                one.deaths = 0
            one.saved = report.iteration
        self._progress.reported(one.run, report)
        if isinstance(report, jobs.Evaluated):
            self._scheduler.tested(one.run, report.tests)

    def _end_run(self, one: OpenRun, report: Ended) -> None:
        """Decide what becomes of a run that has ended in its worker, or with it."""
        if report.end is RunEnd.DONE:
            self._study.finish_child(one.run_id, EndStatus.FINISHED)
            discard_checkpoint(one.run_id)
            self._scheduler.finished(one.run, report.metrics)
            self._progress.finished(one.run, report.metrics)
        elif one.pruned is not None:
            self._children.end_pruned(one.run_id, one.pruned)
            self._progress.ended(one.run, one.pruned)
        elif report.end is RunEnd.GONE:
            self._end_gone(one, report.reason)
        elif report.end is RunEnd.LOST:
            self._replace(one, report.reason)
        elif report.end in (RunEnd.OUT_OF_MEMORY, RunEnd.BUSY, RunEnd.DIED):
            one.exclusive |= report.end is RunEnd.OUT_OF_MEMORY
            self._try_again(one, report)
        else:
            self._fail(one, report.reason, report.error)
            discard_checkpoint(one.run_id)

    def _end_job(self, outcome: Outcome) -> None:
        """Decide what becomes of the runs that were still open when their job ended."""
        runs = self._jobs.pop(outcome.key)
        died = outcome.state is OutcomeState.DIED
        reason = outcome.reason or "its process ended the job without a word on this run"
        machine_error = None if died else MACHINE_ERRORS.get(outcome.error_type or "")
        end = RunEnd.DIED if died else RunEnd.FAILED
        if self._was_out_of_memory(outcome):
            end = RunEnd.OUT_OF_MEMORY
        for one in runs.values():
            with self._giving_up_if_gone(one):
                if one.is_trained:
                    self._end_scoring(one, outcome)
                elif outcome.state is OutcomeState.CANCELLED or (machine_error and self._settling):
                    self._study.finish_child(one.run_id, EndStatus.KILLED, reason)
                    self._note(one, "stopped")
                elif one.pruned is None and machine_error:
                    raise machine_error(reason)
                elif one.pruned is None and not died and len(runs) > 1:
                    # Whose error it was shows when each of them is tried alone.
                    one.alone = True
                    self._queue_first(one)
                else:
                    self._end_run(one, Ended(one.run.key, end, reason, outcome.error or reason))

    def _end_scoring(self, one: OpenRun, outcome: Outcome) -> None:
        one.deaths += outcome.state is OutcomeState.DIED
        if outcome.state is OutcomeState.DONE and outcome.value is not None:
            self._scheduler.scored(one.run, outcome.value)
        elif outcome.state is OutcomeState.DIED and one.deaths < MOST_DEATHS:
            self._waiting[one.run.key] = one
        elif not self._settling:
            self.n_unscored += 1
            self._note(one, f"its test records could not be scored: {outcome.reason}")

    def _was_out_of_memory(self, outcome: Outcome) -> bool:
        """Say whether a process died for want of memory, or may have."""
        if outcome.state is not OutcomeState.DIED:
            return False
        if "OutOfMemory" in (outcome.error or ""):  # Ray's own guard of a node's memory
            return True
        if outcome.exitcode != -signal.SIGKILL:
            return False
        before, self._n_oom_kills = self._n_oom_kills, count_oom_kills()
        return before is None or self._n_oom_kills is None or self._n_oom_kills > before

    def _try_again(self, one: OpenRun, end: Ended) -> None:
        """Resume a run from its last checkpoint, unless its processes die again and again."""
        one.deaths += 1
        one.alone = True
        if one.deaths < MOST_DEATHS:
            self._note(one, f"{end.reason}; it goes on from iteration {one.saved}")
            self._queue_first(one)
            return
        self._study.tag_child(one.run_id, {DIED_TAG: one.deaths})
        self._children.deliver_rest(one.run_id)
        # Its checkpoint stays: it can be resumed when the reason is gone.
        reason = f"{one.deaths} processes died under it; the last: {end.reason}"
        self._fail(one, reason, end.error)

    def _replace(self, one: OpenRun, reason: str) -> None:
        """Begin a run anew, in a new child: the old one's curves can't be continued."""
        old = one.run_id
        one.run_id, one.saved = "", 0
        self._open(one)
        with suppress(RunGoneError):
            self._study.tag_child(old, {REPLACED_TAG: one.run_id})
            self._study.finish_child(old, EndStatus.KILLED, f"replaced by {one.run_id}: {reason}")
        discard_checkpoint(old)
        one.attempt -= 1  # counted again when it is handed out
        self._note(one, f"begins anew: {reason}")
        self._queue_first(one)

    def _fail(self, one: OpenRun, reason: str, error: str) -> None:
        self._study.client.log_text(one.run_id, error, "error.txt")
        self._study.finish_child(one.run_id, EndStatus.FAILED, reason)
        self._scheduler.failed(one.run)
        self._progress.ended(one.run, f"FAILED: {reason}")

    def _note(self, one: OpenRun, text: str) -> None:
        self._progress.reported(one.run, jobs.Noted(one.run.key, text))
