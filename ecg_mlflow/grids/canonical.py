"""Define one canonical form for equal values and its hash, the identity of configurations.

A value counts by its content, never by its location: this package's classes and builders by the
names that `counts_as` gives them, libraries' functions by their names, and the user's own code by
its syntax tree, with everything that it reaches.

Every JSON object that :func:`canonical` returns has exactly one key, a tag such as ``"dict"`` or
``"code"``, so that no two kinds of value have the same form.
"""

from __future__ import annotations

import dataclasses
import functools
import logging
import math
import reprlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from contextlib import suppress
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, FunctionType, ModuleType, NoneType, SimpleNamespace
from typing import Any, TypeAlias, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from ecg_mlflow.errors import CanonicalError
from ecg_mlflow.grids.source_code import (
    PACKAGE,
    File,
    Json,
    Piece,
    class_piece,
    function_piece,
    home_of,
    imported_by,
    in_files,
    json_text,
    owner,
    sha256,
)

VERSION = 2
"""Goes into every digest, and stands in studies; to be raised whenever the canonical form of any
value changes, or a training means something else than before."""

#: Forms of functions and classes that are known, by their ids; the objects are kept alive.
Known: TypeAlias = dict[int, tuple[object, Json]]

_Thing = TypeVar("_Thing")

_HINTS: tuple[tuple[type, str], ...] = (
    (Set, "write a sorted list"),
    (Mapping, "write a dict"),
    (bytearray, "write bytes"),
    (Iterator, "write a list"),
    (BuiltinFunctionType, "write a Python function that calls it"),
)
_HINT = "write a frozen dataclass, a function or a plain value (number, string, list, dict, array)"
#: Names and versions of this package's classes, functions and builders, by their ids.
_NAMES: dict[int, tuple[str, int]] = {}
#: Marks a field as one of `added_field`.
_ADDED = f"{PACKAGE}.added"


def counts_as(name: str, version: int) -> Callable[[_Thing], _Thing]:
    """Give a class, function or builder of this package the name by which it counts.

    Parameters
    ----------
    name
        Stays what it is when the thing is moved or renamed.
    version
        To be raised when the thing comes to compute something else from the same arguments.
    """

    def mark(thing: _Thing) -> _Thing:
        assert name not in {known for known, _ in _NAMES.values()}, f"two things count as {name}"
        _NAMES[id(thing)] = (name, version)
        return thing

    return mark


def added_field(default: _Thing) -> _Thing:
    """Declare a field that a class of this package got after studies with it were stored.

    It counts only where its value is not the default, so the identities of those studies stay.
    """
    field: _Thing = dataclasses.field(default=default, metadata={_ADDED: True})
    return field


def digest(value: object, *, version: int = VERSION, known: Known | None = None) -> str:
    """Hash a value so that equal values, and only those, have one digest.

    Parameters
    ----------
    value : object
        Anything that :func:`canonical` takes.
    version : int
        An earlier one, for what stored digests are compared with; plain values only.
    known : dict, optional
        See :func:`canonical`.

    Returns
    -------
    str
        SHA-256 in hex of the format's version and the compact, sorted JSON of the canonical form.

    Raises
    ------
    CanonicalError
        As :func:`canonical`.
    """
    return sha256(json_text([version, canonical(value, known)]))


def canonical(value: object, known: Known | None = None) -> Json:
    """Convert a value to JSON so that equal values, and only those, have one form.

    - ``1`` and ``1.0`` are one value, ``True`` is another; a list equals a tuple; a dict's order
      does not count; a path is its string; an array counts with its dtype and shape.
    - A dataclass instance is its class and the fields that take part in its comparison, without
      those of `added_field` that have their defaults.
    - What this package names with `counts_as` is that name and version. A library's function or
      class is its name: to upgrade a library changes nothing.
    - A function or class of the user's is its syntax tree without docstrings, its defaults, its
      closure, and everything of the user's that it reaches by its globals: functions, classes and
      values, also as attributes of modules (``parts.block``, ``parts.WIDTH``). In which module
      something stands doesn't count. Of a global value without a canonical form, the statements
      count that make it.
    - What a function imports when it runs is not imported for this: it counts by the text of its
      file, as far as the function reaches it.
    - A function compiled by numba is the Python function under it.
    - Where no source can be found (typed at a prompt), a function is known by its bytecode, which
      differs between versions of Python and never equals the same function's source.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, bytes, list, tuple, dict, range, enum member, path, NumPy
        scalar or array, function, class, module, ``functools.partial`` or dataclass instance.
    known : dict, optional
        Keeps what functions and classes were found to be, from call to call. For as long as
        nothing that they reach changes.

    Returns
    -------
    Json
        Ready for :func:`json.dumps`, also with ``allow_nan=False``.

    Raises
    ------
    CanonicalError
        If the value, or a part of it, is of another type, or contains itself. The message names
        the part and says what to write instead.
    """
    known = {} if known is None else known

    def refer(thing: object, where: str) -> Json:
        if id(thing) not in known:
            form = _by_name(thing)
            if form is None:
                form = {"code": sha256(json_text(_reached_from(thing)))}
            elif "package" in form and id(thing) not in _NAMES:
                raise CanonicalError(
                    f"{where} is {_name(thing)}, which has no name that outlives a move within "
                    f"{PACKAGE}: it must be decorated with counts_as"
                )
            known[id(thing)] = (thing, form)
        return known[id(thing)][1]

    return _Converter(refer).value(value, "the value")


