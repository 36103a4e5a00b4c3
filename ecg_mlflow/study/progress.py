"""Show a running study in the terminal: one bar, and one line per run that has ended."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

from ecg_mlflow.study.jobs import Noted, RunReport, StoreAway, Trained
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.terminal import printable


class StudyProgress:
    """A bar over the whole study, in which each run weighs what it is estimated to cost.

    On a terminal the bar is redrawn in place; elsewhere only the lines of ended runs are written.

    Parameters
    ----------
    scheduler
        Knows all trials.
    seconds
        What one of their runs is estimated to cost in the mean.
    """

    def __init__(self, scheduler: TrialScheduler, seconds: float) -> None:
        self._scheduler = scheduler
        self._seconds = seconds
        self._n_ended = 0
        self._waiting: dict[str, int] = {}
        self._shares: dict[str, tuple[float, float]] = {}
        """By run, its cost and the share of it that is done."""
        self._bar: tqdm[Any] = tqdm(
            total=1.0,
            bar_format="{percentage:3.0f}%|{bar}| {elapsed}<{remaining} {desc}",
            file=sys.stderr,
            disable=not sys.stderr.isatty(),
            dynamic_ncols=True,
        )

    def reported(self, run: PlannedRun, report: RunReport) -> None:
        """Note how far a run has come, or print what its worker says of it."""
        text = ""
        match report:
            case Trained(iteration=iteration):
                self._shares[run.key] = run.config.seconds, iteration / run.config.n_iterations
            case Noted():
                text = report.text
            case StoreAway(seconds=seconds, error=error):
                before, minute = self._waiting.get(run.key), int(seconds // 60)
                self._waiting[run.key] = minute
                if minute != before:
                    text = f"waits for the store ({seconds:.0f} s so far): {error[:300]}"
        if text:
            _write(f"{run.key} {run.config.name}: {text}")

    def finished(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Print what a run has reached."""
        metric = self._scheduler.search.first.metric
        self.ended(run, f"{metric} {metrics.get(metric, math.nan):.4f}")

    def ended(self, run: PlannedRun, what: str) -> None:
        """Print how a run has ended."""
        self._shares[run.key] = run.config.seconds, 1.0
        self._n_ended += 1
        counts = self._scheduler.counts
        ended, width = counts.n_runs - counts.waiting, len(str(counts.n_runs))
        line = f"[{ended:{width}}/{counts.n_runs}] {run.key} {run.config.name}: {what}"
        _write(line)

    def refresh(self) -> None:
        """Redraw the bar."""
        counts, first = self._scheduler.counts, self._scheduler.search.first
        # Runs of this session that have begun are weighed by their own cost, others by the mean.
        others = max(counts.n_runs - len(self._shares), 0) * self._seconds
        before = max(counts.n_runs - counts.waiting - self._n_ended, 0) * self._seconds
        total = sum(cost for cost, _ in self._shares.values()) + others
        done = sum(cost * share for cost, share in self._shares.values()) + before
        text = f"{counts.finished}/{counts.n_runs} runs{counts}"
        reached = [
            (one[first.metric], trial.runs[repetition].key)
            for trial in self._scheduler.trials.values()
            for repetition, one in trial.metrics.items()
            if math.isfinite(one.get(first.metric, math.nan))
        ]
        if reached:
            best, key = max(reached, key=lambda one: first.merit(one[0]))
            text += f", best {first.metric} {best:.4f} ({key})"
        self._bar.set_description_str(text, refresh=False)
        self._bar.n = min(done / total, 1.0)
        self._bar.refresh()

    def close(self) -> None:
        """Leave the terminal to others."""
        self._bar.close()


def _write(line: str) -> None:
    """Write a line above the bar, one line whatever names in it hold."""
    tqdm.write(printable(line.replace("\n", " ")), file=sys.stderr)
