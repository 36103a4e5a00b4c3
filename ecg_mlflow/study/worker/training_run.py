"""One run while it trains: what the loop reports to it, its checkpoints, resuming from them."""

from __future__ import annotations

import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import CheckpointError, StorageFullError
from ecg_mlflow.executors import DEVICE_VARIABLE, stop_requested
from ecg_mlflow.files import checkpoint_path, locked, remove_unfinished
from ecg_mlflow.models.build import weight_seed
from ecg_mlflow.pipeline import BatchSource
from ecg_mlflow.provenance import HEARTBEAT_S, ProcessMark, heartbeat, worker_tags
from ecg_mlflow.records.splits import TEST, VALIDATION
from ecg_mlflow.study.jobs import (
    REPORT,
    Ended,
    Evaluated,
    Noted,
    RunEnd,
    RunJob,
    RunReport,
    Saved,
    Send,
    StoreAway,
    Trained,
    described,
    is_out_of_memory,
)
from ecg_mlflow.study.step_factory import make_step
from ecg_mlflow.study.worker.run_artifacts import (
    FinalTest,
    final_metrics,
    log_curves,
    log_results,
    other_weights,
)
from ecg_mlflow.study.worker.run_state import RunState, versions
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.tracking.run_log import RunLog, log_tags
from ecg_mlflow.training import (
    Branch,
    Checkpoint,
    Evaluation,
    Paused,
    evaluate,
    load_checkpoint,
    save_checkpoint,
)

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus

#: Seconds to wait for a process that still holds a run's checkpoint, on its way out.
LOCK_S = 60.0
#: Seconds between two signs of life while nothing else is reported.
SIGN_S = 2.0