class _Converter:
    """Converts values to JSON; `refer` converts functions, classes and modules."""

    def __init__(self, refer: Callable[[object, str], Json]) -> None:
        self._refer = refer
        #: Module and name of what was already looked up from files.
        self.looked_up: set[tuple[str, str]] = set()

    def value(self, value: object, where: str, parents: tuple[int, ...] = ()) -> Json:
        """Convert `value`, found at `where`, inside the objects whose ids are `parents`."""
        if isinstance(value, Enum):
            return {"enum": [self._refer(type(value), where), value.name]}
        for kinds, convert in _SIMPLE:
            if isinstance(value, kinds):
                return convert(value)
        if isinstance(value, np.ndarray):
            return _array(value, where)
        is_code = isinstance(value, ModuleType | type | np.ufunc) or _is_builtin(value)
        if is_code or id(value) in _NAMES:
            return self._refer(value, where)
        return self._compound(value, where, parents)

    def _compound(self, value: object, where: str, parents: tuple[int, ...]) -> Json:
        """Convert a value that contains others."""
        if isinstance(value, FunctionType):
            inner = _wrapped(value)
            if inner is not None and owner(value) != "user" and owner(inner) == "user":
                return {"wrapped": self.value(inner, where)}
            return self._refer(value, where)
        if id(value) in parents:
            raise CanonicalError(f"{where} contains itself, so it has no identity: write it flat")
        inside = (*parents, id(value))
        if isinstance(value, list | tuple):
            return [self.value(item, f"{where}[{i}]", inside) for i, item in enumerate(value)]
        if isinstance(value, dict):
            keys = (self.value(key, f"a key of {where}", inside) for key in value)
            items = (
                self.value(item, f"{where}[{reprlib.repr(key)}]", inside)
                for key, item in value.items()
            )
            pairs: list[Json] = [[key, item] for key, item in zip(keys, items, strict=True)]
            return {"dict": sorted(pairs, key=json_text)}
        if isinstance(value, functools.partial):
            call = (value.func, value.args, value.keywords)
            return {"partial": self.value(call, f"the partial at {where}", inside)}
        if dataclasses.is_dataclass(value):
            fields: Json = {
                field.name: self.value(getattr(value, field.name), f"{where}.{field.name}", inside)
                for field in dataclasses.fields(value)
                if field.compare
                and not (_ADDED in field.metadata and getattr(value, field.name) == field.default)
            }
            return {"dataclass": [self._refer(type(value), where), fields]}
        if (inner := _wrapped(value)) is not None:
            return {"wrapped": self.value(inner, where)}
        hint = next((hint for kind, hint in _HINTS if isinstance(value, kind)), _HINT)
        raise CanonicalError(
            f"{where} is {reprlib.repr(value)} of type {_name(type(value))}, "
            f"which has no identity that outlives the process: {hint}"
        )


def _float(value: float | np.floating[Any]) -> Json:
    number = float(value)
    if not math.isfinite(number):
        return {"float": repr(number)}
    return int(number) if number.is_integer() else number


#: What contains nothing else, and its form.
_SIMPLE: tuple[tuple[Any, Callable[[Any], Json]], ...] = (
    (NoneType, lambda value: None),
    ((bool, np.bool_), bool),
    ((str, PurePath), str),
    ((int, np.integer), int),
    ((float, np.floating), _float),
    (bytes, lambda value: {"bytes": value.hex()}),
    (range, lambda value: {"range": [value.start, value.stop, value.step]}),
)


