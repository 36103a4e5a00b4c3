"""Choose the values of a configuration that a model builder takes, by their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ecg_mlflow.errors import ModelError

ModelBuilder = Callable[..., Any]


def model_arguments(
    builder: ModelBuilder,
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    mentioned: frozenset[str],
) -> dict[str, Any]:
    """Return the options that are arguments of the model builder.

    Parameters
    ----------
    builder
        The model builder.
    given
        The arguments in ``model_arguments``.
    options
        The configuration's values by option.
    mentioned
        Options that a placeholder uses; a builder with ``**options`` doesn't get them again.

    Raises
    ------
    ModelError
        If the builder is not a function, an argument has no value or two values, or the builder
        lacks an argument that is given.
    """
    if not callable(builder):
        raise ModelError(
            f"model={builder!r} must be a function (input_shape, n_classes, **options)"
        )
    names = signature(builder)
    takes_all = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in _parameters(builder))
    unknown = sorted(set(given) - set(names))
    if unknown and not takes_all:
        raise ModelError(
            f"model_arguments has {quoted(unknown)}, but {builder_name(builder)} takes "
            f"{quoted(names)}"
        )
    taken = {name: value for name, value in options.items() if name in names}
    if takes_all:
        taken |= {name: value for name, value in options.items() if name not in mentioned}
    double = sorted(set(taken) & set(given))
    if double:
        raise ModelError(f"{quoted(double)} is given twice: as an option and in model_arguments")
    missing = [
        name for name, required in names.items() if required and name not in {*taken, *given}
    ]
    if missing:
        raise ModelError(
            f"{builder_name(builder)} needs a value for {quoted(missing)}: add an option of "
            "that name, or give it in model_arguments"
        )
    return taken


def signature(builder: ModelBuilder) -> dict[str, bool]:
    """Return the names of a builder's options, and whether each needs a value."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {
        p.name: p.default is inspect.Parameter.empty
        for p in _parameters(builder)[2:]
        if p.kind in kinds
    }


def _parameters(builder: ModelBuilder) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(builder).parameters.values())
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"the arguments of {builder_name(builder)} can't be determined ({error}); wrap it in a "
            "function (input_shape, n_classes, **options)"
        ) from error


def builder_name(builder: object) -> str:
    """Return a builder's name; for a ``functools.partial`` that of its function."""
    inner = getattr(builder, "func", builder)
    return str(getattr(inner, "__name__", inner))


def quoted(names: Iterable[str]) -> str:
    """List names in quotes."""
    return ", ".join(repr(name) for name in names)
