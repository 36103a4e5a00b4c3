"""A Keras callback that logs `model.fit` of any script with the layout of a study's runs.

`keras.Model.fit` is patched, so that a run ends also where `fit` fails, and for `autolog`. Keras is
imported inside of functions only: a grid file may import everything of the package in the driver.
"""

from __future__ import annotations

import functools
import inspect
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import numpy as np
from mlflow.utils.autologging_utils import disable_autologging

from ecg_mlflow.errors import AutologError, TrackingError
from ecg_mlflow.integrations.autolog.live_run import FETCH_S, LiveRun
from ecg_mlflow.integrations.autolog.scorer import Activation, Scorer, loss_name
from ecg_mlflow.models.build import count_parameters
from ecg_mlflow.tracking.run_data import log_tags
from ecg_mlflow.training.schedule import Rule

if TYPE_CHECKING:
    import keras

log = logging.getLogger(__name__)

#: Marks a run whose losses are not those of single iterations.
REPORTED_TAG = "ecg_mlflow.loss"
_PATCH = "_ecg_mlflow_patch"
#: Makes the logger of a `fit` that is given none; None adds none.
_default_logger: Callable[[], RunLogger] | None = None


def _guarded(method: Callable[..., None]) -> Callable[..., None]:
    """Let a training go on where its log meets an error, with a warning and without the log.

    Arguments that don't fit the network are an error for who gave them to this very `fit`.
    """

    @functools.wraps(method)
    def guarded(self: RunLogger, *args: Any) -> None:
        if self._given_up:
            return
        try:
            method(self, *args)
        except Exception as error:
            if isinstance(error, AutologError) and not self.is_default:
                raise
            self._give_up(error)

    return guarded