def _array(value: np.ndarray, where: str) -> Json:
    if value.dtype.kind not in "biufcSU":
        raise CanonicalError(
            f"{where} is an array of dtype {value.dtype}, and only numbers, booleans and strings "
            "have an identity: write a list"
        )
    little_endian = value.astype(value.dtype.newbyteorder("<"))
    shape: list[Json] = list(value.shape)
    return {"array": [little_endian.dtype.str, shape, sha256(little_endian.tobytes())]}


# --- What counts by its name ----------------------------------------------------------------------


def _by_name(thing: object) -> dict[str, Json] | None:
    """Convert what this package or a library defines; None for the user's own."""
    whose = owner(thing)
    if id(thing) in _NAMES or whose == "package":
        return {"package": [*_NAMES.get(id(thing), [str(getattr(thing, "__qualname__", ""))])]}
    return {"library": _library_name(thing)} if whose == "library" else None


def _library_name(thing: object) -> str:
    """Name a library's object by the outermost package that exports it.

    The module that defines it may change between versions.
    """
    if isinstance(thing, ModuleType):
        return thing.__name__
    name, module = _name(thing), str(getattr(thing, "__module__", None) or "")
    first = str(getattr(thing, "__qualname__", "")).partition(".")[0]
    found = vars(sys.modules[module]).get(first) if module in sys.modules else None
    parts = module.split(".")
    for i in range(1, len(parts)):
        outer = sys.modules.get(".".join(parts[:i]))
        if found is not None and outer is not None and vars(outer).get(first) is found:
            return ".".join([*parts[:i], name.removeprefix(f"{module}.")])
    return name


def _wrapped(value: object) -> FunctionType | None:
    """Return the function that a library has compiled, cached or otherwise wrapped."""
    inner = getattr(value, "py_func", None)
    if inner is None and (isinstance(value, FunctionType) or owner(type(value)) == "library"):
        inner = getattr(value, "__wrapped__", None)
    return inner if isinstance(inner, FunctionType) else None


def _is_builtin(value: object) -> bool:
    """Return whether a value is a library's function in C, or a named object of a library."""
    if isinstance(value, BuiltinFunctionType):
        is_named = isinstance(value.__self__, ModuleType | type | None)
        return is_named and owner(value) != "user"
    name, module = getattr(value, "__qualname__", None), getattr(value, "__module__", None)
    if not isinstance(name, str) or isinstance(value, FunctionType) or module not in sys.modules:
        return False
    return vars(sys.modules[module]).get(name) is value and owner(value) == "library"


def _name(value: object) -> str:
    """Return the dotted name of a class or function."""
    name = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", None))
    module = getattr(value, "__module__", None)
    return name if module in (None, "builtins") else f"{module}.{name}"


# --- The user's code, as objects ------------------------------------------------------------------

#: Globals that describe the location of a module, not its content.
_PLACE = {"__builtins__", "__file__", "__path__", *vars(ModuleType(""))} - {"__doc__"}
_PLAIN = (bool, int, float, str, bytes, list, tuple, dict, np.generic, np.ndarray)


#: Read once, before the files of the functions and classes change.
_pieces: WeakKeyDictionary[Any, Piece] = WeakKeyDictionary()


def _reached_from(root: object) -> list[Json]:
    """Convert a function, class or module of the user's, and all that it reaches, once each.

    They are numbered in the order in which they are found, and refer to each other by number.
    """
    things, places = [root], {id(root): 0}

    def refer(thing: object, where: str) -> Json:
        if (named := _by_name(thing)) is not None:
            return named
        if id(thing) not in places:
            places[id(thing)] = len(things)
            things.append(thing)
        return {"code": places[id(thing)]}

    converter, forms = _Converter(refer), list[Json]()
    for thing in things:  # which grows meanwhile
        if isinstance(thing, FunctionType):
            forms.append(_function(thing, converter, strict=thing is root))
        elif isinstance(thing, type):
            forms.append(_class(thing, converter))
        else:
            forms.append(_in_files([(home_of(vars(thing)), "")], converter))
    return forms


def _function(function: FunctionType, converter: _Converter, *, strict: bool) -> Json:
    """Convert a function: its text, its own values, and what it reads of its module."""
    code = function.__code__
    home = home_of(function.__globals__, code.co_filename)
    if function not in _pieces:
        _pieces[function] = function_piece(code, home.source)
    values = {"defaults": (function.__defaults__, function.__kwdefaults__)}
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        with suppress(ValueError):  # the variable has not been assigned yet
            values[f"closure variable {variable!r}"] = cell.cell_contents
    own: dict[str, Json] = {}
    for what, value in values.items():
        try:
            own[what] = converter.value(value, f"the {what} of {_name(function)}")
        except CanonicalError:
            if strict:
                raise
            own[what] = _loosely(value, converter)
    return {"own": own, **_reached(_pieces[function], function.__globals__, home, converter)}


