"""The driver: opens the study, hands runs to workers, watches them, keeps the study's account.

It decides and logs; it never trains, loads no TensorFlow and holds no GPU.
"""

from __future__ import annotations

import json
import math
import signal
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, ModuleType

from mlflow import MlflowClient

from ecg_mlflow.descriptions import (
    dataset_infos,
    describe_state,
    full_configuration,
    objective,
    run_params,
    study_params,
)
from ecg_mlflow.executors import Event, Executor, Job, Outcome, OutcomeState, Slot
from ecg_mlflow.handover import make_executor, pickle_for_worker
from ecg_mlflow.job import TrainJob
from ecg_mlflow.plan import PlannedRun, StudyPlan
from ecg_mlflow.progress import StudyProgress
from ecg_mlflow.records import list_bad_records
from ecg_mlflow.tracking import EndStatus, Result, Study, leaderboard_rows


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
    grid_file, module
        Where the research comes from.
    log_dir
        For the workers' output.
    """

    experiment: str
    run_id: str | None
    slots: Sequence[Slot]
    grid_file: Path
    module: ModuleType | None = None
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

    Runs that fail don't stop the others. Ctrl-C and SIGTERM stop the workers, which flush; their
    runs and the study end as KILLED.
    """
    name = plan.research.name or "study"
    tags = {"ecg_mlflow.plan": plan.digest[:16], "ecg_mlflow.corpus": plan.corpus.digest[:16]}
    with (
        _sigterm_as_interrupt(),
        Study.open(client, options.experiment, name, run_id=options.run_id, tags=tags) as study,
        StudyProgress(plan) as progress,
    ):
        _describe_study(study, plan, options)
        executor = make_executor("ecg_mlflow.job:train", options.slots, options.log_dir)
        with executor:
            account = _Account(plan, study, progress, options)
            account.run(executor)
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
        self._module = options.module
        self._datasets = {config.index: dataset_infos(plan, config) for config in plan.configs}
        self._waiting = deque(plan.runs)
        self._running: dict[str, tuple[PlannedRun, str]] = {}
        self._results: list[Result] = []
        self._failed = 0

    def run(self, executor: Executor) -> None:
        """Keep every slot busy until all runs have ended."""
        while self._waiting or self._running:
            while self._waiting and executor.free_slots:
                self._submit(executor, self._waiting.popleft())
            for report in executor.events(timeout=1.0):
                if isinstance(report, Event):
                    run, _ = self._running[report.key]
                    self._progress.update(run, report.data)
                elif isinstance(report, Outcome):
                    self._end(report)
            self._progress.refresh()

    def result(self) -> StudyResult:
        """Return how the study went."""
        return StudyResult(
            self._study.run_id, len(self._results), self._failed, self._leaderboard()
        )

    def _submit(self, executor: Executor, run: PlannedRun) -> None:
        config = run.config
        run_id = self._study.create_child(
            f"{run.key} {config.name}", run_params(run), {"ecg_mlflow.identity": run.identity}
        )
        self._study.client.log_text(
            run_id, json.dumps(full_configuration(run), indent=2), "configuration.json"
        )
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
            self._datasets[config.index],
        )
        self._running[run.key] = run, run_id
        executor.submit(Job(run.key, pickle_for_worker(job, self._module), config.seconds))

    def _end(self, outcome: Outcome) -> None:
        run, run_id = self._running.pop(outcome.key)
        if outcome.state is OutcomeState.DONE:
            self._study.finish_child(run_id, EndStatus.FINISHED)
            metrics = outcome.value["metrics"]
            self._results.append(Result(run.config.config.alias(), metrics))
            self._progress.finished(run, metrics[self._objective])
        else:
            killed = outcome.state is OutcomeState.CANCELLED
            self._failed += not killed
            if outcome.error:
                self._study.client.log_text(run_id, outcome.error, "error.txt")
            status = EndStatus.KILLED if killed else EndStatus.FAILED
            self._study.finish_child(run_id, status, outcome.reason)
            self._progress.failed(run, outcome.reason or outcome.state.value)
        self._write_account()

    def _write_account(self) -> None:
        rows = self._leaderboard()
        best = rows[0][self._objective] if rows else math.nan
        progress = {
            "runs_done": len(self._results),
            "runs_failed": self._failed,
            "runs_waiting": len(self._waiting) + len(self._running),
        }
        if isinstance(best, float) and math.isfinite(best):
            progress[f"best_mean_{self._objective}"] = best  # type: ignore[assignment]
        self._study.progress(progress)
        if rows:
            self._study.leaderboard(rows)
        text = describe_state(self._plan, rows, self._objective, len(self._results), self._failed)
        self._study.describe(text, self._objective)

    def _leaderboard(self) -> list[dict[str, object]]:
        return leaderboard_rows(self._results, self._objective)

    @property
    def _objective(self) -> str:
        return objective(self._plan)


def _describe_study(study: Study, plan: StudyPlan, options: StudyOptions) -> None:
    client = study.client
    study.params(study_params(plan))
    client.log_artifact(study.run_id, str(options.grid_file), "design")
    client.log_text(study.run_id, json.dumps(plan.describe(), indent=1), "design/plan.json")
    if plan.bad:
        client.log_text(study.run_id, "\n".join(list_bad_records(plan.bad)), "left_out.txt")
    study.describe(describe_state(plan, [], objective(plan), 0, 0), objective(plan))


@contextmanager
def _sigterm_as_interrupt() -> Iterator[None]:
    """Let SIGTERM end the study in order, as Ctrl-C does."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt("SIGTERM")

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
