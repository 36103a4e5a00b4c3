"""A study's books: which runs have ended and how, and what the parent run shows of it."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ecg_mlflow.descriptions import describe_state, objective
from ecg_mlflow.plan import PlannedRun, StudyPlan
from ecg_mlflow.progress import StudyProgress
from ecg_mlflow.resuming import Action, Standing
from ecg_mlflow.tracking import LedgerEntry, Result, Study, leaderboard_rows


class Account:
    """The results of a study, in the terminal and in the parent run.

    Parameters
    ----------
    plan, study, progress
        The study, and where it is shown.
    """

    def __init__(self, plan: StudyPlan, study: Study, progress: StudyProgress) -> None:
        self._plan = plan
        self._study = study
        self._progress = progress
        self._objective = objective(plan)
        self._results: dict[str, Result] = {}
        self._failed: dict[str, str] = {}
        self._reused: dict[str, LedgerEntry] = {}
        self._written = -1

    @property
    def n_finished(self) -> int:
        """How many runs have finished, those of earlier sessions and studies included."""
        return len(self._results)

    @property
    def n_failed(self) -> int:
        """How many runs have failed."""
        return len(self._failed)

    def take_over(self, standing: Standing) -> None:
        """Enter a run that has ended before this session."""
        run, entry = standing.run, standing.entry
        assert entry is not None
        if standing.action is Action.LEAVE:
            self._failed[run.key] = "failed before"
            self._progress.failed(run, "failed before; retry_failed=true would try it again")
            return
        if standing.action is Action.REUSE:
            self._reused[run.key] = entry
        self._enter(run, entry.metrics)
        self._progress.found(run, self._value(entry.metrics))

    def finished(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Enter a run that has finished."""
        self._enter(run, metrics)
        self._progress.finished(run, self._value(metrics))

    def failed(self, run: PlannedRun, reason: str) -> None:
        """Enter a run that has failed for good."""
        self._failed[run.key] = reason
        self._progress.failed(run, reason)

    def _enter(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        self._results[run.key] = Result(run.config.config.alias(), metrics)

    def _value(self, metrics: Mapping[str, float]) -> float:
        return metrics.get(self._objective, math.nan)

    def leaderboard(self) -> list[dict[str, object]]:
        """Rank the configurations by what has finished so far."""
        return leaderboard_rows(list(self._results.values()), self._objective)

    def write(self) -> None:
        """Bring the parent run up to date, where anything has ended since the last time."""
        if self._written == len(self._results) + len(self._failed):
            return
        self._written = len(self._results) + len(self._failed)
        rows = self.leaderboard()
        best = rows[0][self._objective] if rows else math.nan
        progress: dict[str, float] = {
            "runs_done": self.n_finished,
            "runs_failed": self.n_failed,
            "runs_waiting": len(self._plan.runs) - self.n_finished - self.n_failed,
        }
        if isinstance(best, float) and math.isfinite(best):
            progress[f"best_mean_{self._objective}"] = best
        self._study.progress(progress)
        if rows:
            self._study.leaderboard(rows)
        reused = list(self._reused.values())
        text = describe_state(self._plan, rows, self.n_finished, self.n_failed, reused)
        self._study.describe(text, self._objective)
