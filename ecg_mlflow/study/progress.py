"""Show a running study in the terminal: one bar, and one line per run that has ended."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from ecg_mlflow.search.objective import Objective
from ecg_mlflow.study.jobs import Evaluated, Noted, RunReport, StoreAway, Trained
from ecg_mlflow.study.listeners import StudyListener
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.resume import ResumeAction, RunDecision


class StudyProgress(StudyListener):
    """A bar over the whole study, in which each run weighs what it is estimated to cost.

    On a terminal the bar is redrawn in place; elsewhere only the lines of ended runs are written.

    Parameters
    ----------
    objective
        What values are of.
    n_runs
        Returns how many runs the study is going to have.
    seconds
        What one of them is estimated to cost in the mean.
    """

    def __init__(self, objective: Objective, n_runs: Callable[[], int], seconds: float) -> None:
        self._objective = objective
        self._n_runs = n_runs
        self._seconds = seconds
        self._done = 0
        self._pruned = 0
        self._failed = 0
        self._waiting: dict[str, int] = {}
        self._best: tuple[float, str] | None = None
        self._costs: dict[str, float] = {}
        self._shares: dict[str, float] = {}
        self._bar: tqdm[Any] = tqdm(
            total=1.0,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {desc}",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def known(self, decision: RunDecision) -> None:
        """Count a run that had ended before this session."""
        run = decision.run
        if decision.action is ResumeAction.LEAVE:
            self.failed(run, "failed before; retry_failed=true would try it again")
        elif decision.action in (ResumeAction.SKIP, ResumeAction.REUSE):
            assert decision.stored is not None
            self._count_done(run, decision.stored.metrics)

    def reported(self, run: PlannedRun, report: RunReport) -> None:
        """Note how far a run has come, or print what its worker says of it."""
        match report:
            case Trained(iteration=iteration):
                self._note_share(run, iteration / run.config.n_iterations)
            case Evaluated(tests=tests):
                self._note_share(run, (tests[-1][0] + 1) / run.config.n_iterations)
            case Noted(text=text):
                tqdm.write(f"{run.key} {run.config.name}: {text}", file=sys.stderr)
            case StoreAway(seconds=seconds, error=error) if self._is_new_minute(run, seconds):
                text = f"waits for the store ({seconds:.0f} s so far): {error[:300]}"
                self.reported(run, Noted(run.key, text))

    def _is_new_minute(self, run: PlannedRun, seconds: float) -> bool:
        before = self._waiting.get(run.key)
        self._waiting[run.key] = int(seconds // 60)
        return before != self._waiting[run.key]

    def finished(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Count a run that has finished."""
        value = self._count_done(run, metrics)
        self._line(run, f"{self._objective.metric} {value:.4f}")

    def _count_done(self, run: PlannedRun, metrics: Mapping[str, float]) -> float:
        self._done += 1
        self._note_share(run, 1.0)
        value = metrics.get(self._objective.metric, math.nan)
        merit = self._objective.merit
        if math.isfinite(value) and (self._best is None or merit(value) > merit(self._best[0])):
            self._best = value, run.key
        return value

    def pruned(self, run: PlannedRun, reason: str) -> None:
        """Count a run that was given up because others are better."""
        self._pruned += 1
        self._note_share(run, 1.0)
        self._line(run, reason)

    def failed(self, run: PlannedRun, reason: str) -> None:
        """Count a run that has failed."""
        self._failed += 1
        self._note_share(run, 1.0)
        self._line(run, f"FAILED: {reason}")

    def _note_share(self, run: PlannedRun, share: float) -> None:
        self._costs[run.key] = run.config.seconds
        self._shares[run.key] = share * run.config.seconds

    def refresh(self) -> None:
        """Redraw the bar."""
        # Runs that have begun are weighed by their own cost, those to come by the mean.
        to_come = max(self._n_runs() - len(self._shares), 0) * self._seconds
        done = sum(self._shares.values())
        total = sum(self._costs.values()) + to_come
        text = f"{self._done}/{self._n_runs()} runs"
        if self._pruned:
            text += f", {self._pruned} pruned"
        if self._failed:
            text += f", {self._failed} failed"
        if self._best:
            text += f", best {self._objective.metric} {self._best[0]:.4f} ({self._best[1]})"
        self._bar.set_description_str(text, refresh=False)
        self._bar.n = min(done / total, 1.0)
        self._bar.refresh()

    def _line(self, run: PlannedRun, what: str) -> None:
        ended, n_runs = self._done + self._failed + self._pruned, self._n_runs()
        width = len(str(n_runs))
        tqdm.write(
            f"[{ended:{width}}/{n_runs}] {run.key} {run.config.name}: {what}",
            file=sys.stderr,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()
