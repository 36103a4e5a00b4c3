"""Convert a checked pipeline to plain JSON and back, to store a model's test pipeline.

The user's functions are stored by name, ``{"module": ..., "qualname": ...}``, so they must be
defined at the top of a file; the reader of the JSON supplies a function that finds them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from operator import attrgetter
from types import FunctionType
from typing import Any

import numpy as np

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline.actions import every_batch, label_actions, records
from ecg_mlflow.pipeline.actions.base import Action
from ecg_mlflow.pipeline.actions.every_batch import (
    CenterFlip,
    RandomResampleSignals,
    RandomSplitSignals,
)
from ecg_mlflow.pipeline.actions.records import ApplyStep, SignalStep
from ecg_mlflow.pipeline.pipeline import Pipeline, Stages

#: Finds a function by its module and qualified name.
FindFunction = Callable[[str, str], SignalStep]

_KINDS: Mapping[str, type[Action]] = {
    kind.name: kind
    for module in (every_batch, label_actions, records)
    for kind in vars(module).values()
    if isinstance(kind, type) and issubclass(kind, Action) and hasattr(kind, "name")
}


def stages_to_json(stages: Stages) -> list[dict[str, Any]]:
    """Write a pipeline as plain JSON.

    Returns
    -------
    list
        For each action ``{"name": "split_signals", "arguments": {"length": 3000, ...}}``.

    Raises
    ------
    PipelineError
        If an argument has no JSON form, such as a lambda, a nested function or a partial.
    """
    return [
        {
            "name": action.name,
            "arguments": {
                field.name: _to_json(getattr(action, field.name), action)
                for field in fields(action)
            },
        }
        for action in stages.actions
    ]


def stages_from_json(spec: Sequence[Mapping[str, Any]], find: FindFunction) -> Stages:
    """Make a pipeline from the JSON of `stages_to_json`; it equals the original.

    Parameters
    ----------
    spec
        The actions as JSON.
    find
        Finds the functions of ``apply(f)``.

    Raises
    ------
    PipelineError
        If an action is unknown or has other arguments, since another version wrote it.
    """
    return Pipeline(tuple(_action(one, find) for one in spec)).stages()


def functions_of(spec: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """List the functions that a pipeline's JSON names, as pairs of module and qualified name."""
    steps = (one["arguments"]["step"] for one in spec if one["name"] == ApplyStep.name)
    return [(step["module"], step["qualname"]) for step in steps]


def check_deterministic(stages: Stages) -> None:
    """Check that a test pipeline's windows are deterministic and independent of the label.

    Raises
    ------
    PipelineError
        If they are not; the message says what to write instead.
    """
    split = stages.split
    given = split.per_label()
    steps = set(given.values()) if isinstance(given, Mapping) else set()
    for action in stages.every:
        if isinstance(action, CenterFlip) and action.flip_at_test:
            why, instead = "flips leads at random", "center_flip()"
        elif isinstance(action, RandomResampleSignals):
            why, instead = "draws a sampling frequency", "resample_signals(fs), or nothing"
        elif isinstance(action, RandomSplitSignals):
            why, instead = "cuts at random positions", f"split_signals({split.length}, step)"
        elif action is split and len(steps) > 1:
            why = "depends on the label, which is unknown for a new recording"
            instead = f"one step for all, such as split_signals({split.length}, {min(steps)})"
        else:
            continue
        raise PipelineError(
            f"the test pipeline has {action}, which {why}: a model that reads recordings must give "
            f"the same answer each time. Write {instead} in the test pipeline"
        )


def _to_json(value: object, action: Action) -> Any:
    if isinstance(value, np.generic):
        value = value.item()
    if value is None or isinstance(value, bool | str | int | float):
        return value
    if isinstance(value, tuple | list):
        return [_to_json(one, action) for one in value]
    if isinstance(value, Mapping):
        if not all(isinstance(key, str) for key in value):
            raise PipelineError(f"{action}: the keys of {value} must be text to be stored")
        return {key: _to_json(one, action) for key, one in value.items()}
    if callable(value):
        return _reference(value, action)
    raise PipelineError(
        f"{action}: {type(value).__name__} can't be stored with a model; write numbers, text, and "
        "lists or dicts of them"
    )


def _reference(step: Callable[..., Any], action: Action) -> dict[str, str]:
    """Return a function's name; for a compiled function, that of its Python function."""
    function = getattr(step, "py_func", step)
    module, qualname = (getattr(function, name, "") for name in ("__module__", "__qualname__"))
    try:
        found = attrgetter(qualname)(sys.modules[module])
    except (AttributeError, KeyError):
        found = None
    if found is not step or not isinstance(function, FunctionType) or module == "__main__":
        raise PipelineError(
            f"{action}: a model stores a function by its module and name, by which {function!r} "
            "can't be found; nor can lambdas, partials, ufuncs, and functions defined within "
            "another one or in the running program. Write it with def at the top of the grid file, "
            "or of a file beside it, and name it there"
        )
    return {"module": module, "qualname": qualname}


def _action(spec: Mapping[str, Any], find: FindFunction) -> Action:
    name, arguments = spec["name"], spec["arguments"]
    kind = _KINDS.get(name)
    known = {field.name: field.default for field in fields(kind)} if kind else {}
    # What earlier versions didn't write has the default that keeps their computation.
    needed = {argument for argument, default in known.items() if default is MISSING}
    if kind is None or not needed <= set(arguments) <= set(known):
        raise PipelineError(
            f"this version of ecg_mlflow has no action {name} with {sorted(arguments)}: another "
            "version wrote the pipeline. Load the model in an environment with its own requirements"
        )
    if kind is ApplyStep:
        step = arguments["step"]
        return ApplyStep(find(step["module"], step["qualname"]))
    # Actions have tuples in place of lists.
    return kind(
        **{key: tuple(one) if isinstance(one, list) else one for key, one in arguments.items()}
    )
