"""One spelling for equal values, and a hash of it: the identity of configurations and plans.

Every JSON object that :func:`canonical` returns has exactly one key, a tag such as ``"dict"`` or
``"function"``, so that no two kinds of value can be spelled alike.
"""

from __future__ import annotations

import dataclasses
import dis
import functools
import hashlib
import inspect
import json
import math
import reprlib
import textwrap
from collections.abc import Iterator, Mapping, Set
from enum import Enum
from pathlib import PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType
from typing import TypeAlias

import numpy as np

from ecg_mlflow.errors import CanonicalError

VERSION = 1
"""Goes into every digest; raise it whenever the canonical form of any value changes."""

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

_HINTS: tuple[tuple[type, str], ...] = (
    (Set, "write a sorted list"),
    (Mapping, "write a dict"),
    (bytearray, "write bytes"),
    (Iterator, "write a list"),
)
_HINT = "write a frozen dataclass, a function or a plain value (number, string, list, dict, array)"


def digest(value: object) -> str:
    """Hash a value so that equal values, and only those, have one digest.

    Parameters
    ----------
    value : object
        Anything that :func:`canonical` takes.

    Returns
    -------
    str
        SHA-256 in hex of the format's version and the compact, sorted JSON of the canonical form.

    Raises
    ------
    CanonicalError
        As :func:`canonical`.
    """
    return _sha256(_json([VERSION, canonical(value)]))


def canonical(value: object) -> Json:
    """Spell a value in JSON so that equal values, and only those, are spelled alike.

    - ``1`` and ``1.0`` are one value, ``True`` is another; a list equals a tuple; a dict's order
      does not count; a path is its string; an array counts with its dtype and shape.
    - A dataclass instance is its class name and the fields that take part in its comparison.
    - A function is its qualified name, its source, its defaults, its closure and, of the globals
      that it reads, the plain values and the functions and classes of its own module. So editing
      a constant or a helper beside it gives a new identity, upgrading a library does not.
    - A function compiled by numba is the Python function under it.
    - A lambda shares its source line with its neighbours, so it is known by its bytecode. So is a
      function whose source can't be found (typed at a prompt, or unpickled where its file is
      missing). Bytecode differs between versions of Python, and its digest never equals that of
      the same function's source: compute identities in one place, where the source is.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, bytes, list, tuple, dict, range, enum member, path, NumPy
        scalar or array, function, class, module, ``functools.partial`` or dataclass instance.

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
    return _canonical(value, "the value", ())


def _canonical(value: object, where: str, parents: tuple[int, ...]) -> Json:
    """Spell `value`, found at `where`, inside the objects whose ids are `parents`."""
    if value is None:
        return None
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, Enum):
        return {"enum": [_name(type(value)), value.name]}
    if isinstance(value, str | PurePath):
        return str(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return _float(float(value))
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if isinstance(value, np.ndarray):
        return _array(value, where)
    if isinstance(value, ModuleType):
        return {"module": value.__name__}
    if isinstance(value, np.ufunc) or _is_builtin(value):
        return {"builtin": _name(value)}
    return _compound(value, where, parents)


def _compound(value: object, where: str, parents: tuple[int, ...]) -> Json:
    """Spell a value that holds others."""
    inside = (*parents, id(value))
    if id(value) in parents:
        if isinstance(value, FunctionType | type):
            return {"recursion": len(parents) - parents.index(id(value))}
        raise CanonicalError(f"{where} contains itself, so it has no identity: write it flat")
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{where}[{i}]", inside) for i, item in enumerate(value)]
    if isinstance(value, dict):
        return _dict(value, where, inside)
    if isinstance(value, functools.partial):
        call = (value.func, value.args, value.keywords)
        return {"partial": _canonical(call, f"the partial at {where}", inside)}
    if isinstance(value, FunctionType):
        return {"function": _function(value, inside)}
    if isinstance(value, type):
        return {"class": _class(value, inside)}
    if isinstance(py_func := getattr(value, "py_func", None), FunctionType):
        return {"compiled": _canonical(py_func, where, inside)}
    if dataclasses.is_dataclass(value):
        fields = {
            field.name: _canonical(getattr(value, field.name), f"{where}.{field.name}", inside)
            for field in dataclasses.fields(value)
            if field.compare
        }
        return {"dataclass": [_name(type(value)), fields]}
    hint = next((hint for kind, hint in _HINTS if isinstance(value, kind)), _HINT)
    raise CanonicalError(
        f"{where} is {reprlib.repr(value)} of type {_name(type(value))}, "
        f"which has no identity that outlives the process: {hint}"
    )


def _float(value: float) -> Json:
    if not math.isfinite(value):
        return {"float": repr(value)}
    return int(value) if value.is_integer() else value


def _array(value: np.ndarray, where: str) -> Json:
    if value.dtype.kind not in "biufcSU":
        raise CanonicalError(
            f"{where} is an array of dtype {value.dtype}, and only numbers, booleans and strings "
            "have an identity: write a list"
        )
    little_endian = value.astype(value.dtype.newbyteorder("<"))
    shape: list[Json] = list(value.shape)
    return {"array": [little_endian.dtype.str, shape, _sha256(little_endian.tobytes())]}


def _dict(value: dict[object, object], where: str, parents: tuple[int, ...]) -> Json:
    pairs: list[list[Json]] = [
        [
            _canonical(key, f"a key of {where}", parents),
            _canonical(item, f"{where}[{reprlib.repr(key)}]", parents),
        ]
        for key, item in value.items()
    ]
    return {"dict": [*sorted(pairs, key=_json)]}


def _function(function: FunctionType, parents: tuple[int, ...]) -> Json:
    """Spell what a function does: its text and every plain value that the text refers to."""
    name = _name(function)
    defaults = (function.__defaults__, function.__kwdefaults__)
    return {
        "name": name,
        "text": _text(function),
        "defaults": _canonical(defaults, f"the defaults of {name}", parents),
        "closure": _closure(function, parents),
        "globals": _globals(function, parents),
    }


def _closure(function: FunctionType, parents: tuple[int, ...]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for variable, cell in zip(
        function.__code__.co_freevars, function.__closure__ or (), strict=True
    ):
        try:
            content = cell.cell_contents
        except ValueError:  # the variable has not been assigned yet
            continue
        where = f"the closure variable {variable!r} of {_name(function)}"
        found[variable] = _canonical(content, where, parents)
    return found


def _globals(function: FunctionType, parents: tuple[int, ...]) -> dict[str, Json]:
    found: dict[str, Json] = {}
    for name in sorted(_global_names(function.__code__) & function.__globals__.keys()):
        value = function.__globals__[name]
        if callable(value) and getattr(value, "__module__", None) != function.__module__:
            continue
        try:
            found[name] = _canonical(value, f"the global {name!r}", parents)
        except CanonicalError:
            # Code reads many things that aren't values (loggers, caches). Refusing them would
            # refuse most functions; they count by their name, which stands in the text.
            continue
    return found


def _global_names(code: CodeType) -> set[str]:
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return names.union(*map(_global_names, inner))


@functools.lru_cache(maxsize=1024)  # to find a source takes milliseconds
def _text(function: FunctionType) -> Json:
    """Spell a function's code: its source, or its bytecode where the source says too little."""
    code = function.__code__
    if code.co_name != "<lambda>":
        try:
            # From the code object, because from a function `inspect` goes on to what it wraps.
            return _sha256(textwrap.dedent(inspect.getsource(code)).strip())
        except OSError:
            pass
    return {"bytecode": _bytecode(code)}


