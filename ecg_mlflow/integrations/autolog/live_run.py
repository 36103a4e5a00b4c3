"""One training outside of a study while it is logged, with the layout of a study's runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from ecg_mlflow.errors import AutologError, TrackingError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.losses import LossQueue
from ecg_mlflow.integrations.autolog.network import OutputActivation, log_network
from ecg_mlflow.integrations.autolog.opening import OpenedRun, join_or_start_run, new_params
from ecg_mlflow.integrations.autolog.run_artifacts import LiveResults
from ecg_mlflow.provenance import HEARTBEAT_S
from ecg_mlflow.tracking.metric_buffer import metric_name
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.training import Evaluation

if TYPE_CHECKING:
    import keras

#: Seconds to wait for a store that is away before a training goes on without it.
RETRY_LIMIT_S = 120.0


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
        Log in the active MLflow run if there is one, and leave it open.

    Attributes
    ----------
    iteration
        The next iteration, from 0.
    log_models
        Whether the end logs the networks that were tested.
    speed
        Figures of the machine, to log at the end.
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
        self._name, self._params, self._joins = name, dict(params or {}), joins
        self.log_models = True
        self.speed: dict[str, float] = {}
        self._run: OpenedRun | None = None
        self._is_open = False
        self._queue = LossQueue()
        self._networks: set[str] = set()
        self.results = LiveResults()

    # --- The run -------------------------------------------------------------------------------

    @property
    def run_id(self) -> str:
        """The run's id in MLflow, in the block and after it."""
        return (self._run or self._opened()).run_id

    def _opened(self) -> OpenedRun:
        if self._run is None or not self._is_open:
            raise AutologError(
                "this run is not open: log inside of `with ecg_mlflow.start_run() as log:`"
            )
        return self._run

    def __enter__(self) -> Self:
        if self._run is not None:
            raise AutologError(f"this was run {self.run_id}; start another one")
        self._run = run = join_or_start_run(self._name, joins=self._joins)
        try:
            self._is_open = True
            retry = RetryPolicy(limit_s=RETRY_LIMIT_S)
            self.log = RunLog(run.client, run.run_id, heartbeat_s=HEARTBEAT_S, retry=retry)
            self.params(self._params)
        except BaseException as error:
            run.end(error)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        run, self._is_open = self._opened(), False
        with _noted_in(error), run.ending(error):
            self._deliver(conclude=error is None)

    def _deliver(self, *, conclude: bool) -> None:
        with self.log:
            self._fetch()
            if conclude:
                if self._queue.rate:
                    self.speed["system/iterations_per_second"] = self._queue.rate
                self._log_metrics(self.speed)
                self.results.conclude(self.log, models=self.log_models)

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
        self._opened()
        now = self.iteration if iteration is None else int(iteration)
        if now < self.iteration:
            raise AutologError(
                f"the loss of iteration {now} came after that of iteration {self.last_iteration}; "
                "iterations must grow, and count from 0"
            )
        self._queue.put(now, value)
        self.iteration = now + 1
        if self._queue.is_due:
            self._fetch()

    def losses(self, values: Sequence[float], times_ms: Sequence[int]) -> None:
        """Log the losses of the next iterations, computed at these times in ms since 1970."""
        self._fetch()
        if len(values):
            first, self.iteration = self.iteration, self.iteration + len(values)
            self._log_losses(values, first, times_ms)

    def metric(self, name: str, value: float) -> None:
        """Log a metric at the present iteration."""
        self.metrics({name: value})

    def metrics(self, values: Mapping[str, float]) -> None:
        """Log metrics at the present iteration; MLflow's forbidden characters are spelled out."""
        self._opened()
        self._log_metrics(values)

    def _log_metrics(self, values: Mapping[str, float]) -> None:
        named = {metric_name(name): float(value) for name, value in values.items()}
        self.log.metrics(named, self.last_iteration)

    def params(self, values: Mapping[str, object]) -> None:
        """Log params; one that the run has already keeps its value."""
        self.log.params(new_params(self._opened(), values))

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
        values = known.checked_probabilities(probabilities, multilabel=multilabel)
        evaluation = known.evaluation(values, multilabel=multilabel)
        self.take(evaluation, known, model, None)
        return dict(evaluation.metrics)

    def take(
        self,
        evaluation: Evaluation,
        records: LabelledRecords,
        model: keras.Model | None,
        output: OutputActivation | None,
    ) -> None:
        """Log an evaluation, and keep it and the weights if it is the best so far."""
        self._opened()
        self._fetch()
        found = self.results.add_test(self.last_iteration, evaluation, records, model, output)
        self.metrics(found)

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
        self._opened()
        if name in self._networks or name in self.results.network_names:
            raise AutologError(
                f"run {self.run_id} has a model {name!r}, or will have it at its end; give another "
                "name"
            )
        self._networks.add(name)
        test = self.results.last
        classes, metrics = (test.evaluation.classes, test.objective(name)) if test else ((), {})
        return log_network(self.log, name, model, None, classes, metrics, self.last_iteration)

    def _fetch(self) -> None:
        for first, values, times_ms in self._queue.fetch():
            self._log_losses(values, first, times_ms)

    def _log_losses(self, values: Sequence[float], first: int, times_ms: Sequence[int]) -> None:
        self.log.losses(values, first, times_ms)
        self.results.add_losses(range(first, first + len(values)), values)


@contextmanager
def _noted_in(error: BaseException | None) -> Iterator[None]:
    """Raise what can't be delivered; add it to `error` as a note where there is one already."""
    try:
        yield
    except (TrackingError, AutologError) as late:
        if error is None:
            raise
        error.add_note(str(late))


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