class RunLogger:
    """Logs one training at a time: ``model.fit(..., callbacks=[RunLogger(...)])``.

    It is a `keras.callbacks.Callback`. The run is the active MLflow run, if there is one and no
    training was logged in it before, and one of its own otherwise, which ends with `fit`.

    Parameters
    ----------
    test
        ``(windows, labels, records)`` to score: an array of shape (n_windows, ...), for each
        window a name or an index of a class or a row of 0 and 1, and for each the name of its
        record (None: each window is a record of its own). A record is scored once, by the mean
        over its windows.
    classes
        Names of the network's outputs, in their order. One output is the probability of the
        second of two classes.
    positive
        The class that F1 is of; by default the first.
    test_every
        When to test: ``"2 epochs"``, ``"%100"``, an iteration, ``"last"``, or a list; the end is
        always tested.
    activation
        What turns the outputs into probabilities, ``"softmax"`` or ``"sigmoid"`` of logits,
        ``"linear"`` of probabilities; by default the last layer tells. Where several outputs are
        sigmoids, a record may be of several classes or of none.
    name
        Name of the run; MLflow makes one up for None.
    params
        More params to log.
    log_models
        Log the last and the best weights as models.

    Raises
    ------
    AutologError
        The arguments don't fit together.
    ScheduleError
        `test_every` can't be read.
    """

    #: Whether `autolog` has added it, and not the user.
    is_default = False
    _given_up = _is_recording = False

    if TYPE_CHECKING:
        model: keras.Model
        params: Mapping[str, Any]

    def __new__(cls, *_: object, **__: object) -> RunLogger:
        """Make a Keras callback."""
        import keras

        if keras.backend.backend() != "tensorflow":
            raise AutologError(
                f"Keras runs on {keras.backend.backend()!r}; trainings are logged on 'tensorflow' "
                "only (KERAS_BACKEND=tensorflow). For a loop of your own there is "
                "ecg_mlflow.start_run"
            )
        kind: type[RunLogger] = cls
        if not issubclass(cls, keras.callbacks.Callback):
            own = {"__module__": cls.__module__, "__doc__": cls.__doc__}
            kind = type(cls.__name__, (cls, keras.callbacks.Callback), own)
        return super().__new__(kind)

    def __init__(
        self,
        test: tuple[Any, Any, Sequence[object] | None] | None = None,
        classes: Sequence[str] | None = None,
        positive: str | None = None,
        test_every: Rule | Sequence[Rule] = "epoch",
        *,
        activation: Activation | None = None,
        name: str | None = None,
        params: Mapping[str, object] | None = None,
        log_models: bool = True,
    ) -> None:
        super().__init__()
        self._scorer: Scorer | None = None
        if test is not None:
            self._scorer = Scorer(test, classes, positive, test_every, activation)
        elif (classes, positive, activation) != (None, None, None):
            raise AutologError(
                "classes=, positive= and activation= say how to score, and there is nothing to "
                "score; give test=(windows, labels, records), or leave them out"
            )
        self._name, self._more = name, dict(params or {})
        self._log_models = log_models
        self._run: LiveRun | None = None
        self._is_open = False
        _patch_fit()

    @property
    def run_id(self) -> str:
        """The id of the run that was logged last, or is being logged.

        Raises
        ------
        AutologError
            There was none yet.
        """
        return self._live.run_id

    @property
    def _live(self) -> LiveRun:
        if self._run is None:
            raise AutologError("no training was logged yet: pass this to fit(callbacks=[...])")
        return self._run

    # --- Keras's callbacks ---------------------------------------------------------------------

    def on_train_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Check the network and the settings, and open the run."""
        self._given_up = False
        self._begin()

    @_guarded
    def _begin(self) -> None:
        from ecg_mlflow.integrations.autolog.losses import LossRecorder

        self._began = time.perf_counter()
        described = training_params(self.model, self.params)
        if self._scorer:
            self._scorer.bind(self.model)
            described |= self._scorer.params
        run = LiveRun(self._name, {**described, **self._more}, joins=True)
        run.log_models = self._log_models
        self._recorder, self._is_recording = LossRecorder(self.model, self._on_step), True
        run.__enter__()
        self._run, self._is_open = run, True
        run.metrics(
            {name: described[name] for name in ("trainable_parameters", "total_parameters")}
        )
        self._settled = time.monotonic()
        self._looked_at = 0

    @_guarded
    def _on_step(self) -> None:
        """Fetch and test what is due after a call of the compiled step."""
        if not self._live.speed:
            self._live.speed["system/setup_seconds"] = time.perf_counter() - self._began
            self._settle()
        elif time.monotonic() - self._settled > FETCH_S or self.model.steps_per_execution > 1:
            # Of a call of several iterations only the device knows how many there were.
            self._settle()
        iteration = self._live.iteration + self._recorder.n_waiting
        if self._scorer and self._scorer.tests_between(self._looked_at, iteration):
            self._test()
        self._looked_at = iteration

    @_guarded
    def on_epoch_end(self, epoch: int, logs: Mapping[str, float] | None = None) -> None:
        """Log the metrics of this epoch, and test if that is due."""
        self._settle()
        # The mean over the epoch would stand among the losses of the iterations.
        self._live.metrics({name: value for name, value in (logs or {}).items() if name != "loss"})
        # The end is tested when it has come: weights may be restored or averaged before that.
        is_last = self.model.stop_training or epoch + 1 >= self.params["epochs"]
        if self._scorer and self._scorer.tests_after_epoch(epoch) and not is_last:
            self._test()

    @_guarded
    def on_test_begin(self, logs: Mapping[str, float] | None = None) -> None:
        """Stop the clock while Keras validates."""
        if self._is_open:
            self._settle()
            self._live.paused_s -= time.perf_counter()

    @_guarded
    def on_test_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Go on after a validation."""
        if self._is_open:
            self._recorder.skip()
            self._live.paused_s += time.perf_counter()

    @_guarded
    def on_train_end(self, logs: Mapping[str, float] | None = None) -> None:
        """Test the last weights, log the results, and end the run."""
        self._settle()
        if self._scorer and self._live.iteration:
            self._test()
        self._close(None)

    # --- Losses and tests ----------------------------------------------------------------------

    def _settle(self) -> None:
        """Hand over the losses that are known by now."""
        self._settled = time.monotonic()
        self._live.losses(self._recorder.fetch())

    def _test(self) -> None:
        """Score the records with the present weights."""
        assert self._scorer is not None
        began = time.perf_counter()
        self._settle()
        evaluation = self._scorer.evaluate()
        if evaluation is None:
            log.warning(
                "no test after iteration %d: the network says NaN, its weights have diverged",
                self._live.last_iteration,
            )
        else:
            self._live.take(evaluation, self._scorer.records.names, self._scorer.network)
            self._live.speed["system/ms_per_record"] = self._scorer.ms_per_record
        self._live.paused_s += time.perf_counter() - began

    # --- The end -------------------------------------------------------------------------------

    def _give_up(self, error: Exception) -> None:
        """End the run with an error of its log; the training goes on."""
        self._given_up = True
        log.warning("the training goes on without a log: %s: %s", type(error).__name__, error)
        if self._is_recording:
            self._recorder.is_muted = True
        if self._is_open:
            self._is_open = False
            with suppress(Exception):
                self._live.__exit__(type(error), error, None)

    def release(self) -> None:
        """Give the network back its own training step, when `fit` has ended in whatever way."""
        if self._is_recording:
            self._is_recording = False
            self._recorder.remove()

    def fail(self, error: BaseException) -> None:
        """End the run of a `fit` that has raised an error; without one it does nothing."""
        if self._is_open:
            try:
                self._settle()
            finally:
                self._close(error)

    def _close(self, error: BaseException | None) -> None:
        self._is_open = False
        self.release()
        try:
            try:
                # What is known only after the training.
                if self._recorder.batch_size:
                    self._live.params({"batch_size": self._recorder.batch_size})
                if self._recorder.reported:
                    kind = "as Keras reports it, as a rule the mean over the epoch so far"
                    log_tags(self._live.log.client, self.run_id, {REPORTED_TAG: kind})
                if error is None and self._log_models and self._scorer is None:
                    self._live.model(self.model)
            finally:
                self._live.__exit__(type(error), error, None)
        except TrackingError as lost:
            # The trained network is worth more than its log.
            log.warning("run %s lacks what was to be logged at its end: %s", self.run_id, lost)


