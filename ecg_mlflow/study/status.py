"""Count how the runs of a study have ended, and show it in the parent run."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping

from ecg_mlflow.search.objective import pareto_front
from ecg_mlflow.study.descriptions import Counts, describe_state
from ecg_mlflow.study.listeners import StudyListener
from ecg_mlflow.study.plan import PlannedRun, StudyPlan
from ecg_mlflow.study.resume import ResumeAction, RunDecision
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.leaderboard import RunResult, leaderboard_rows
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import REUSED
from ecg_mlflow.tracking.study_run import Study

#: Beginnings of the metrics that the leaderboard has.
SHOWN = ("test_", "validation_", "best_")


class StudyStatus(StudyListener):
    """The results of a study, as the parent run shows them.

    Parameters
    ----------
    plan, search
        The study, and how it chooses.
    study
        Its parent run.
    n_runs
        Returns how many runs it is going to have.
    """

    def __init__(
        self,
        plan: StudyPlan,
        search: SearchConfig,
        study: Study,
        n_runs: Callable[[], int],
    ) -> None:
        self._plan = plan
        self._search = search
        self._study = study
        self._n_runs = n_runs
        self._objective = search.rule.first
        self._pruned: set[str] = set()
        self._results: dict[str, RunResult] = {}
        self._failed: dict[str, str] = {}
        self._reused: dict[str, StoredRun] = {}
        self._written: Counts | None = None

    @property
    def n_finished(self) -> int:
        """How many runs have finished, those of earlier sessions and studies included."""
        return len(self._results)

    @property
    def n_failed(self) -> int:
        """How many runs have failed."""
        return len(self._failed)

    @property
    def n_pruned(self) -> int:
        """How many runs were given up."""
        return len(self._pruned)

    def known(self, decision: RunDecision) -> None:
        """Count a run that had ended before this session."""
        run, entry = decision.run, decision.stored
        assert entry is not None
        if decision.action is ResumeAction.PRUNED:
            self._pruned.add(run.key)
        elif decision.action is ResumeAction.LEAVE:
            self._failed[run.key] = "failed before"
        else:
            if decision.action is ResumeAction.REUSE:
                self._reused[run.key] = entry
            self.finished(run, entry.metrics)

    def finished(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Count a run that has finished."""
        objectives = {one.metric for one in self._search.rule.objectives}
        shown = {n: v for n, v in metrics.items() if n.startswith(SHOWN) or n in objectives}
        self._results[run.key] = RunResult(run.config.config.alias(), shown)

    def failed(self, run: PlannedRun, reason: str) -> None:
        """Count a run that has failed for good."""
        self._failed[run.key] = reason

    def pruned(self, run: PlannedRun, reason: str) -> None:
        """Count a run that was pruned."""
        self._pruned.add(run.key)

    def scored(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Add what a run has reached on the test records."""
        before = self._results[run.key]
        self._results[run.key] = RunResult(before.config, {**before.metrics, **metrics})
        self._written = None

    def leaderboard(self) -> list[dict[str, object]]:
        """Rank the configurations by what has finished so far.

        Of several objectives the first decides; a column says which are on the Pareto front.
        """
        rows = leaderboard_rows(
            list(self._results.values()),
            self._objective.metric,
            higher_is_better=self._objective.maximize,
            n_repetitions=self._plan.research.repetitions if self._search.selects else 1,
        )
        objectives = self._search.rule.objectives
        if len(objectives) > 1:
            values = [[as_float(row.get(one.metric)) for one in objectives] for row in rows]
            front = set(pareto_front(values, objectives))
            for place, row in enumerate(rows):
                row["pareto_front"] = place in front
        return rows

    def refresh(self) -> None:
        """Bring the parent run up to date, where anything has ended since the last time."""
        counts = Counts(self._n_runs(), self.n_finished, self.n_failed, len(self._pruned))
        if self._written == counts:
            return
        self._written = counts
        rows = self.leaderboard()
        metric = self._objective.metric
        best = as_float(rows[0][metric]) if rows else math.nan
        progress: dict[str, float] = {
            "runs_done": counts.finished,
            "runs_failed": counts.failed,
            "runs_waiting": counts.waiting,
        }
        if self._search.selects:
            progress["runs_pruned"] = counts.pruned
        if math.isfinite(best):
            progress[f"best_mean_{metric}"] = best
        self._study.progress(progress)
        if rows:
            self._study.leaderboard(rows)
        reused = list(self._reused.values())
        text = describe_state(self._plan, self._search, rows, counts, reused)
        self._study.describe(
            text,
            metric,
            higher_is_better=self._objective.maximize,
            n_runs=counts.n_runs,
        )
        if self._reused:
            taken = {entry.identity: entry.run_id for entry in reused}
            with store_errors(f"write {REUSED} of run {self._study.run_id}"):
                self._study.client.log_text(self._study.run_id, json.dumps(taken), REUSED)


def as_float(value: object) -> float:
    """Return a number of a table; NaN for what is none."""
    return float(value) if isinstance(value, float | int) else math.nan
