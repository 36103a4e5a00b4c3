"""One training outside of a study while it is logged, with the layout of a study's runs."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Self

import mlflow
import numpy as np

from ecg_mlflow.errors import AutologError, TrackingError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.live_results import LiveResults, log_network
from ecg_mlflow.provenance import HEARTBEAT_S, ProcessMark, heartbeat
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.retry import RetryPolicy, store_errors
from ecg_mlflow.tracking.run_data import log_new_params, log_tags, metric_name
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.runs import REASON_TAG, EndStatus
from ecg_mlflow.training.evaluation import Evaluation

if TYPE_CHECKING:
    import keras

#: Seconds to wait for a store that is away before a training goes on without it.
RETRY_LIMIT_S = 120.0
#: Longest time in seconds for which losses stay on the device.
FETCH_S = 2.0
#: A training was logged in this run of the user's; the next one gets a run under it.
TRAINED_TAG = "ecg_mlflow.trained"


class LiveRun:
    """A context manager that logs a training loop of the user's own; from `start_run`.

    On leaving the block everything is delivered, with the curves, predictions, figures and
    models that a study's runs have, and the run is FINISHED. After an error it is FAILED, after
    Ctrl-C KILLED, and has the losses and metrics so far.

    Parameters
    ----------
    name
        Name of the run; MLflow makes one up for None.
    params
        Params to log.
    joins
        Log in the active MLflow run, if there is one and no training was logged in it before, and
        leave it open.

    Attributes
    ----------
    iteration
        The next iteration, from 0.
    log_models
        Whether the end logs the networks that were tested.
    speed
        Figures of the machine, to log at the end.
    paused_s
        Seconds spent on tests so far.
    results
        What it has reached so far.
    """

    def __init__(
        self,
        name: str | None = None,
        params: Mapping[str, object] | None = None,
        *,
        joins: bool = False,
    ) -> None:
        self.iteration = 0
        self.log_models = True
        self.speed: dict[str, float] = {}
        self.results = LiveResults()
        self._name, self._params, self._joins = name, dict(params or {}), joins
        self._run_id: str | None = None
        self._is_open = False
        self._waiting: list[tuple[int, Any, int]] = []
        self.paused_s = 0.0
        self._fetched, self._span_ms = 0.0, (0, 0, 0.0)
        self._networks: set[str] = set()

    # --- The run -------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run's id in MLflow, in the block and after it."""
        if self._run_id is None:
            self._check_open()
        return str(self._run_id)

    def _check_open(self) -> None:
        if not self._is_open:
            raise AutologError(
                "this run is not open: log inside of `with ecg_mlflow.start_run() as log:`"
            )

    def __enter__(self) -> Self:
        if self._run_id is not None:
            raise AutologError(f"this was run {self._run_id}; start another one")
        self._client, active = connect(), mlflow.active_run()
        marks = {**ProcessMark.own().tags(), **heartbeat()}
        with store_errors("start a run"):
            if (
                active is not None
                and self._joins
                and TRAINED_TAG not in self._client.get_run(active.info.run_id).data.tags
            ):
                self._run_id = str(active.info.run_id)
                log_tags(self._client, self._run_id, {**marks, TRAINED_TAG: "true"})
            else:
                self._joins = False
                # MLflow's own way: it knows the experiment, and what `mlflow run` has begun.
                run = mlflow.start_run(run_name=self._name, nested=active is not None, tags=marks)
                self._run_id = str(run.info.run_id)
        try:
            self._is_open = True
            retry = RetryPolicy(limit_s=RETRY_LIMIT_S)
            self.log = RunLog(self._client, self._run_id, heartbeat_s=HEARTBEAT_S, retry=retry)
            self.params(self._params)
        except BaseException as error:
            self._end(error)
            raise
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self._check_open()
        late = error
        try:
            try:
                self._deliver(conclude=error is None)
            except BaseException as problem:
                late = late or problem
                raise
            finally:  # even if nothing else can be delivered, the run must not stay RUNNING
                self._is_open = False
                self._end(late)
        except (TrackingError, AutologError) as lost:
            if error is None:
                raise
            error.add_note(str(lost))

    def _deliver(self, *, conclude: bool) -> None:
        with self.log:
            self._fetch()
            if conclude:
                begin, end, paused = self._span_ms
                if end - begin > paused:
                    rate = 1e3 * (len(self.results.losses) - 1) / (end - begin - paused)
                    self.speed["system/iterations_per_second"] = rate
                self.metrics(self.speed)
                self.results.conclude(self.log, models=self.log_models)

    def _end(self, error: BaseException | None) -> None:
        """End the run, if it was opened here: KILLED by an interrupt, FAILED by an error."""
        status = EndStatus.FINISHED
        if error is not None:
            interrupted = isinstance(error, KeyboardInterrupt)
            status = EndStatus.KILLED if interrupted else EndStatus.FAILED
            log_tags(self._client, self.run_id, {REASON_TAG: f"{type(error).__name__}: {error}"})
        if self._joins:
            return
        active = mlflow.active_run()
        with store_errors(f"end run {self.run_id} as {status}"):
            if active is not None and active.info.run_id == self.run_id:
                mlflow.end_run(status.value)
            else:
                self._client.set_terminated(self.run_id, status=status.value)

    # --- Logging -------------------------------------------------------------------------------

    @property
    def last_iteration(self) -> int:
        """The present iteration: that of the last loss, and 0 before it."""
        return max(self.iteration - 1, 0)

    def loss(self, value: Any, iteration: int | None = None) -> None:
        """Log the loss of an iteration; it may be a scalar on a device, and is not waited for.

        Parameters
        ----------
        value
            A number, or a scalar of NumPy, TensorFlow, JAX or PyTorch.
        iteration
            Later than the one before; by default the next.

        Raises
        ------
        AutologError
            The iteration is not later, or the value no number.
        """
        self._check_open()
        now = self.iteration if iteration is None else int(iteration)
        if now < self.iteration:
            raise AutologError(
                f"the loss of iteration {now} came after that of iteration {self.last_iteration}; "
                "iterations must grow, and count from 0"
            )
        self._waiting.append((now, value, time.time_ns() // 1_000_000))
        self.iteration = now + 1
        if time.monotonic() - self._fetched > FETCH_S:
            self._fetch()

    def losses(self, values: Iterable[tuple[float, int]]) -> None:
        """Log the losses of the next iterations, each with its time in ms since 1970."""
        for value, time_ms in values:
            self._waiting.append((self.iteration, value, time_ms))
            self.iteration += 1
        self._fetch()

    def metric(self, name: str, value: float) -> None:
        """Log a metric at the present iteration."""
        self.metrics({name: value})

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log metrics at the present iteration; MLflow's forbidden characters are spelled out."""
        self._check_open()
        named = {metric_name(name): float(value) for name, value in values.items()}
        self.log.metrics(named, self.last_iteration)

    def params(self, values: Mapping[str, object]) -> None:
        """Log params; one that the run has already keeps its value."""
        self._check_open()
        log_new_params(self.log.client, self.run_id, values)

    def test(
        self,
        records: Sequence[object] | None,
        labels: Any,
        probabilities: Any,
        *,
        classes: Sequence[str],
        positive: str | None = None,
        multilabel: bool = False,
        model: keras.Model | None = None,
    ) -> dict[str, float]:
        """Score predictions by record, at the present iteration.

        Parameters
        ----------
        records
            For each row the name of its record, whose rows are averaged; None where each row is a
            record of its own.
        labels
            For each row a name or an index of a class, or a row of 0 and 1.
        probabilities
            Shape (n, n_classes).
        classes, positive
            Names of the classes, and the one that F1 is of, the first by default.
        multilabel
            A record may be of several classes or of none.
        model
            The network that has predicted: its weights are kept if they are the best so far, and
            the end of the block logs it as ``best`` and ``last``. Its outputs are taken as they
            are, so that it should end in probabilities.

        Returns
        -------
        The metrics, by the names that a study's tests have without their ``test_``.

        Raises
        ------
        AutologError
            Something doesn't fit together.
        """
        known = LabelledRecords.of(labels, records, classes, positive, "log.test")
        found = np.asarray(probabilities, np.float64)
        if len(found) != len(known.place):
            raise AutologError(
                f"log.test: {len(known.place)} labels came with {len(found)} rows of probabilities"
            )
        known.check(
            found,
            multilabel=multilabel,
            what="log.test: the probabilities",
            advice="Of logits, take the softmax first; where a record may be of several classes, "
            "say multilabel=True",
        )
        evaluation = known.evaluation(found, multilabel=multilabel)
        self.take(evaluation, known.names, model)
        return dict(evaluation.metrics)

    def take(self, evaluation: Evaluation, names: Sequence[str], model: keras.Model | None) -> None:
        """Log an evaluation of named records; keep it and the weights if it is the best so far."""
        self._check_open()
        self._fetch()
        if model is not None:
            self._networks |= {"last", "best"}
        self.metrics(self.results.add_test(self.last_iteration, evaluation, names, model))

    def model(self, model: keras.Model, name: str = "last") -> str | None:
        """Log a network with its present weights, now.

        Parameters
        ----------
        model
            Its outputs are left as they are.
        name
            A run has one model of a name.

        Returns
        -------
        The model's id, see `log_network`; load it with ``mlflow.pyfunc.load_model``.

        Raises
        ------
        AutologError
            The run has a model of this name.
        """
        self._check_open()
        if name in self._networks:
            raise AutologError(
                f"run {self.run_id} has a model {name!r}, or will have it at its end; give another "
                "name"
            )
        self._networks.add(name)
        test = self.results.scored.get("last")
        classes, metrics = (test.evaluation.classes, test.objective(name)) if test else ((), {})
        return log_network(self.log, name, model, classes, metrics, self.last_iteration)

    def _fetch(self) -> None:
        """Log the losses that wait, as numbers."""
        waiting, self._waiting = self._waiting, []
        self._fetched = time.monotonic()
        if not waiting:
            return
        iterations, values, times_ms = zip(*waiting, strict=True)
        losses: list[float] = []
        try:
            losses.extend(map(float, values))
        except (TypeError, ValueError) as error:
            iteration, value, _ = waiting[len(losses)]
            kind = type(value).__name__
            raise AutologError(
                f"the loss of iteration {iteration} is no number: {kind}, {error}"
            ) from error
        finally:
            self.results.losses.update(zip(iterations, losses, strict=False))
            # Those of consecutive iterations at once, which takes less time.
            gaps = np.flatnonzero(np.diff(iterations[: len(losses)]) != 1) + 1
            for begin, end in pairwise([0, *gaps.tolist(), len(losses)]):
                self.log.add("loss", losses[begin:end], iterations[begin], times_ms[begin:end])
        self._span_ms = self._span_ms[0] or times_ms[0], times_ms[-1], 1e3 * self.paused_s


def start_run(name: str | None = None, params: Mapping[str, object] | None = None) -> LiveRun:
    """Log a training loop of one's own.

    Parameters
    ----------
    name
        Name of the run; MLflow makes one up for None. With an active MLflow run it stands under
        that one.
    params
        Params to log.

    Returns
    -------
    A context manager; see `LiveRun`.

    Examples
    --------
    >>> with ecg_mlflow.start_run("my loop", {"depth": 3}) as log:  # doctest: +SKIP
    ...     for batch in batches:
    ...         log.loss(train_on(batch))
    ...     log.test(records, labels, predict(windows), classes=["A", "NO"])
    """
    return LiveRun(name, params)