def autolog(
    test: tuple[Any, Any, Sequence[object] | None] | None = None,
    classes: Sequence[str] | None = None,
    positive: str | None = None,
    test_every: Rule | Sequence[Rule] = "epoch",
    *,
    disable: bool = False,
    **more: Any,
) -> None:
    """Log every `fit` of a Keras model from now on, as `RunLogger` does.

    A `fit` that is given a `RunLogger` is logged by that one alone. While a training is logged,
    MLflow's own autologging is off, so that nothing is logged twice.

    Parameters
    ----------
    test, classes, positive, test_every
        See `RunLogger`.
    disable
        Log no more trainings; the other arguments are then ignored.
    **more
        The other arguments of `RunLogger`: ``activation``, ``name``, ``params``, ``log_models``.

    Raises
    ------
    AutologError
        The arguments don't fit together.
    ScheduleError
        `test_every` can't be read.

    Notes
    -----
    ``mlflow.autolog(disable=True)`` removes this patch of `fit` too, if it came after MLflow's own;
    call this function again afterwards.
    """
    global _default_logger
    make = functools.partial(RunLogger, test, classes, positive, test_every, **more)
    if not disable:
        make()  # so that wrong arguments show here, and not in the first fit
    _default_logger = None if disable else make


def training_params(model: keras.Model, fit_params: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return params, by the names that a study's runs have where they are the same.

    Parameters
    ----------
    model
        Built and compiled.
    fit_params
        The `params` of Keras's callbacks: ``epochs``, and ``steps`` of an epoch where known.
    """
    of_fit, optimizer, training = fit_params or {}, model.optimizer, {"optimizer": "none"}
    if optimizer is not None:
        # With mixed precision another one is around it.
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)
        rate = optimizer.get_config().get("learning_rate")
        if isinstance(rate, dict):  # a schedule
            rate = f"{rate.get('class_name')}({rate.get('config')})"
        # Its name would be numbered, from the second one of a process on.
        name = type(optimizer).__name__.lower()
        is_number = isinstance(rate, int | float | np.number)
        training = {
            "optimizer": name,
            "learning_rate": f"{rate:.6g}" if is_number else str(rate),
        }
    return {
        "model": model.name,
        "epochs": of_fit.get("epochs"),
        "iterations_per_epoch": of_fit.get("steps") or "unknown",
        **training,
        "loss_function": loss_name(model.loss),
        "trainable_parameters": count_parameters(model),
        "total_parameters": model.count_params(),
    }


def _patch_fit() -> None:
    """Patch `keras.Model.fit` once; without a logger a `fit` is then Keras's own."""
    import keras

    # Whatever wraps this wrapper, as MLflow does, copies the mark.
    if not hasattr(keras.Model.fit, _PATCH):
        keras.Model.fit = _logged(keras.Model.fit)


def _logged(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def fit(model: Any, *args: Any, **kwargs: Any) -> Any:
        call = inspect.signature(original).bind(model, *args, **kwargs)
        callbacks = call.arguments.get("callbacks")
        if not isinstance(callbacks, list | tuple):
            callbacks = [] if callbacks is None else [callbacks]
        loggers = [one for one in callbacks if isinstance(one, RunLogger)]
        if not loggers and _default_logger is not None:
            # Last, so that it sees the weights that the other callbacks leave behind.
            loggers = [_default_logger()]
            loggers[0].is_default = True
            callbacks = [*callbacks, *loggers]
        if not loggers:
            return original(model, *args, **kwargs)
        call.arguments["callbacks"] = [one for one in callbacks if not _is_mlflows(one)]
        try:
            with disable_autologging():
                return original(*call.args, **call.kwargs)
        except BaseException as error:
            for logger in loggers:
                try:
                    logger.fail(error)
                except Exception as problem:  # noqa: BLE001 - the training's error counts
                    log.warning("the end of a training could not be logged: %s", problem)
            raise
        finally:
            for logger in loggers:
                logger.release()

    setattr(fit, _PATCH, True)
    return fit


def _is_mlflows(callback: Any) -> bool:
    """Say whether it is a callback of MLflow's autologging."""
    return any(
        kind.__module__.partition(".")[0] == "mlflow" and kind.__name__.lower() == "mlflowcallback"
        for kind in type(callback).__mro__
    )
