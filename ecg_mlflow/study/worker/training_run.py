"""One run while it trains: its log, its checkpoints, resuming from them."""

from __future__ import annotations

import math
import os
import resource
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import CheckpointError, RunGoneError, StorageError
from ecg_mlflow.executors.devices import DEVICE_VARIABLE
from ecg_mlflow.executors.execution import describe_error, stop_requested
from ecg_mlflow.files import checkpoint_path, locked, remove_unfinished
from ecg_mlflow.models.build import weight_seed
from ecg_mlflow.pipeline import BatchSource
from ecg_mlflow.provenance import HEARTBEAT_S, ProcessMark, heartbeat, package_versions, worker_tags
from ecg_mlflow.study import jobs
from ecg_mlflow.study.jobs import RunEnd, RunJob, RunReport, Send
from ecg_mlflow.study.step_factory import make_step
from ecg_mlflow.study.worker import run_artifacts
from ecg_mlflow.study.worker.run_artifacts import final_metrics, prefixed
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.tracking.run_data import log_tags
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ecg_mlflow.training.evaluation import Evaluation, evaluate
from ecg_mlflow.training.loop import Branch, Paused

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus

#: Seconds to wait for a process that still holds a run's checkpoint, on its way out.
LOCK_S = 60.0
#: Seconds between two signs of life while nothing else is reported.
SIGN_S = 2.0
#: Other versions of these may round differently: a run resumed under them is not bit-exact.
DECISIVE = ("ecg_mlflow", "keras", "numba", "numpy", "tensorflow")
#: What a checkpoint has of a run as plain values, and the arrays that it has of an evaluation.
_PLAIN = (
    *("iteration", "tested", "seconds", "step_seconds", "ms_per_record"),
    *("tests", "best_iteration", "conclusion", "failure"),
)
_EVALUATION = ("rows", "targets", "probabilities", "counts")


