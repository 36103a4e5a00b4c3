"""Mark with ``C("name")`` where an option's value goes in a description, and fill it in."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NoReturn

from ecg_mlflow.errors import GridError, ResearchError
from ecg_mlflow.grids.canonical import counts_as


@counts_as("C", version=1)
@dataclass(frozen=True)
class C:
    """Placeholder for the value of option `name` in the configuration being run.

    It can be an argument anywhere in a description: directly, in a list, tuple, dict or
    ``functools.partial``, or as a field of a dataclass. Its value differs between configurations,
    so calculating with it is an error.

    Parameters
    ----------
    name : str
        The option's name.

    Raises
    ------
    GridError
        If `name` is not a non-empty string, and if a `C` is used in a calculation, a comparison
        other than ``==``, a condition or a string.
    """

    name: str

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise GridError(f"C takes an option's name, such as C('filters'), not {self.name!r}")

    def __repr__(self) -> str:
        return f"C({self.name!r})"

    def _refuse(self, *_: object) -> NoReturn:
        raise GridError(
            f"{self!r} was used in an expression, but it only marks the place of option "
            f"{self.name!r}, whose value differs between configurations. Pass {self!r} as it is, "
            "and compute inside the function that receives it, or make the computed value an "
            "option of its own"
        )

    __str__ = __format__ = _refuse
    __bool__ = __int__ = __float__ = __index__ = __getitem__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __neg__ = __pos__ = __abs__ = __invert__ = __round__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _refuse
    __matmul__ = __rmatmul__ = __truediv__ = __rtruediv__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _refuse
    __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _refuse


def references(obj: object) -> frozenset[str]:
    """Return the names of all placeholders in an object.

    Parameters
    ----------
    obj : object
        Lists, tuples, dicts, partials and dataclass instances are searched, at any depth.

    Returns
    -------
    frozenset of str
    """
    return frozenset(one.name for one in found_in(obj, C))


def found_in(obj: object, kind: type) -> Iterator[Any]:
    """Yield the instances of a class in an object, searched as by `references`."""
    if isinstance(obj, kind):
        yield obj
    else:
        for part in parts(obj):
            yield from found_in(part, kind)


def resolve(obj: Any, values: Mapping[str, object]) -> Any:
    """Replace all placeholders in an object by values.

    Parameters
    ----------
    obj : object
        Same as for :func:`references`.
    values : Mapping
        A value for each option: a configuration of a grid, or a dict.

    Returns
    -------
    object
        `obj` itself if it has no placeholder, otherwise a copy of the parts that changed.

    Raises
    ------
    ResearchError
        If a placeholder's option is not among `values`.
    """
    if isinstance(obj, C):
        return _value(obj, values)
    old = list(parts(obj))
    new = [resolve(part, values) for part in old]
    if all(a is b for a, b in zip(old, new, strict=True)):
        return obj
    return _rebuild(obj, new)


def parts(obj: object) -> Iterator[object]:
    """Yield the items of a container; other objects have none.

    Parameters
    ----------
    obj : object
        List, tuple, dict, partial or dataclass instance.

    Yields
    ------
    object
        In the order in which `resolve` rebuilds the container from them.
    """
    if isinstance(obj, list | tuple):
        yield from obj
    elif isinstance(obj, dict):
        yield from obj
        yield from obj.values()
    elif isinstance(obj, functools.partial):
        yield from (obj.func, obj.args, obj.keywords)
    elif dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        yield from (getattr(obj, name) for name in _init_fields(obj))


def _rebuild(obj: Any, parts: list[Any]) -> object:
    """Build a container like `obj` from other parts."""
    if isinstance(obj, list):
        return parts
    if isinstance(obj, tuple):
        return type(obj)(*parts) if hasattr(obj, "_fields") else tuple(parts)
    if isinstance(obj, dict):
        return dict(zip(parts[: len(obj)], parts[len(obj) :], strict=True))
    if isinstance(obj, functools.partial):
        func, args, keywords = parts
        return functools.partial(func, *args, **keywords)
    return dataclasses.replace(obj, **dict(zip(_init_fields(obj), parts, strict=True)))


def _init_fields(obj: Any) -> list[str]:
    """Return the names of the fields that the dataclass's constructor takes."""
    return [field.name for field in dataclasses.fields(obj) if field.init]


def _value(placeholder: C, values: Mapping[str, object]) -> object:
    if placeholder.name in values:
        return values[placeholder.name]
    options = ", ".join(map(repr, values)) or "none"
    close = difflib.get_close_matches(placeholder.name, list(values), n=1)
    hint = f"did you mean C({close[0]!r})?" if close else "add the option, or write a plain value"
    raise ResearchError(
        f"{placeholder!r} has no value: the configuration has no option {placeholder.name!r}. "
        f"Its options: {options}; {hint}"
    )
