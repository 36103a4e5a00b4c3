"""Decide which runs of a study are next, which trials are given up, and what the sampler is told.

The scheduler is the one state of a study while it runs. It acts on nothing: the dispatcher tells it
what happens to runs, and carries out what it answers. All it knows stands in the store, in the
study's child runs, so a driver that takes over comes to the same decisions.
"""

from __future__ import annotations

import math
import sys
from collections import deque
from collections.abc import Container, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlflow import MlflowClient
from tqdm import tqdm

from ecg_mlflow.errors import EcgMlflowError
from ecg_mlflow.search.sampler import Sampler, Trial, TrialState
from ecg_mlflow.study.descriptions import Counts
from ecg_mlflow.study.grid_update import updated_grid
from ecg_mlflow.study.plan import PlannedRun, StudyPlan
from ecg_mlflow.study.resume import KnownRuns, ResumeAction, RunDecision
from ecg_mlflow.study.search_history import SearchHistory, TrialEnd, trial_tags
from ecg_mlflow.study.trials import OpenTrial, Tests, is_contender, judge_at_rung, rungs_of
from ecg_mlflow.terminal import printable
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.training.schedule import Schedule


class TrialScheduler:
    """All trials of a study.

    Parameters
    ----------
    plan
        The study.
    sampler
        Chooses the configurations; knows those that the store has.
    known_runs
        What the store has of them.
    client
        The store, for the evaluations of runs that have ended before.

    Attributes
    ----------
    trials
        By number.
    reused
        Runs of other studies that were taken over.
    n_scored
        How many runs were scored on the test records in this session.
    """

    def __init__(
        self,
        plan: StudyPlan,
        sampler: Sampler,
        known_runs: KnownRuns,
        client: MlflowClient,
    ) -> None:
        self.trials: dict[int, OpenTrial] = {}
        self.reused: list[StoredRun] = []
        self.n_scored = 0
        self.search = plan.search
        self.sampler = sampler
        self._plan = plan
        self._is_search = plan.search.is_sampled
        self._known_runs = known_runs
        self._history = known_runs.history if self._is_search else SearchHistory()
        self._client = client
        self._update_schedule = Schedule.parse(plan.research.update_every)
        self._known = {one.config.digest: one for one in plan.configs}
        self._ended: list[OpenTrial] = []
        self._gone: set[str] = set()
        self._is_open = False
        self._n_looked_at = self._n_updates = self._n_asked = 0
        self._order = max((end.order + 1 for end in self._history.ends), default=0)
        # Answers that the dispatcher has not fetched yet.
        self._decisions: list[RunDecision] = []
        self._withdrawals: list[tuple[PlannedRun, str]] = []
        self._ends: list[tuple[OpenTrial, TrialEnd]] = []

    # --- What the dispatcher asks --------------------------------------------------------------

    def open(self) -> list[RunDecision]:
        """Take up the trials of earlier sessions, and all others if the sampler lists them.

        Returns
        -------
        What is to be done about their runs; those to be trained in the order of their start: the
        first pass over a grid ends early, and within it the longest runs start first.
        """
        if self._is_search:
            self._replay()
        else:
            self._list_trials()
        self._go_on()
        self._is_open = True
        decisions = _drained(self._decisions)
        if not self._is_search:
            decisions.sort(key=lambda one: (one.run.repetition, -one.run.config.seconds))
        return decisions

    def next_runs(self) -> list[RunDecision]:
        """Return the next runs for free workers; none if there are none for now."""
        while not self._decisions and self._is_search and (trial := self.sampler.ask()):
            self._enter(trial)
            self._go_on()
        return _drained(self._decisions)

    def withdrawals(self) -> list[tuple[PlannedRun, str]]:
        """Return what has been given up since the last call, and why others are better.

        There is no reason where a run's configuration has left the grid before it began.
        """
        return _drained(self._withdrawals)

    def ends(self) -> list[tuple[list[str], TrialEnd]]:
        """Return how trials have ended since the last call, each with its children in their order.

        They are to be stored before the next runs are asked for: what is chosen depends on them.
        Nothing is stored of a trial whose runs are all of other studies.
        """
        if not self._ends:  # as in most calls
            return []
        elsewhere = {one.run_id for one in self.reused}
        found = []
        for trial, end in _drained(self._ends):
            ids = [one for _, one in sorted(trial.run_ids.items())]
            own = [one for one in ids if one and one not in elsewhere]
            found += [(own, end)] if own else []
        return found

    def trial_tags(self, run: PlannedRun) -> dict[str, str]:
        """Return the tags by which the child of a run is known to be of its trial, in a search."""
        return trial_tags(run, self._n_asked) if self._is_search else {}

    @property
    def unplanned(self) -> list[StoredRun]:
        """The study's finished runs that its grid, having become smaller, does not list any more.

        None while it is not known what is going to be planned.
        """
        if self._is_search or self._plan.research.update_grid is not None:
            return []
        planned = {run.identity for trial in self.trials.values() for run in trial.runs}
        finished = [run for run in self._known_runs.runs if run.is_finished]
        return [run for run in finished if run.identity not in planned]

    @property
    def counts(self) -> Counts:
        """How many runs the study is going to have, as far as is known now, and their ends."""
        trials = self.trials.values()
        per_trial = 1 if self.search.adaptive else self._plan.research.repetitions
        return Counts(
            self._n_coming * per_trial + sum(trial.n_runs for trial in trials),
            sum(len(trial.metrics) for trial in trials),
            sum(len(trial.failed) for trial in trials) - len(self._gone),
            sum(trial.n_pruned for trial in trials),
            len(self._gone),
        )

    def rows(self, n_ended: int | None = None) -> list[dict[str, Any]]:
        """Describe the trials that have ended, in the order of their ends.

        Parameters
        ----------
        n_ended
            Only the first so many.

        Returns
        -------
        A row per trial: ``trial``, ``state``, its options (by alias, numbers where the grid has a
        range), ``runs`` (how many have finished), and the mean of each metric over these.
        """
        return [trial.row() for trial in self._ended[:n_ended]]

    # --- What the dispatcher tells -------------------------------------------------------------

    def handed_out(self, run: PlannedRun, run_id: str) -> None:
        """Record that a worker has a run, and its child run."""
        trial = self.trials[run.config.index]
        trial.under_way.add(run.repetition)
        trial.run_ids[run.repetition] = run_id

    def tested(self, run: PlannedRun, tests: Tests) -> None:
        """Record evaluations of a run; its trial may be pruned for them."""
        trial = self.trials[run.config.index]
        trial.note_tests(run.repetition, tests, self.search.first.metric)
        self._judge(trial)
        self._go_on()

    def finished(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Record the metrics of a finished run."""
        self.trials[run.config.index].metrics[run.repetition] = metrics
        self._go_on()

    def scored(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Add what a finished run has reached on the test records."""
        reached = self.trials[run.config.index].metrics
        reached[run.repetition] = {**reached[run.repetition], **metrics}
        self.n_scored += 1

    def failed(self, run: PlannedRun) -> None:
        """Record that a run has failed for good."""
        trial = self.trials[run.config.index]
        trial.failed.add(run.repetition)
        trial.under_way.discard(run.repetition)
        trial.curves.pop(run.repetition, None)
        self._judge(trial)
        self._go_on()

    def gone(self, run: PlannedRun) -> None:
        """Record that a run was deleted or ended by hand: its trial goes on without it."""
        self._gone.add(run.key)
        self.failed(run)

    # --- Trials come ---------------------------------------------------------------------------

    @property
    def _n_coming(self) -> int:
        """How many trials the sampler is still going to choose."""
        return self.sampler.n_trials - self._n_asked if self._is_search else 0

    @property
    def _running(self) -> list[OpenTrial]:
        return [trial for trial in self.trials.values() if trial.is_running]

    def _list_trials(self) -> None:
        """Enter all trials that the sampler lists."""
        while (asked := self.sampler.ask()) is not None:
            # The user may have chosen a part of the grid; what the grid file has made of it
            # since is whole.
            if self._n_updates or asked.config.digest in self._known:
                self._enter(asked)

    def _replay(self) -> None:
        """Ask for the trials of earlier sessions again, and tell their ends between them as then.

        Trials without a child run, of runs that were taken over or had not started, are chosen
        again, by what was known when they were chosen first.
        """
        ends = deque(self._history.ends)
        while True:
            while ends and ends[0].n_asked <= self._n_asked:
                end = ends.popleft()
                trial = self.trials.get(end.number)
                if trial is not None and trial.is_running:
                    self._admit_ended(trial, end.state)
                    self._close(trial, end)
                    self._go_on()
            if self._n_asked == self._history.n_asked or (asked := self.sampler.ask()) is None:
                break
            self._enter(asked)
            self._go_on()
        for trial in self._running:
            if not trial.granted:
                self._begin(trial)

    def _enter(self, asked: Trial) -> None:
        """Plan a trial; begin it, unless it is of an earlier session: those wait for their ends."""
        self._n_asked += 1
        number = asked.number
        try:
            known = self._known.get(asked.config.digest)
            config = (
                replace(known, index=number)
                if known is not None
                else self._plan.planner.plan(number, asked.config)
            )
        except EcgMlflowError as error:
            _note(f"trial {number} can't be trained: {error}")
            self.sampler.tell(number, TrialState.FAILED, note=str(error))
            return
        trial = OpenTrial(number, config, config.runs)
        if (pruner := self.search.pruner) is not None:
            epochs = config.settings.epochs
            trial.rungs = rungs_of(config, pruner.rungs(number, epochs))
            trial.bracket = pruner.bracket(number, epochs)
        self.trials[number] = trial
        if number not in self._history.numbers:
            self._begin(trial)

    def _begin(self, trial: OpenTrial) -> None:
        """Let a trial have its first runs, unless it is known from its runs that it was pruned."""
        decisions = [self._known_runs.decide(run) for run in trial.runs]
        if any(one.action is ResumeAction.PRUNED for one in decisions):
            # The driver died after it had marked the first run of a trial as pruned.
            self._admit_ended(trial, TrialState.PRUNED)
            self._end(trial, TrialState.PRUNED, "pruned in an earlier session")
        else:
            self._grant(trial, 1 if self.search.adaptive else len(trial.runs))

    def _grant(self, trial: OpenTrial, n_repetitions: int) -> None:
        """Let a trial have so many repetitions."""
        for run in trial.runs[trial.granted : n_repetitions]:
            self._admit(trial, self._known_runs.decide(run))
        trial.granted = n_repetitions

    def _admit_ended(self, trial: OpenTrial, state: TrialState) -> None:
        """Record the existing runs of a trial that ended in an earlier session."""
        for one in map(self._known_runs.decide, trial.runs):
            if one.stored is not None:
                pruned = state is TrialState.PRUNED and one.action is ResumeAction.CONTINUE
                self._admit(trial, replace(one, action=ResumeAction.PRUNED) if pruned else one)
        trial.granted = len(trial.runs)

    def _admit(self, trial: OpenTrial, decision: RunDecision) -> None:
        """Record what the store knows of a run, and pass it to the dispatcher."""
        self._decisions.append(decision)
        action, stored, repetition = decision.action, decision.stored, decision.run.repetition
        if stored is None:
            return
        trial.run_ids[repetition] = "" if action is ResumeAction.REPLACE else stored.run_id
        trial.ended_ms = max(trial.ended_ms, stored.ended_ms)
        if action is ResumeAction.REUSE:
            self.reused.append(stored)
        if action in (ResumeAction.SKIP, ResumeAction.REUSE):
            trial.metrics[repetition] = stored.metrics
        elif action is ResumeAction.PRUNED:
            trial.withdrawn.add(repetition)
        elif action is ResumeAction.LEAVE:
            trial.failed.add(repetition)
        if trial.rungs and (repetition in trial.metrics or repetition in trial.withdrawn):
            metric = self.search.first.metric
            history = self._client.get_metric_history(stored.run_id, metric)
            tests = [(one.step, {metric: one.value}) for one in history]
            trial.note_tests(repetition, tests, metric)

    # --- Trials go -----------------------------------------------------------------------------

    def _settle(self) -> None:
        """End trials whose runs have ended, but for those that get another repetition."""
        changed = True
        while changed:
            changed = False
            for trial in [one for one in self._running if one.has_all_ended]:
                adaptive = self.search.adaptive and trial.metrics
                if not adaptive or trial.granted == len(trial.runs):
                    self._complete(trial)
                elif not self._may_decide(trial):
                    continue
                elif is_contender(trial, self.trials.values(), self.search.first):
                    self._grant(trial, trial.granted + 1)
                else:
                    self._complete(trial)
                changed = True

    def _may_decide(self, trial: OpenTrial) -> bool:
        """Return whether all trials that are to be compared have as many repetitions.

        In a grid every configuration gets there. In a search the later trials are not known yet, so
        each is compared with those before it.
        """
        return self._is_search or all(
            other.has_all_ended or other.granted > trial.granted for other in self._running
        )

    def _complete(self, trial: OpenTrial) -> None:
        values = trial.values(self.search.objectives)
        reached = zip(self.search.objectives, values, strict=True)
        missing = ", ".join(one.metric for one, value in reached if not math.isfinite(value))
        if missing:
            reason = f"its runs have no value of {missing}"
            if not trial.metrics:
                reason = f"all {len(trial.failed)} runs failed"
            self._end(trial, TrialState.FAILED, reason)
        else:
            self._end(trial, TrialState.COMPLETE, values=values)

    def _judge(self, trial: OpenTrial) -> None:
        """Give a trial up if it has come to a rung where others are better."""
        while trial.is_running and (age := trial.due_rung()) is not None:
            given_up = judge_at_rung(trial, age, self.trials.values(), self.search)
            if given_up is not None:
                reason, value = given_up
                self._withdrawals += [(run, reason) for run in trial.withdraw()]
                self._end(trial, TrialState.PRUNED, reason, [value])

    def _end(
        self, trial: OpenTrial, state: TrialState, note: str = "", values: Sequence[float] = ()
    ) -> None:
        """End a trial, and have that stored where the sampler chooses by it."""
        end = TrialEnd(trial.number, self._n_asked, self._order, state, values, note)
        self._order += 1
        if self._is_search:
            self._ends.append((trial, end))
        self._close(trial, end)

    def _close(self, trial: OpenTrial, end: TrialEnd) -> None:
        trial.state = end.state
        self._ended.append(trial)
        self.sampler.tell(end.number, end.state, end.values, end.note)

    # --- The grid changes ----------------------------------------------------------------------

    def _go_on(self) -> None:
        """End and extend trials, and change the grid, until nothing changes any more.

        When a study is resumed, the grid changes as it did in earlier sessions: after the same
        trials, in the order in which they have ended then.
        """
        self._settle()
        while self._n_looked_at < len(self._ended):
            if not self._is_open:
                rest = self._ended[self._n_looked_at :]
                self._ended[self._n_looked_at :] = sorted(rest, key=lambda one: one.ended_ms)
            self._n_looked_at += 1
            self._update_grid(self._n_looked_at)
            self._settle()

    def _update_grid(self, n_ended: int) -> None:
        """Let the grid file change the grid, if it is time to after so many trials."""
        last = self._n_coming <= 0 and not self._running and n_ended == len(self._ended)
        update = self._plan.research.update_grid
        if update is None or not self._update_schedule.fires(n_ended - 1, last):
            return
        if (grid := updated_grid(update, self.rows(n_ended))) is None:
            return
        self._n_updates += 1
        _note(f"after {n_ended} configurations the grid file has changed the grid")
        if not self._is_search:
            self._drop_all_but({config.digest for config in grid.unique()[0]})
        self.sampler.update(grid)
        if not self._is_search:
            self._list_trials()

    def _drop_all_but(self, digests: Container[str]) -> None:
        """Forget the trials that have not begun and are no longer in the grid."""
        for trial in self._running:
            if not trial.run_ids and trial.config.config.digest not in digests:
                del self.trials[trial.number]
                self._decisions = [one for one in self._decisions if one.run not in trial.runs]
                self._withdrawals += [(run, "") for run in trial.runs]


def _note(text: str) -> None:
    tqdm.write(printable(f"note: {text}"), file=sys.stderr)


def _drained(answers: list[Any]) -> list[Any]:
    """Return what a list holds, and empty it."""
    found = [*answers]
    answers.clear()
    return found