def _reached(
    piece: Piece, variables: Mapping[str, Any], home: File, converter: _Converter
) -> dict[str, Json]:
    """Convert the text of a piece of code, and what it reads of its module and imports itself."""
    return {
        "text": piece.text,
        "reads": _read(piece.chains, variables, home, converter),
        "files": _in_files(imported_by(piece, home), converter),
    }


def _class(cls: type, converter: _Converter) -> Json:
    """Convert a class: its text, bases, present plain attributes, and what it reads."""
    methods = [one for one in vars(cls).values() if isinstance(one, FunctionType)]
    own = [one for one in methods if one.__globals__.get("__name__") == cls.__module__]
    module = vars(sys.modules[cls.__module__]) if cls.__module__ in sys.modules else {}
    variables = own[0].__globals__ if own else module
    # Of a data class, some methods stand in no file.
    files = [one.__code__.co_filename for one in own if one.__code__.co_filename[:1] != "<"]
    home = home_of(variables, files[0] if files else None)
    if cls not in _pieces:
        _pieces[cls] = class_piece(cls, home.source, own)
    piece, attributes = _pieces[cls], dict[str, Json]()
    for name, value in sorted(vars(cls).items()):
        if isinstance(value, FunctionType):
            # What stands in its text counts with it.
            is_inside = piece.text and value.__qualname__ == f"{cls.__qualname__}.{name}"
            is_own = not is_inside and owner(value) == "user"
        else:
            is_own = isinstance(value, _PLAIN) and not issubclass(cls, Enum) and name[:2] != "__"
        if is_own:
            attributes[name] = _loosely(value, converter)
    return {
        "name": cls.__qualname__,
        "bases": [converter.value(base, "a base") for base in cls.__bases__],
        "attributes": attributes,
        **_reached(piece, variables, home, converter),
    }


def _read(
    chains: Iterable[str], variables: Mapping[str, Any], home: File, converter: _Converter
) -> dict[str, Json]:
    """Convert what dotted names refer to, through modules of the user's as far as possible."""
    found: dict[str, Json] = {}
    for chain in chains:
        names = chain.split(".")
        if names[0] not in variables or names[0] in _PLACE:
            continue
        place, value, depth = home, variables[names[0]], 1
        while depth < len(names) and _is_users_module(value) and names[depth] in vars(value):
            place, value, depth = home_of(vars(value)), vars(value)[names[depth]], depth + 1
        if _is_users_module(value):  # of which more is asked for than has been imported, or all
            wanted = (home_of(vars(value)), ".".join(names[depth:]))
            found[chain] = _in_files([wanted], converter)
        elif not isinstance(value, logging.Logger):
            made = (place, names[depth - 1])
            found[".".join(names[:depth])] = _loosely(value, converter, made)
    return found


def _in_files(wanted: Iterable[tuple[File, str]], converter: _Converter) -> list[Json]:
    """Convert what is found in files, and in modules that this process has run."""
    found, settled = in_files(wanted)
    for name, chain in settled:
        if (name, chain) in converter.looked_up:
            continue
        converter.looked_up.add((name, chain))
        variables = vars(sys.modules[name])
        if chain:
            found.append(_read([chain], variables, home_of(variables), converter))
        else:
            found += _in_files([(home_of(variables), "")], converter)
    return found


def _loosely(value: object, converter: _Converter, made: tuple[File, str] | None = None) -> Json:
    """Convert what code reads; without a canonical form, the statements count that make it.

    An error would exclude most functions: they read caches, locks, random generators.
    """
    with suppress(CanonicalError):
        return converter.value(value, "a global")
    kind = converter.value(type(value), "its type")
    with suppress(CanonicalError):
        if isinstance(value, Set):
            items = (converter.value(item, "an item") for item in value)
            return {"set": [kind, sorted(items, key=json_text)]}
        is_users = owner(type(value)) == "user" or isinstance(value, SimpleNamespace)
        if is_users and hasattr(value, "__dict__"):
            return {"instance": [kind, converter.value(vars(value), "its attributes")]}
    return {"made": _in_files([made] if made else [], converter) or kind}


def _is_users_module(value: object) -> bool:
    return isinstance(value, ModuleType) and owner(value) == "user"