def _bytecode(code: CodeType) -> Json:
    signature = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_varnames, code.co_names, code.co_freevars, code.co_cellvars)
    constants = [_constant(const) for const in code.co_consts]
    return [_sha256(code.co_code), repr(signature), repr(names), constants]


def _constant(value: object) -> Json:
    if isinstance(value, CodeType):
        return {"code": _bytecode(value)}
    if isinstance(value, frozenset):
        return {"frozenset": [*sorted(map(_constant, value), key=_json)]}
    if isinstance(value, tuple):
        return [_constant(item) for item in value]
    return {"literal": repr(value)}


def _class(cls: type, parents: tuple[int, ...]) -> Json:
    text = _class_text(cls)
    if text is None:
        methods = {k: v for k, v in vars(cls).items() if isinstance(v, FunctionType)}
        text = {k: _canonical(methods[k], f"{_name(cls)}.{k}", parents) for k in sorted(methods)}
    return {"name": _name(cls), "text": text}


@functools.lru_cache(maxsize=1024)  # `inspect` parses the whole file for it
def _class_text(cls: type) -> Json:
    try:
        return _sha256(textwrap.dedent(inspect.getsource(cls)).strip())
    except (OSError, TypeError):
        return None


def _is_builtin(value: object) -> bool:
    return isinstance(value, BuiltinFunctionType) and isinstance(
        value.__self__, ModuleType | type | None
    )


def _name(value: object) -> str:
    """Return the dotted name of a class or function."""
    name = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", None))
    module = getattr(value, "__module__", None)
    return name if module in (None, "builtins") else f"{module}.{name}"


def _json(value: Json) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _sha256(content: str | bytes) -> str:
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()