class TrainingRun(Branch):
    """One run of a job: a branch of the loop with a log, a checkpoint and a lock on it.

    As a context manager it holds the lock. Its last report to the driver is `Ended`.

    Parameters
    ----------
    job
        What to train.
    send
        Sends plain data to the driver.

    Attributes
    ----------
    losses
        Of each iteration so far, in pieces of shape ``(n,)``.
    tests
        Iteration and metrics of each evaluation.
    last, best
        The last evaluation and the best one, once there is one.
    best_iteration, best_weights
        When the best was, and its weights, in Keras's order.
    ms_per_record
        What the quickest evaluation so far took for a record, in milliseconds.
    conclusion
        What the run ends with: computed once, so that logging it twice logs the same.
    failure
        Why the run failed: nothing is left but to deliver what it logged.
    """

    last: Evaluation
    best: Evaluation

    def __init__(self, job: RunJob, send: Send) -> None:
        super().__init__(job.run.config.n_iterations, job.run.config.tests)
        self.job = job
        self.key = job.run.key
        self.retry = RetryPolicy(on_wait=self._wait)
        self.setup_seconds = 0.0
        self.losses: list[npt.NDArray[np.float32]] = []
        self.tests: list[tuple[int, dict[str, float]]] = []
        self.best_iteration = 0
        self.best_weights: list[npt.NDArray[Any]] = []
        self.ms_per_record = math.inf
        self.conclusion: dict[str, Any] | None = None
        self.failure: dict[str, str] | None = None
        self.started = time.perf_counter()
        self._send = send
        self._reported_at = 0.0
        self._is_covered = True
        self._path = checkpoint_path(job.run_id)
        self._resources = ExitStack()

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
        job, retrying = self.job, self.retry.client(client)
        device = os.environ.get(DEVICE_VARIABLE, "cpu")
        marks = {**worker_tags(device), **ProcessMark.own().tags(), **heartbeat()}
        log_tags(retrying, job.run_id, marks)
        checkpoint = load_checkpoint(self._path)
        if checkpoint is not None:
            self._resume(checkpoint)
        elif retrying.get_run(job.run_id).data.metrics:
            raise CheckpointError(
                f"run {job.run_id} has losses in the store, but no checkpoint in {self._path}"
            )
        self.log = RunLog(
            client,
            job.run_id,
            held=True,
            heartbeat_s=HEARTBEAT_S,
            pending=checkpoint.state["pending"] if checkpoint else (),
            retry=self.retry,
        )
        self._resources.callback(self.log.abandon)
        if self.failure is not None:
            self._deliver_failure(self.failure)
            return False
        self.corpus, self.sources = corpus, sources
        seed = weight_seed(job.settings.seed, job.run.repetition)
        self.step = make_step(job.settings, job.run.config.data.input_shape, seed)
        if checkpoint is None:
            self.log.metrics({"trainable_parameters": self.step.n_parameters}, 0)
        else:
            self.step.restore(checkpoint.part("network"))
        if self.tests:
            self._report_tests(self.tests)
        return True

    def _resume(self, checkpoint: Checkpoint) -> None:
        """Take over everything that a checkpoint has but for the network's state."""
        job, state = self.job, checkpoint.state
        if state["identity"] != job.run.identity:
            raise CheckpointError("the checkpoint is of a run with another identity")
        for name in _PLAIN:
            setattr(self, name, state[name])
        self.losses = [checkpoint.arrays["losses"]]
        classes, positive = job.settings.classes, job.settings.positive
        for name in ("last", "best") if self.tests else ():
            found = Evaluation(**checkpoint.part(name), classes=classes, positive=positive)
            setattr(self, name, found)
        self.best_weights = [array for _, array in sorted(checkpoint.part("weights").items())]
        before = state["versions"]
        changed = [
            f"{name} {before.get(name)} to {now}"
            for name, now in package_versions(*DECISIVE).items()
            if before.get(name) != now
        ]
        if changed:
            self._note(f"goes on under other versions, not bit for bit: {', '.join(changed)}")

    # --- Called by the loop --------------------------------------------------------------------

    def log_losses(
        self, first_iteration: int, values: npt.NDArray[np.float32], times_ms: list[int]
    ) -> None:
        """Keep, log and report the losses of consecutive iterations."""
        self.losses.append(values)
        self.log.add("loss", values, first_iteration, times_ms)
        self.report(jobs.Trained(self.key, first_iteration + len(values), float(values[-1])))

    def test(self, iteration: int) -> None:
        """Evaluate after this iteration, and keep the weights if they are the best so far."""
        self.last = self.evaluate(self.job.monitored)
        if not self.tests or self.last.objective > self.best.objective:
            self.best, self.best_iteration = self.last, iteration
            self.best_weights = self.step.weights()
        self.tests.append((iteration, self.last.metrics))
        self.log.metrics(final_metrics(self), iteration)
        self._report_tests(self.tests[-1:])

    def _report_tests(self, tests: Sequence[tuple[int, Mapping[str, float]]]) -> None:
        named = [(iteration, prefixed(self.job.monitored, found)) for iteration, found in tests]
        self.report(jobs.Evaluated(self.key, named))

    def save(self) -> None:
        """Write a checkpoint, and release the metrics that it covers.

        If the disk is full, the training continues: the metrics wait for the next checkpoint, or
        for the run's end.
        """
        self._write(self.step.state())
        if self._is_covered:
            self.log.release()
            self.report(jobs.Saved(self.key, self.iteration))

    def _write(self, network: Mapping[str, npt.NDArray[Any]]) -> None:
        """Write a checkpoint, and note whether the disk had room for it."""
        arrays = {f"network/{name}": array for name, array in network.items()}
        arrays |= {f"weights/{i:04d}": array for i, array in enumerate(self.best_weights)}
        arrays["losses"] = np.concatenate([np.empty(0, np.float32), *self.losses])
        for name in ("last", "best") if self.tests else ():
            arrays |= {f"{name}/{key}": getattr(getattr(self, name), key) for key in _EVALUATION}
        state = {name: getattr(self, name) for name in _PLAIN} | {
            "identity": self.job.run.identity,
            "versions": package_versions(*DECISIVE),
            "pending": self.log.pending(),
        }
        try:
            save_checkpoint(self._path, Checkpoint(state, arrays))
            self._is_covered = True
        except StorageError as error:
            if self._is_covered:  # said once, and not at each further try
                self._note(f"no checkpoint at iteration {self.iteration}: {error}")
            self._is_covered = False

    def end(self) -> None:
        """Log what the run ends with, and report that it is done.

        Once the store has everything, the run is marked as complete and the checkpoint is gone: a
        driver that dies before it closes the run finds it finished.
        """
        final = run_artifacts.final_test(self)
        if self.conclusion is None:
            self.conclusion = {
                "metrics": final_metrics(self, final),
                "speed": self._speed(),
                "time_ms": time.time_ns() // 1_000_000,
            }
            self.save()
        self._drop_uncovered_checkpoint()
        run_artifacts.log_results(self, self.conclusion, final)
        self._deliver_all()
        self.log.complete()
        self._path.unlink(missing_ok=True)
        metrics = {
            "loss": float(self.losses[-1][-1]),
            "trainable_parameters": self.step.n_parameters,
            **self.conclusion["speed"],
            **self.conclusion["metrics"],
        }
        self.report(jobs.Ended(self.key, RunEnd.DONE, metrics=metrics))

    def _speed(self) -> dict[str, float]:
        # MLflow's own prefix for figures of the machine: the UI shows them apart from the metrics.
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return {
            "system/iterations_per_second": self.n_iterations / self.seconds,
            "system/time_outside_step": 1 - self.step_seconds / self.seconds,
            "system/setup_seconds": self.setup_seconds,
            # Bytes on macOS, KiB elsewhere.
            "system/worker_peak_memory_mb": peak / 2 ** (20 if sys.platform == "darwin" else 10),
            "system/ms_per_record": self.ms_per_record,
        }

    def fail(self, error: Exception) -> None:
        """Deliver the losses before the error, and report it.

        A run that ran out of memory has not failed: it may be resumed from its checkpoint. So may
        one that is gone from the store, where somebody brings it back.
        """
        if _end_by(error) in (RunEnd.OUT_OF_MEMORY, RunEnd.GONE):
            self.log.abandon()
            self.report_error(error)
            return
        self.failure = describe_error(error)
        self._write({})
        self._deliver_failure(self.failure)

    def _deliver_failure(self, failure: Mapping[str, str]) -> None:
        self._deliver_all()
        self._report_end(RunEnd.FAILED, failure)

    def withdraw(self) -> None:
        """Deliver the losses so far, and report that the run ends here.

        The driver has tagged it as pruned before it sent the message: nobody resumes it.
        """
        self._deliver_all()
        run_artifacts.log_curves(self)
        self._path.unlink(missing_ok=True)
        self.report(jobs.Ended(self.key, RunEnd.PRUNED, self.withdrawn or ""))

    def _deliver_all(self) -> None:
        self._drop_uncovered_checkpoint()
        self.log.release()
        self.log.flush()

    def _drop_uncovered_checkpoint(self) -> None:
        """Remove a checkpoint that does not cover all metrics because the disk was full.

        To be called before the last metrics go to the store: a process that resumed from that
        checkpoint would log them again. Without it, the run begins anew in another child.
        """
        if not self._is_covered:
            self._path.unlink(missing_ok=True)

    # --- Evaluations and reports ---------------------------------------------------------------

    def evaluate(self, side: str) -> Evaluation:
        """Score the records of one side with the present weights.

        Raises
        ------
        Paused
            If the driver wants the run to stop.
        """
        settings = self.job.settings
        epoch = self.sources[side].epoch(settings.seed, self.job.run.repetition, 0, shuffle=False)
        began = time.perf_counter()
        names, multilabel = (settings.classes, settings.positive), settings.multilabel
        evaluation = evaluate(
            self.step.predict, epoch, *names, self._give_sign, multilabel=multilabel
        )
        spent_ms = 1e3 * (time.perf_counter() - began)
        # The first evaluation compiles, others may share the machine: the fastest is meant.
        self.ms_per_record = min(self.ms_per_record, spent_ms / len(evaluation.rows))
        return evaluation

    def _give_sign(self) -> None:
        """Show the driver that this is a slow evaluation and no hang; stop if it was requested."""
        if stop_requested():
            raise Paused
        if time.monotonic() - self._reported_at > SIGN_S:
            self.report(RunReport(self.key))

    def _wait(self, waited_s: float, error: BaseException) -> None:
        self.report(jobs.StoreAway(self.key, waited_s, str(error).partition("\n")[0]))
        if stop_requested():
            raise Paused

    def report_error(self, error: Exception) -> None:
        """Report that the run can't be opened or go on."""
        described = describe_error(error)
        if isinstance(error, RunGoneError):  # its message says it all
            described["reason"] = str(error)
        self._report_end(_end_by(error), described)

    def _report_end(self, end: RunEnd, error: Mapping[str, str]) -> None:
        self.report(jobs.Ended(self.key, end, error["reason"], error["error"]))

    def _note(self, text: str) -> None:
        self.report(jobs.Noted(self.key, text))

    def report(self, report: RunReport) -> None:
        """Send a report to the driver."""
        self._reported_at = time.monotonic()
        self._send({jobs.REPORT: report})


def _end_by(error: Exception) -> RunEnd:
    """Say how a run ends by an error, which is what the driver goes by."""
    if isinstance(error, TimeoutError):
        return RunEnd.BUSY
    if isinstance(error, CheckpointError):
        return RunEnd.LOST
    if isinstance(error, RunGoneError):
        return RunEnd.GONE
    # TensorFlow's own class can't be named here: this module loads without TensorFlow.
    is_oom = isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError"
    return RunEnd.OUT_OF_MEMORY if is_oom else RunEnd.FAILED
