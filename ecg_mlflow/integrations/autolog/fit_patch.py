"""Stand in front of `keras.Model.fit`, so that trainings are logged and their runs always end."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from ecg_mlflow.integrations.autolog.run_logger import RunLogger

_MARK = "_ecg_mlflow_original"

#: What `autolog` was told; None where it is off.
_settings: dict[str, Any] | None = None
_installed: Callable[..., Any] | None = None


def autolog(
    test: tuple[Any, Any, Sequence[object] | None] | None = None,
    classes: Sequence[str] | None = None,
    positive: str | None = None,
    test_every: str | int | Sequence[str | int] = "epoch",
    *,
    disable: bool = False,
    **more: Any,
) -> None:
    """Log every `fit` of a Keras model from now on, as `RunLogger` does.

    A `fit` that is given a `RunLogger` is logged by that one alone. While a training is logged,
    MLflow's own autologging keeps quiet, so that nothing is logged twice.

    Parameters
    ----------
    test, classes, positive, test_every
        See `RunLogger`.
    disable
        Log no more trainings; the other arguments count for nothing then.
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
    ``mlflow.autolog(disable=True)`` takes away whatever stands in front of `fit` in its own place,
    this too if it came later; call this function again afterwards.
    """
    global _settings
    if disable:
        _settings = None
        unwatch_fit()
        return
    told: dict[str, Any] = {
        "test": test,
        "classes": classes,
        "positive": positive,
        "test_every": test_every,
    }
    RunLogger(**told, **more)  # whatever is wrong shows here, and not in the first fit
    _settings = {**told, **more}


def watch_fit() -> None:
    """Stand in front of `keras.Model.fit`, unless that is so."""
    global _installed
    import keras

    # Who wraps this wrapper, as MLflow does, copies the mark: it is somewhere in the chain then.
    if not hasattr(keras.Model.fit, _MARK):
        keras.Model.fit = _installed = _logged(keras.Model.fit)


def unwatch_fit() -> None:
    """Step aside; where another one has come in front, `fit` is passed on untouched."""
    import keras

    if keras.Model.fit is not _installed:
        return
    original = getattr(_installed, _MARK)
    del keras.Model.fit
    if keras.Model.fit is not original:  # that of another one, who had come before
        keras.Model.fit = original


def _logged(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def fit(model: Any, *args: Any, **kwargs: Any) -> Any:
        call = inspect.signature(original).bind(model, *args, **kwargs)
        callbacks = _as_list(call.arguments.get("callbacks"))
        loggers = [one for one in callbacks if isinstance(one, RunLogger)]
        if not loggers and _settings is not None:
            # Last, so that it sees the weights that the other callbacks leave behind.
            loggers = [RunLogger(**_settings)]
            callbacks += loggers
        if not loggers:
            return original(model, *args, **kwargs)
        call.arguments["callbacks"] = [one for one in callbacks if not _is_mlflows(one)]
        try:
            with _alone():
                return original(*call.args, **call.kwargs)
        except BaseException as error:
            for logger in loggers:
                logger.fail(error)
            raise

    setattr(fit, _MARK, original)
    return fit


def _as_list(callbacks: Any) -> list[Any]:
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, list | tuple) else [callbacks]


def _is_mlflows(callback: Any) -> bool:
    """Say whether it is the callback that MLflow's autologging has put in, or would."""
    kinds = {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(callback).__mro__}
    return not kinds.isdisjoint({("mlflow", "MlflowCallback"), ("mlflow", "MLflowCallback")})


def _alone() -> Any:
    from mlflow.utils.autologging_utils import disable_autologging

    return disable_autologging()