class TrainingRun:
    """One run of a job: a branch's observer, with a log, a checkpoint and a lock on it.

    As a context manager it holds the lock. Its last report to the driver is `Ended`.

    Parameters
    ----------
    job
        What to train.
    send
        Sends plain data to the driver.
    """

    def __init__(self, job: RunJob, send: Send) -> None:
        self.job = job
        self.state = RunState()
        self.retry = RetryPolicy(on_wait=self._wait)
        self.setup_seconds = 0.0
        self._started = time.perf_counter()
        self._send = send
        self._reported_at = 0.0
        self._is_covered = True
        self._path = checkpoint_path(job.run_id)
        self._resources = ExitStack()

    @property
    def age(self) -> float:
        """Seconds since the worker took this run up."""
        return time.perf_counter() - self._started

    def __enter__(self) -> Self:
        # A process that trained it before may still be writing its last checkpoint.
        self._resources.enter_context(locked(self._path, LOCK_S))
        remove_unfinished(self._path)
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    # --- The beginning -------------------------------------------------------------------------

    def open(
        self, client: MlflowClient, corpus: Corpus, sources: Mapping[str, BatchSource]
    ) -> bool:
        """Resume from the checkpoint if there is one, open the log and build the model.

        Returns
        -------
        Whether there is something to train: not where the run had failed, and its process died
        before it was reported.

        Raises
        ------
        CheckpointError
            If the run has been trained, and the checkpoint to resume from is missing or damaged.
        ModelError
            If the model can't be built.
        """
        job, settings = self.job, self.job.settings
        retrying = self.retry.client(client)
        device = os.environ.get(DEVICE_VARIABLE, "cpu")
        marks = {**worker_tags(device), **ProcessMark.own().tags(), **heartbeat()}
        log_tags(retrying, job.run_id, marks)
        checkpoint = load_checkpoint(self._path)
        if checkpoint is None and retrying.get_run(job.run_id).data.metrics:
            raise CheckpointError(
                f"run {job.run_id} has losses in the store, but no checkpoint in {self._path}"
            )
        if checkpoint is not None:
            self.state = RunState.from_checkpoint(
                checkpoint, job.identity, settings.classes, settings.positive
            )
            self._compare_versions(checkpoint.state["versions"])
        self.log = RunLog(
            client,
            job.run_id,
            held=True,
            heartbeat_s=HEARTBEAT_S,
            pending=self.state.pending,
            retry=self.retry,
        )
        self._resources.callback(self.log.abandon)
        if self.state.failure is not None:
            self._deliver_failure(self.state.failure)
            return False
        self.corpus, self.sources = corpus, sources
        self._build(checkpoint)
        if self.state.tests:
            self._report_tests(self.state.tests)
        return True

    def _build(self, checkpoint: Checkpoint | None) -> None:
        job, settings, state = self.job, self.job.settings, self.state
        seed = weight_seed(settings.seed, job.repetition)
        self.step = make_step(settings, job.input_shape, seed)
        if checkpoint is None:
            self.log.metrics({"trainable_parameters": self.step.n_parameters}, 0)
        else:
            self.step.restore(checkpoint.part("network"))
        self.branch = Branch(
            self,
            job.n_iterations,
            job.tests,
            state.iteration,
            state.tested,
            state.seconds,
            state.step_seconds,
        )

    def _compare_versions(self, before: Mapping[str, str]) -> None:
        changed = {
            name: f"{before.get(name)} to {now}"
            for name, now in versions().items()
            if before.get(name) != now
        }
        if changed:
            listed = ", ".join(f"{name} {change}" for name, change in changed.items())
            self._note(f"goes on under other versions, not bit for bit: {listed}")

    # --- Called by the loop --------------------------------------------------------------------

    def losses(
        self, first_iteration: int, values: npt.NDArray[np.float32], times_ms: list[int]
    ) -> None:
        """Keep, log and report the losses of consecutive iterations."""
        self.state.losses.append(values)
        self.log.losses(values, first_iteration, times_ms)
        self.report(Trained(self.job.key, first_iteration + len(values), float(values[-1])))

    def test(self, iteration: int) -> None:
        """Evaluate after this iteration, and keep the weights if they are the best so far."""
        state, name = self.state, self.job.monitored
        evaluation = self.evaluate(name)
        state.last = evaluation
        if state.best is None or evaluation.objective > state.best.objective:
            state.best, state.best_iteration = evaluation, iteration
            state.best_weights = self.step.weights()
        state.tests.append((iteration, evaluation.metrics))
        best = {f"best_{name}_{self.job.settings.objective}": state.best.objective}
        metrics = {f"{name}_{key}": value for key, value in evaluation.metrics.items()}
        self.log.metrics({**metrics, **best}, iteration)
        self._report_tests(state.tests[-1:])

    def _report_tests(self, tests: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        name = self.job.monitored
        found = [
            (iteration, {f"{name}_{key}": value for key, value in metrics.items()})
            for iteration, metrics in tests
        ]
        self.report(Evaluated(self.job.key, found))

    def save(self) -> None:
        """Write a checkpoint, and release the metrics that it covers.

        If the disk is full, the training continues: the metrics wait for the next checkpoint, or
        for the run's end.
        """
        state, branch = self.state, self.branch
        state.iteration, state.tested = branch.iteration, branch.tested
        state.seconds, state.step_seconds = branch.seconds, branch.step_seconds
        self._is_covered = self._write(self.step.state())
        if self._is_covered:
            self.log.release()
            self.report(Saved(self.job.key, branch.iteration))

    def _write(self, network: Mapping[str, npt.NDArray[Any]]) -> bool:
        checkpoint = self.state.to_checkpoint(self.job.identity, network, self.log.pending())
        try:
            save_checkpoint(self._path, checkpoint)
        except StorageFullError as error:
            if self._is_covered:  # said once, and not at each further try
                self._note(f"no checkpoint at iteration {self.state.iteration}: {error}")
            return False
        return True

    def end(self) -> None:
        """Log what the run ends with, and report that it is done.

        Once the store has everything, the run is marked as complete and the checkpoint is gone: a
        driver that dies before it closes the run finds it finished.
        """
        state = self.state
        final = self._final_test()
        if state.conclusion is None:
            state.conclusion = {
                "metrics": final_metrics(self.job, state, final),
                "speed": self._speed(),
                "time_ms": time.time_ns() // 1_000_000,
            }
            self.save()
        self.drop_uncovered_checkpoint()
        log_results(self.log, self.job, state, self.step, self.corpus, final)
        self.log.release()
        self.log.flush()
        self.log.complete()
        self._path.unlink(missing_ok=True)
        metrics = {
            "loss": float(state.losses[-1][-1]),
            "trainable_parameters": self.step.n_parameters,
            **state.conclusion["speed"],
            **state.conclusion["metrics"],
        }
        self.report(Ended(self.job.key, RunEnd.DONE, metrics=metrics))

    def _final_test(self) -> FinalTest:
        """Test the last and the best weights, on the test records where those are to be scored."""
        state, side = self.state, self.job.monitored
        assert state.last is not None, "the schedule always tests at the end"
        assert state.best is not None
        if side != VALIDATION or not self.job.scores_test:
            return FinalTest(side, state.last, state.best)
        last = self.evaluate(TEST)
        with other_weights(self.step, state.best_weights):
            return FinalTest(TEST, last, self.evaluate(TEST))

    def _speed(self) -> dict[str, float]:
        # MLflow's own prefix for figures of the machine: the UI shows them apart from the metrics.
        branch = self.branch
        return {
            "system/iterations_per_second": self.job.n_iterations / branch.seconds,
            "system/time_outside_step": 1 - branch.step_seconds / branch.seconds,
            "system/setup_seconds": self.setup_seconds,
            "system/worker_peak_memory_mb": _peak_memory_mb(),
            "system/ms_per_record": self.state.ms_per_record,
        }

    def fail(self, error: Exception) -> None:
        """Deliver the losses before the error, and report it.

        A run that ran out of memory has not failed: it may be resumed from its checkpoint.
        """
        if is_out_of_memory(error):
            self.report_end(RunEnd.OUT_OF_MEMORY, described(error))
            return
        self.state.failure = described(error)
        self._is_covered = self._write({})
        self._deliver_failure(self.state.failure)

    def _deliver_failure(self, failure: Mapping[str, str]) -> None:
        self._deliver_all()
        self.report_end(RunEnd.FAILED, failure)

    def withdraw(self, reason: str) -> None:
        """Deliver the losses so far, and report that the run ends here.

        The driver has tagged it as pruned before it sent the message: nobody resumes it.
        """
        self._deliver_all()
        log_curves(self.log, self.job, self.state)
        self._path.unlink(missing_ok=True)
        self.report(Ended(self.job.key, RunEnd.PRUNED, reason))

    def _deliver_all(self) -> None:
        self.drop_uncovered_checkpoint()
        self.log.release()
        self.log.flush()

    def drop_uncovered_checkpoint(self) -> None:
        """Remove a checkpoint that does not cover all metrics because the disk was full.

        To be called before the last metrics go to the store: a process that resumed from that
        checkpoint would log them again. Without it, the run begins anew in another child.
        """
        if not self._is_covered:
            self._path.unlink(missing_ok=True)

    def pause(self) -> None:
        """Deliver what the last checkpoint covers, for as long as the driver gives."""
        self.log.flush()

    # --- Evaluations and reports ---------------------------------------------------------------

    def evaluate(self, side: str) -> Evaluation:
        """Score the records of one side with the present weights.

        Raises
        ------
        Paused
            If the driver wants the run to stop.
        """
        settings, source = self.job.settings, self.sources[side]
        epoch = source.epoch(settings.seed, self.job.repetition, 0, shuffle=False)
        began = time.perf_counter()
        evaluation = evaluate(
            self.step.predict,
            epoch,
            settings.classes,
            settings.positive,
            self._give_sign,
            multilabel=settings.multilabel,
        )
        spent_ms = 1e3 * (time.perf_counter() - began)
        # The first evaluation compiles, others may share the machine: the fastest is meant.
        self.state.ms_per_record = min(self.state.ms_per_record, spent_ms / len(evaluation.rows))
        return evaluation

    def _give_sign(self) -> None:
        """Show the driver that this is a slow evaluation and no hang; stop if it was requested."""
        if stop_requested():
            raise Paused
        if time.monotonic() - self._reported_at > SIGN_S:
            self.report(RunReport(self.job.key))

    def _wait(self, waited_s: float, error: BaseException) -> None:
        self.report(StoreAway(self.job.key, waited_s, str(error).partition("\n")[0]))
        if stop_requested():
            raise Paused

    def report_end(self, end: RunEnd, error: Mapping[str, str]) -> None:
        """Report that the run has ended by an error, as `described` returns it."""
        self.report(Ended(self.job.key, end, error["reason"], error["error"]))

    def _note(self, text: str) -> None:
        self.report(Noted(self.job.key, text))

    def report(self, report: RunReport) -> None:
        """Send a report to the driver."""
        self._reported_at = time.monotonic()
        self._send({REPORT: report})


def _peak_memory_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, KiB elsewhere
