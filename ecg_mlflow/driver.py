"""The driver: opens the study, hands runs to workers, watches them, keeps the study's account.

It decides and logs; it never trains, loads no TensorFlow and holds no GPU.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from mlflow import MlflowClient

from ecg_mlflow.descriptions import (
    dataset_infos,
    describe_state,
    describe_study,
    full_configuration,
    objective,
    run_name,
    run_params,
)
from ecg_mlflow.executors import Event, Executor, Job, Outcome, OutcomeState, Slot
from ecg_mlflow.handover import make_executor, pickle_for_worker
from ecg_mlflow.interrupts import StopRequest, stop_on_signals
from ecg_mlflow.job import TrainJob
from ecg_mlflow.plan import PlannedRun, StudyPlan
from ecg_mlflow.progress import StudyProgress
from ecg_mlflow.tracking import (
    DatasetInfo,
    EndStatus,
    Result,
    Study,
    leaderboard_rows,
    log_datasets,
)
from ecg_mlflow.tracking.client import store_errors


@dataclass(frozen=True)
class StudyOptions:
    """How a study is run, as opposed to what it computes.

    Attributes
    ----------
    experiment
        MLflow experiment for a new parent run.
    run_id
        Parent run that ``mlflow run`` has created, if it has.
    slots
        Where runs train; none for this process.
    grid_file, modules
        Where the research comes from, and the modules whose code workers get by value.
    log_dir
        For the workers' output.
    """

    experiment: str
    run_id: str | None
    slots: Sequence[Slot]
    grid_file: Path
    modules: Sequence[ModuleType] = ()
    log_dir: Path | None = None


@dataclass(frozen=True)
class StudyResult:
    """How a study ended: its runs by end, and the leaderboard."""

    run_id: str
    finished: int
    failed: int
    leaderboard: list[dict[str, object]]


def run_study(plan: StudyPlan, client: MlflowClient, options: StudyOptions) -> StudyResult:
    """Run every planned run once and return how it went.

    Runs that fail don't stop the others.

    Raises
    ------
    KeyboardInterrupt
        After Ctrl-C or SIGTERM: the workers have flushed what they had, their runs and the study
        have ended as KILLED. A second signal of the same kind leaves the workers no time.
    TrackingError
        If the store fails; the study ends as FAILED then, where it still can.
    """
    name = plan.research.name or "study"
    tags = {"ecg_mlflow.plan": plan.digest[:16], "ecg_mlflow.corpus": plan.corpus.digest[:16]}
    with (
        stop_on_signals() as stop,
        Study.open(client, options.experiment, name, run_id=options.run_id, tags=tags) as study,
        StudyProgress(plan) as progress,
    ):
        describe_study(study, plan, options.grid_file)
        log_datasets(client, study.run_id, dataset_infos(plan.corpus, plan.configs[0]))
        account = _Account(plan, study, progress, options)
        executor = make_executor("ecg_mlflow.job:train", options.slots, options.log_dir)
        try:
            with executor:
                account.run(executor, stop)
        except KeyboardInterrupt:
            account.settle(executor)
            raise
        result = account.result()
        study.close(
            EndStatus.FAILED if result.failed else EndStatus.FINISHED,
            f"{result.failed} of {len(plan.runs)} runs failed" if result.failed else None,
        )
    return result


class _Account:
    """Who runs, who has ended and how: the driver's loop and the study's books."""

    def __init__(
        self, plan: StudyPlan, study: Study, progress: StudyProgress, options: StudyOptions
    ) -> None:
        self._plan = plan
        self._study = study
        self._progress = progress
        self._modules = options.modules
        self._objective = objective(plan)
        self._datasets: dict[int, dict[str, DatasetInfo]] = {}
        self._waiting = deque(plan.runs)
        self._running: dict[str, tuple[PlannedRun, str]] = {}
        self._results: list[Result] = []
        self._failed = 0

    def run(self, executor: Executor, stop: StopRequest) -> None:
        """Keep every slot busy until all runs have ended."""
        while self._waiting or self._running:
            n_ended = len(self._results) + self._failed
            for report in executor.events(timeout=1.0):
                if isinstance(report, Event):
                    run, _ = self._running[report.key]
                    self._progress.update(run, report.data)
                elif isinstance(report, Outcome):
                    self._end(report)
            while self._waiting and executor.free_slots:
                stop.check()
                self._submit(executor, self._waiting.popleft())
            stop.check()
            # After the next runs were handed out: no worker waits for the books.
            if n_ended < len(self._results) + self._failed:
                self._write_account()
            self._progress.refresh()

    def settle(self, executor: Executor) -> None:
        """Take note of how the runs ended that the executor has stopped."""
        for report in executor.events(timeout=0.0):
            if isinstance(report, Outcome):
                self._end(report)
        self._write_account()

    def result(self) -> StudyResult:
        """Return how the study went."""
        return StudyResult(
            self._study.run_id, len(self._results), self._failed, self._leaderboard()
        )

    def _submit(self, executor: Executor, run: PlannedRun) -> None:
        config = run.config
        run_id = self._study.create_child(
            run_name(run), run_params(run), {"ecg_mlflow.identity": run.identity}
        )
        self._running[run.key] = run, run_id
        if config.index not in self._datasets:  # the repetitions of a configuration share them
            self._datasets[config.index] = dataset_infos(self._plan.corpus, config)
        datasets = self._datasets[config.index]
        # Here and not in the workers, which would race for the first entry in MLflow's table.
        log_datasets(self._study.client, run_id, datasets)
        self._write(run_id, "configuration.json", json.dumps(full_configuration(run), indent=2))
        job = TrainJob(
            run_id,
            self._study.client.tracking_uri,
            self._plan.corpus.path,
            config.settings,
            config.data.sides,
            config.data.input_shape,
            run.repetition,
            config.n_iterations,
            config.tests,
            datasets,
        )
        executor.submit(Job(run.key, pickle_for_worker(job, self._modules), config.seconds))

    def _end(self, outcome: Outcome) -> None:
        run, run_id = self._running.pop(outcome.key)
        if outcome.state is OutcomeState.DONE:
            self._study.finish_child(run_id, EndStatus.FINISHED)
            metrics = outcome.value["metrics"]
            self._results.append(Result(run.config.config.alias(), metrics))
            self._progress.finished(run, metrics.get(self._objective, math.nan))
            return
        reason = outcome.reason or outcome.state.value
        if outcome.state is OutcomeState.CANCELLED:
            self._study.finish_child(run_id, EndStatus.KILLED, reason)
            self._progress.stopped(run)
            return
        self._failed += 1
        if outcome.error:
            self._write(run_id, "error.txt", outcome.error)
        self._study.finish_child(run_id, EndStatus.FAILED, reason)
        self._progress.failed(run, reason)

    def _write(self, run_id: str, name: str, text: str) -> None:
        with store_errors(f"write {name} of run {run_id}"):
            self._study.client.log_text(run_id, text, name)

    def _write_account(self) -> None:
        rows = self._leaderboard()
        best = rows[0][self._objective] if rows else math.nan
        progress: dict[str, float] = {
            "runs_done": len(self._results),
            "runs_failed": self._failed,
            "runs_waiting": len(self._waiting) + len(self._running),
        }
        if isinstance(best, float) and math.isfinite(best):
            progress[f"best_mean_{self._objective}"] = best
        self._study.progress(progress)
        if rows:
            self._study.leaderboard(rows)
        text = describe_state(self._plan, rows, len(self._results), self._failed)
        self._study.describe(text, self._objective)

    def _leaderboard(self) -> list[dict[str, object]]:
        return leaderboard_rows(self._results, self._objective)
