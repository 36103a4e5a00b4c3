"""Patch `keras.Model.fit`, so that trainings are logged and their runs always end."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from mlflow.utils.autologging_utils import disable_autologging

_MARK = "_ecg_mlflow_patch"
#: Makes the logger of a `fit` that is given none; None adds none.
_default_logger: Callable[[], FitLogger] | None = None


class FitLogger:
    """A Keras callback that is told when its `fit` fails."""

    def fail(self, error: BaseException) -> None:
        """End the run of a `fit` that has raised an error."""
        raise NotImplementedError


def set_default_logger(make: Callable[[], FitLogger] | None) -> None:
    """Choose what logs a `fit` that is given no logger; None logs no more of them."""
    global _default_logger
    _default_logger = make


def patch_fit() -> None:
    """Patch `keras.Model.fit` once; without a logger a `fit` is then Keras's own."""
    import keras

    # Whatever wraps this wrapper, as MLflow does, copies the mark.
    if not hasattr(keras.Model.fit, _MARK):
        keras.Model.fit = _logged(keras.Model.fit)


def _logged(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def fit(model: Any, *args: Any, **kwargs: Any) -> Any:
        call = inspect.signature(original).bind(model, *args, **kwargs)
        callbacks = call.arguments.get("callbacks")
        if not isinstance(callbacks, list | tuple):
            callbacks = [] if callbacks is None else [callbacks]
        loggers = [one for one in callbacks if isinstance(one, FitLogger)]
        if not loggers and _default_logger is not None:
            # Last, so that it sees the weights that the other callbacks leave behind.
            loggers = [_default_logger()]
            callbacks = [*callbacks, *loggers]
        if not loggers:
            return original(model, *args, **kwargs)
        call.arguments["callbacks"] = [one for one in callbacks if not _is_mlflows(one)]
        try:
            with disable_autologging():
                return original(*call.args, **call.kwargs)
        except BaseException as error:
            for logger in loggers:
                logger.fail(error)
            raise

    setattr(fit, _MARK, True)
    return fit


def _is_mlflows(callback: Any) -> bool:
    """Say whether it is a callback of MLflow's autologging."""
    return any(
        kind.__module__.partition(".")[0] == "mlflow" and kind.__name__.lower() == "mlflowcallback"
        for kind in type(callback).__mro__
    )
