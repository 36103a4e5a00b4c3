"""The params of a run of `model.fit`, from the compiled network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ecg_mlflow.integrations.autolog.scorer import FitSettings

if TYPE_CHECKING:
    import keras


def describe(
    model: keras.Model, fit_params: Mapping[str, Any] | None, settings: FitSettings
) -> dict[str, Any]:
    """Return params, by the names that a study's runs have where they are the same.

    Parameters
    ----------
    model
        Built and compiled.
    fit_params
        The `params` of Keras's callbacks: ``epochs``, and ``steps`` of an epoch where known.
    settings
        How it is tested.
    """
    from ecg_mlflow.models.build import count_parameters

    of_fit = fit_params or {}
    records = settings.records
    tests = {}
    if records is not None:
        tests = {
            "classes": ", ".join(records.classes),
            "positive": records.positive,
            "test_every": settings.test_every,
            "test_records": len(records.names),
        }
    return {
        "model": model.name,
        "epochs": of_fit.get("epochs"),
        "iterations_per_epoch": of_fit.get("steps") or "unknown",
        **_optimizer(model.optimizer),
        "loss_function": _name(model.loss),
        **tests,
        "trainable_parameters": count_parameters(model),
        "total_parameters": model.count_params(),
    }


def _optimizer(optimizer: Any) -> dict[str, Any]:
    if optimizer is None:
        return {"optimizer": "none"}
    rate = optimizer.get_config().get("learning_rate")
    # A schedule tells its class and arguments.
    shown = f"{rate['class_name']}({rate['config']})" if isinstance(rate, dict) else f"{rate:.6g}"
    # Its name would be numbered, from the second one of a process on.
    return {"optimizer": type(optimizer).__name__.lower(), "learning_rate": shown}


def _name(loss: Any) -> str:
    """Name a loss as it was given to `compile`: text, a function, an object, or several of them."""
    if isinstance(loss, dict):
        return ", ".join(f"{key}: {_name(one)}" for key, one in loss.items())
    if isinstance(loss, list | tuple):
        return ", ".join(map(_name, loss))
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss)
