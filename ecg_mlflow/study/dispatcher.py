"""Hand runs to workers, watch them, and decide what becomes of a run when its job ends early."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence

from ecg_mlflow.errors import StorageFullError, TrackingError
from ecg_mlflow.executors import Event, Executor, Job, Outcome, OutcomeState, count_oom_kills
from ecg_mlflow.files import checkpoint_path, discard_checkpoint
from ecg_mlflow.grids.code_transfer import pickle_for_worker
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.study.child_runs import ChildRuns
from ecg_mlflow.study.jobs import REPORT, Ended, Noted, RunEnd, RunReport, Saved, TrainJob
from ecg_mlflow.study.listeners import StudyListener
from ecg_mlflow.study.plan import PlannedRun, StudyPlan
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.resume import ResumeAction, RunDecision
from ecg_mlflow.study.run_queue import OpenRun, RunQueue
from ecg_mlflow.study.signals import StopRequest
from ecg_mlflow.study.trial_scheduler import TrialScheduler, Withdrawal
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.stored_run import DIED_TAG, PRUNED_TAG, REPLACED_TAG
from ecg_mlflow.tracking.study_run import Study

#: A run whose processes die so often, without having got further in between, has failed.
MOST_DEATHS = 3
#: Characters of a reason that are sent to a worker.
REASON_LIMIT = 500
#: Errors in a worker that are the machine's, after which the other runs would fail as well.
MACHINE_ERRORS = {
    f"{kind.__module__}.{kind.__qualname__}": kind for kind in (StorageFullError, TrackingError)
}


class Dispatcher:
    """Keeps every slot busy until all runs have ended.

    Parameters
    ----------
    plan, study
        The study and its parent run.
    scheduler
        Chooses the next runs and those to give up; the last of the listeners.
    listeners
        Are called for every event of a run.
    request
        How runs are trained: how many share a process, how often they are saved.
    code
        The user's files, which workers get.
    scores_test
        Runs score the test records at their end.
    """

    def __init__(
        self,
        plan: StudyPlan,
        study: Study,
        scheduler: TrialScheduler,
        listeners: Sequence[StudyListener],
        request: StudyRequest,
        *,
        code: UserCode | None = None,
        scores_test: bool = True,
    ) -> None:
        self._plan = plan
        self._study = study
        self._scheduler = scheduler
        self._listeners = (*listeners, scheduler)
        self._request = request
        self._children = ChildRuns(plan, study, scores_test=scores_test)
        self._code = code or UserCode()
        self._waiting = RunQueue(request.branches)
        self._jobs: dict[str, dict[str, OpenRun]] = {}
        self._n_submitted = 0
        self._settling = False
        self._n_oom_kills = count_oom_kills()

    def take(self, decision: RunDecision) -> None:
        """Queue a run to be trained, or pass on that it has ended before."""
        entry, action = decision.stored, decision.action
        if action in (
            ResumeAction.SKIP,
            ResumeAction.REUSE,
            ResumeAction.LEAVE,
            ResumeAction.PRUNED,
        ):
            assert entry is not None
            self._children.note(decision.run, entry.run_id, is_own=action is not ResumeAction.REUSE)
            if action is ResumeAction.SKIP:
                if entry.status != EndStatus.FINISHED:
                    self._study.finish_child(entry.run_id, EndStatus.FINISHED)
                discard_checkpoint(entry.run_id)
            elif action is ResumeAction.PRUNED and (
                entry.status == "RUNNING"
                or not entry.is_pruned
                or checkpoint_path(entry.run_id).exists()
            ):
                # The driver died between the decision and its execution, and another may have
                # ended the run since, without what its checkpoint holds.
                self._children.end_pruned(
                    entry.run_id, "its configuration was pruned in another session"
                )
            for listener in self._listeners:
                listener.known(decision)
            return
        waiting = OpenRun(decision.run, attempt=entry.attempt if entry else 0)
        if entry is not None and action is ResumeAction.CONTINUE:
            waiting.run_id = entry.run_id
        self._waiting.append(waiting)

    # --- The loop ------------------------------------------------------------------------------

    def run(self, executor: Executor, stop: StopRequest) -> None:
        """Run everything that is waiting.

        Raises
        ------
        KeyboardInterrupt
            If `stop` was asked for.
        StorageFullError, TrackingError
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
            self.refresh()

    def refresh(self) -> None:
        """Bring up to date what is shown of the study, and show that it is alive."""
        self._study.beat()
        for listener in self._listeners:
            listener.refresh()

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
        for trial, end in self._scheduler.ends():
            self._children.tag_first(trial.runs, end.tags())

    def settle(self, executor: Executor) -> None:
        """Take note of how the runs ended that the executor has stopped."""
        self._waiting.clear()
        self._settling = True
        self._attend(executor, timeout=0.0)
        for listener in self._listeners:
            listener.refresh()

    def _attend(self, executor: Executor, timeout: float) -> None:
        for report in executor.events(timeout):
            if isinstance(report, Event):
                self._take_report(self._jobs[report.key], report.data[REPORT])
            elif isinstance(report, Outcome):
                self._end_job(report)
            if not self._settling:
                # First the ends: a trial that is known to be pruned stays so.
                self._store_ends()
                for withdrawal in self._scheduler.withdrawals():
                    self._withdraw(executor, withdrawal)

    # --- Handing out ---------------------------------------------------------------------------

    def _submit(self, executor: Executor) -> None:
        group = self._waiting.take_group(executor.n_slots)
        for one in group:
            self._children.open(one, self._scheduler.trial_tags(one.run))
            for listener in self._listeners:
                listener.handed_out(one.run)
        self._n_submitted += 1
        key = f"{'+'.join(one.run.key for one in group)} #{self._n_submitted}"
        job = TrainJob(
            self._study.client.tracking_uri,
            self._plan.corpus.path,
            tuple(self._children.job(one) for one in group),
            60 * self._request.checkpoint_minutes,
        )
        self._jobs[key] = {one.run.key: one for one in group}
        payload = pickle_for_worker(job, self._code)
        executor.submit(Job(key, payload, exclusive=group[0].exclusive))

    def score_job(self, key: str, run: PlannedRun) -> Job:
        """Make the job that scores the test records of a finished run."""
        return Job(key, pickle_for_worker(self._children.score_job(run), self._code))

    # --- Giving up -----------------------------------------------------------------------------

    def _withdraw(self, executor: Executor, withdrawal: Withdrawal) -> None:
        """Give up a run: at once where it waits, by a message where it is trained."""
        run, reason = withdrawal.run, withdrawal.reason
        waiting = self._waiting.take(run.key)
        if waiting is not None:
            if waiting.run_id is not None:
                self._children.end_pruned(waiting.run_id, reason)
            if withdrawal.is_pruned:
                self._tell_pruned(run, reason)
            return
        for key, runs in self._jobs.items():
            if run.key in runs:
                one = runs[run.key]
                assert one.run_id is not None
                one.pruned = reason
                # First in the store: whatever happens now, the run is not resumed.
                self._study.tag_child(one.run_id, {PRUNED_TAG: reason})
                executor.send(key, {"prune": run.key, "reason": reason[:REASON_LIMIT]})

    # --- Watching ------------------------------------------------------------------------------

    def _take_report(self, runs: dict[str, OpenRun], report: RunReport) -> None:
        """Note what a worker reports of one of its runs, and tell the listeners."""
        one = runs[report.run]
        if isinstance(report, Ended):
            del runs[report.run]
            self._end_run(one, report)
            return
        if isinstance(report, Saved):
            if report.iteration > one.saved:
                one.deaths = 0
            one.saved = report.iteration
        for listener in self._listeners:
            listener.reported(one.run, report)

    def _end_run(self, one: OpenRun, report: Ended) -> None:
        """Decide what becomes of a run that has ended in its worker."""
        assert one.run_id is not None
        if report.end is RunEnd.DONE:
            self._study.finish_child(one.run_id, EndStatus.FINISHED)
            discard_checkpoint(one.run_id)
            for listener in self._listeners:
                listener.finished(one.run, report.metrics)
        elif one.pruned is not None:
            self._children.end_pruned(one.run_id, one.pruned)
            self._tell_pruned(one.run, one.pruned)
        elif report.end is RunEnd.LOST:
            self._replace(one, report.reason)
        elif report.end in (RunEnd.OUT_OF_MEMORY, RunEnd.BUSY):
            exclusive = report.end is RunEnd.OUT_OF_MEMORY
            self._try_again(one, report.reason, report.error, exclusive=exclusive)
        else:
            self._fail(one, report.reason, report.error)
            discard_checkpoint(one.run_id)

    def _end_job(self, outcome: Outcome) -> None:
        """Decide what becomes of the runs that were still open when their job ended."""
        runs = self._jobs.pop(outcome.key)
        memory = self._was_out_of_memory(outcome)
        reason = outcome.reason or "its process ended the job without a word on this run"
        error = outcome.error or reason
        for one in runs.values():
            assert one.run_id is not None
            kind = MACHINE_ERRORS.get(outcome.error_type or "")
            if outcome.state is OutcomeState.CANCELLED or (kind and self._settling):
                self._study.finish_child(one.run_id, EndStatus.KILLED, reason)
                self._note(one, "stopped")
            elif one.pruned is not None:
                self._children.end_pruned(one.run_id, one.pruned)
                self._tell_pruned(one.run, one.pruned)
            elif outcome.state is OutcomeState.DIED:
                self._try_again(one, reason, error, exclusive=memory)
            elif kind:
                raise kind(reason)
            elif len(runs) > 1:
                # Whose error it was shows when each of them is tried alone.
                one.alone = True
                self._waiting.appendleft(one)
            else:
                self._fail(one, reason, error)
                discard_checkpoint(one.run_id)

    def _was_out_of_memory(self, outcome: Outcome) -> bool:
        """Say whether a process died for want of memory, or may have."""
        if "OutOfMemory" in (outcome.error or ""):  # Ray's own guard of a node's memory
            return True
        if outcome.exitcode != -signal.SIGKILL:
            return False
        before, self._n_oom_kills = self._n_oom_kills, count_oom_kills()
        return before is None or self._n_oom_kills is None or self._n_oom_kills > before

    def _try_again(self, one: OpenRun, reason: str, error: str, *, exclusive: bool) -> None:
        """Resume a run from its last checkpoint, unless its processes die again and again."""
        one.deaths += 1
        one.alone = True
        one.exclusive = one.exclusive or exclusive
        if one.deaths >= MOST_DEATHS:
            assert one.run_id is not None
            self._study.tag_child(one.run_id, {DIED_TAG: one.deaths})
            self._children.deliver_rest(one.run_id)
            self._fail(one, f"{one.deaths} processes died under it; the last: {reason}", error)
            return  # with its checkpoint: it can be resumed when the reason is gone
        self._note(one, f"{reason}; it goes on from iteration {one.saved}")
        self._waiting.appendleft(one)

    def _replace(self, one: OpenRun, reason: str) -> None:
        """Begin a run anew, in a new child: the old one's curves can't be continued."""
        old = one.run_id
        assert old is not None
        one.run_id, one.saved = None, 0
        self._children.open(one, self._scheduler.trial_tags(one.run))
        self._study.tag_child(old, {REPLACED_TAG: one.run_id})
        self._study.finish_child(old, EndStatus.KILLED, f"replaced by {one.run_id}: {reason}")
        discard_checkpoint(old)
        one.attempt -= 1  # counted again when it is handed out
        self._note(one, f"begins anew: {reason}")
        self._waiting.appendleft(one)

    def _fail(self, one: OpenRun, reason: str, error: str) -> None:
        assert one.run_id is not None
        self._children.write(one.run_id, "error.txt", error)
        self._study.finish_child(one.run_id, EndStatus.FAILED, reason)
        for listener in self._listeners:
            listener.failed(one.run, reason)

    # --- Calling the listeners -----------------------------------------------------------------

    def scored(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Tell the listeners what a finished run has reached on the test records."""
        for listener in self._listeners:
            listener.scored(run, metrics)

    def _tell_pruned(self, run: PlannedRun, reason: str) -> None:
        for listener in self._listeners:
            listener.pruned(run, reason)

    def _note(self, one: OpenRun, text: str) -> None:
        for listener in self._listeners:
            listener.reported(one.run, Noted(one.run.key, text))
