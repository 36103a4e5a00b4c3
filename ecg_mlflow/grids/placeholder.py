"""Mark with ``C("name")`` where an option's value goes in a description, and fill it in."""

from __future__ import annotations

import dataclasses
import difflib
import functools
from collections.abc import Callable, Iterator, Mapping
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
        for part in _parts(obj)[0]:
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
    old, rebuilt = _parts(obj)
    new = [resolve(part, values) for part in old]
    return obj if all(a is b for a, b in zip(old, new, strict=True)) else rebuilt(new)


def _parts(obj: Any) -> tuple[list[Any], Callable[[list[Any]], object]]:
    """Return the items of a container, and a function that builds a like one from others.

    Containers are lists, tuples, dicts, partials and dataclass instances; other objects have no
    items.
    """
    if isinstance(obj, list):
        return obj, list
    if isinstance(obj, tuple):
        # `_make` would bypass a named tuple's own `__new__`.
        return list(obj), lambda new: type(obj)(*new) if hasattr(obj, "_make") else tuple(new)
    if isinstance(obj, dict):
        n = len(obj)
        return [*obj, *obj.values()], lambda new: dict(zip(new[:n], new[n:], strict=True))
    if isinstance(obj, functools.partial):
        parts = [obj.func, obj.args, obj.keywords]
        return parts, lambda new: functools.partial(new[0], *new[1], **new[2])
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        names = [field.name for field in dataclasses.fields(obj) if field.init]
        parts = [getattr(obj, name) for name in names]
        return parts, lambda new: dataclasses.replace(obj, **dict(zip(names, new, strict=True)))
    return [], list


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
