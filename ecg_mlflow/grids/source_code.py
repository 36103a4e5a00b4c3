"""Read the user's source: the text of functions and classes, and the names that they reach.

This module imports and runs no code of the user's: it parses files, and follows names from one file
to the next.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import hashlib
import importlib.util
import json
import linecache
import sys
import sysconfig
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

PACKAGE = __name__.partition(".")[0]
#: Modules that are never looked for beside a grid file, since others import them.
TAKEN = sys.stdlib_module_names | {PACKAGE}


def owner(thing: Any) -> str:
    """Return the owner of a function, class or module: ``package``, ``library`` or ``user``."""
    name = thing.__name__ if isinstance(thing, ModuleType) else getattr(thing, "__module__", None)
    if isinstance(thing, FunctionType):
        # Not `__module__`, which `functools.wraps` copies from another function.
        name = thing.__globals__.get("__name__")
    name = str(name or "builtins")
    module = thing if isinstance(thing, ModuleType) else sys.modules.get(name)
    if module is None:
        return "user"
    if isinstance(thing, FunctionType) and module.__dict__ is not thing.__globals__:
        return "user"
    top = name.partition(".")[0]
    if top == PACKAGE:
        return "package"
    # Without attribute access, which loads some modules.
    for one in (module, sys.modules.get(top)):
        variables = getattr(one, "__dict__", {})
        if getattr(variables.get("__loader__"), "is_users", False):
            return "user"
        file = variables.get("__file__") or next(iter(variables.get("__path__", ())), None)
        if file is not None:
            return "library" if is_library(str(file)) else "user"
    return "library" if top in sys.stdlib_module_names else "user"


@functools.lru_cache(maxsize=4096)
def is_library(file: str) -> bool:
    """Return whether a file belongs to Python or to an installed package."""
    homes = {sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    path = Path(file)
    installed = not {"site-packages", "dist-packages"}.isdisjoint(path.parts)
    return installed or any(path.is_relative_to(home) for home in homes)


@dataclass(frozen=True)
class Piece:
    """The content of a piece of code.

    Attributes
    ----------
    text
        Hash of its syntax tree, or its bytecode; None if there is neither.
    chains
        Dotted names of its module that it reads, such as ``parts.block``.
    in_files
        What it reads by the text of files alone: level and module of an import, and dotted name in
        that module. First the names in its decorators, which are of its own module, None, since a
        function that was sent to another process doesn't bring the objects along; then its own
        imports that it uses.
    """

    text: Json
    chains: tuple[str, ...] = ()
    in_files: tuple[tuple[int, str | None, str], ...] = ()


@dataclass(frozen=True)
class File:
    """A module as its file defines it.

    Attributes
    ----------
    name, package
        Names that resolve its imports.
    source
        Its source; None if that is unknown.
    is_settled
        Whether it was run in this process, so that its present state counts, not its source.
    """

    name: str
    package: str
    source: _Source | None
    is_settled: bool = False


def home_of(variables: Mapping[str, Any], file: str | None = None) -> File:
    """Return the file of a module, known by its variables."""
    name, package = str(variables.get("__name__", "")), variables.get("__package__")
    if package is None:
        package = name if "__path__" in variables else name.rpartition(".")[0]
    file = file or str(variables.get("__file__"))
    linecache.checkcache(file)
    return File(name, package, _parsed("".join(linecache.getlines(file))))


def function_piece(code: CodeType, source: _Source | None) -> Piece:
    """Read a function in its file; without a source, its bytecode counts."""
    names = _global_names(code)
    node = source.function(code) if source is not None else None
    if node is not None:
        return _piece(node, names)
    return Piece({"bytecode": [code.co_name, _bytecode(code)]}, tuple(sorted(names)))


def class_piece(cls: type, source: _Source | None, methods: Iterable[FunctionType]) -> Piece:
    """Read a class in its file; `methods` select one of several of its name."""
    lines = [method.__code__.co_firstlineno for method in methods]
    node = source.class_(cls.__qualname__, lines) if source is not None else None
    return Piece(None) if node is None else _piece(node)


def _piece(node: ast.stmt | ast.Lambda, names: Set[str] | None = None) -> Piece:
    """Read a piece of code; `names` are the globals that it reads, where they are known."""
    decorators = getattr(node, "decorator_list", [])
    chains, imported = _uses(one for one in ast.iter_child_nodes(node) if one not in decorators)
    if names is None:
        assert isinstance(node, ast.stmt)
        try:
            names = _free_names(node)
        except SyntaxError:  # a part that can't stand alone, or a file that can't be run
            names = {chain.partition(".")[0] for chain in chains}
    imports = {
        (level, module, _joined(name, chain[len(alias) + 1 :]))
        for alias, (level, module, name) in imported.items()
        # An import that is not used counts, too.
        for chain in [one for one in chains if f"{one}.".startswith(f"{alias}.")] or [alias]
    }
    return Piece(
        sha256(json_text(_tree(node))),
        tuple(sorted(chain for chain in chains if chain.partition(".")[0] in names)),
        (*((0, None, chain) for chain in sorted(_uses(decorators)[0])), *sorted(imports)),
    )


def _uses(nodes: Iterable[ast.AST]) -> tuple[set[str], dict[str, tuple[int, str, str]]]:
    """Return the dotted names in a piece of code, and its imports as `_given_names` does."""
    chains, imports = set[str](), dict[str, tuple[int, str, str]]()
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            imports |= _given_names(node)
        elif chain := _dotted_name(node):
            chains.add(chain)
        else:
            inner, its_imports = _uses(ast.iter_child_nodes(node))
            chains |= inner
            imports |= its_imports
    return chains, imports


def _dotted_name(node: ast.AST) -> str:
    """Return the name that an expression is, such as ``parts.block``; empty for any other."""
    if isinstance(node, ast.Attribute):
        outer = _dotted_name(node.value)
        return f"{outer}.{node.attr}" if outer else ""
    return node.id if isinstance(node, ast.Name) else ""


def _given_names(node: ast.Import | ast.ImportFrom) -> dict[str, tuple[int, str, str]]:
    """Return the names that an import assigns, each with level, module and the name there."""
    if isinstance(node, ast.ImportFrom):
        of = (node.level, node.module or "")
        return {alias.asname or alias.name: (*of, alias.name) for alias in node.names}
    tops = {alias.name: alias.name.partition(".")[0] for alias in node.names}
    return {
        alias.asname or tops[alias.name]: (0, alias.name if alias.asname else tops[alias.name], "")
        for alias in node.names
    }


def _free_names(node: ast.stmt) -> set[str]:
    """Return the names of its module that a statement reads, decorators left out."""
    fields = {**dict(ast.iter_fields(node)), "decorator_list": []}
    alone = type(node)(**{name: fields[name] for name in node._fields})
    module = ast.Module([ast.copy_location(alone, node)], [])
    return _global_names(compile(module, "<piece>", "exec", dont_inherit=True))


def _global_names(code: CodeType) -> set[str]:
    reading = ("LOAD_GLOBAL", "LOAD_NAME", "LOAD_FROM_DICT_OR_GLOBALS")
    names = {i.argval for i in dis.get_instructions(code) if i.opname in reading}
    inner = (const for const in code.co_consts if isinstance(const, CodeType))
    return names.union(*map(_global_names, inner))


def _tree(node: Any) -> Json:
    """Convert a syntax tree to JSON, without positions, docstrings and empty fields.

    `ast.dump` and `ast.unparse` differ between versions of Python: in new or empty fields, and in
    the form of strings.
    """
    if isinstance(node, list):
        return [_tree(item) for item in node if not _says_nothing(item)]
    if isinstance(node, ast.Constant):
        text = node.value if isinstance(node.value, str) else repr(node.value)
        return {"Constant": [type(node.value).__name__, text]}
    if isinstance(node, ast.JoinedStr):
        return {"JoinedStr": _f_string(node)}
    if isinstance(node, ast.AST):
        fields = {
            name: _tree(value)
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in ("ctx", "type_comment")
        }
        return {type(node).__name__: fields}
    return node if isinstance(node, str | int | None) else repr(node)


def _f_string(node: ast.JoinedStr) -> list[Json]:
    """Convert an f-string; versions of Python cut its plain text into different pieces."""
    found: list[Json] = [""]
    for part in node.values:
        if isinstance(part, ast.Constant):
            found[-1] = str(found[-1]) + str(part.value)
        else:
            found += [_tree(part), ""]
    return found


def _says_nothing(node: object) -> bool:
    """Return whether a statement is a docstring or ``pass``."""
    is_text = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    return isinstance(node, ast.Pass) or is_text


class _Source:
    """The definitions in a file's syntax tree."""

    def __init__(self, tree: ast.Module) -> None:
        self._functions: dict[tuple[str, int], list[Any]] = {}
        self._classes: dict[str, list[ast.ClassDef]] = {}
        #: Statements of the top level by the names that they assign or change.
        self.statements: dict[str, list[ast.stmt]] = {"": tree.body}
        self._note(tree, "")
        for statement in tree.body:
            for name in _changed_names(statement):
                self.statements.setdefault(name, []).append(statement)

    def _note(self, node: ast.AST, scope: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner, name = scope, getattr(child, "name", "<lambda>")
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                first_line = min(
                    one.lineno for one in [child, *getattr(child, "decorator_list", [])]
                )
                self._functions.setdefault((name, first_line), []).append(child)
                inner = f"{scope}{name}.<locals>."
            elif isinstance(child, ast.ClassDef):
                self._classes.setdefault(f"{scope}{name}", []).append(child)
                inner = f"{scope}{name}."
            self._note(child, inner)

    def function(self, code: CodeType) -> ast.stmt | ast.Lambda | None:
        """Find a function by its line; of several lambdas in a line, the one at its position."""
        found = self._functions.get((code.co_name, code.co_firstlineno), [])
        if len(found) > 1:
            spans, bodies = set(code.co_positions()), [(one, one.body) for one in found]
            found = [
                one
                for one, it in bodies
                if (it.lineno, it.end_lineno, it.col_offset, it.end_col_offset) in spans
            ]
        return found[0] if len(found) == 1 else None

    def class_(self, name: str, lines: Iterable[int]) -> ast.ClassDef | None:
        """Find a class by its qualified name; of several, the one with these lines of methods."""
        found = self._classes.get(name, [])
        for one in found:
            if any(one.lineno <= line <= (one.end_lineno or 0) for line in lines):
                return one
        return found[-1] if found else None


#: Reads a statement of the top level.
_statement_piece = functools.lru_cache(maxsize=4096)(_piece)


@functools.lru_cache(maxsize=256)
def _parsed(text: str) -> _Source | None:
    try:
        return _Source(ast.parse(text)) if text else None
    except SyntaxError:
        return None


def _changed_names(node: ast.AST) -> set[str]:
    """Return the names that a statement assigns, or whose values it changes."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return {node.name}
    if isinstance(node, ast.Import | ast.ImportFrom):
        return set(_given_names(node))
    if isinstance(node, ast.Lambda | ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp):
        return set()
    found = set().union(*map(_changed_names, ast.iter_child_nodes(node)))
    changed: ast.AST | None = None
    if isinstance(getattr(node, "ctx", None), ast.Store | ast.Del):
        changed = node
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        changed = node.value.func if isinstance(node.value.func, ast.Attribute) else None
    while isinstance(changed, ast.Attribute | ast.Subscript):  # as in `sizes.append(3)`
        changed = changed.value
    return found | {changed.id} if isinstance(changed, ast.Name) else found


def in_files(
    wanted: Iterable[tuple[File, str]],
) -> tuple[list[Json], list[tuple[str, str]]]:
    """Collect, from files alone, the statements that define what dotted names refer to.

    The names of modules don't count: modules are numbered in the order in which they are found.

    Returns
    -------
    The statements; and module and dotted name of what to look up in modules that were run.
    """
    waiting = deque(wanted)
    seen, numbers, found = set[tuple[str, object]](), dict[str, int](), list[Json]()
    settled = list[tuple[str, str]]()
    while waiting:
        file, chain = waiting.popleft()
        if file.source is None or (file.name, chain) in seen:
            continue
        seen.add((file.name, chain))
        root, _, rest = chain.partition(".")
        if file.is_settled and (not root or root in vars(sys.modules[file.name])):
            settled.append((file.name, chain))
            continue
        if root not in file.source.statements:
            waiting.extend(_brought(file, root, rest))
            continue
        for statement in file.source.statements[root]:
            if isinstance(statement, ast.Import | ast.ImportFrom):
                for name, (level, module, there) in sorted(_given_names(statement).items()):
                    if root not in ("", name):
                        continue
                    if (target := _imported(level, module, file)) is None:
                        found.append(["import", f"{module}.{there}"])
                    else:
                        waiting.append((target, _joined("" if there == "*" else there, rest)))
            elif (file.name, statement) not in seen and not _says_nothing(statement):
                seen.add((file.name, statement))
                piece = _statement_piece(statement)
                found.append([numbers.setdefault(file.name, len(numbers)), piece.text])
                waiting.extend((file, one) for one in piece.chains)
                waiting.extend(imported_by(piece, file))
    return found, settled


def _brought(file: File, root: str, rest: str) -> Iterator[tuple[File, str]]:
    """Yield the origins of a name that a file doesn't assign: submodules and star imports."""
    assert file.source is not None
    if hasattr(builtins, root):
        return
    if file.package == file.name and (inner := _file(f"{file.name}.{root}")) is not None:
        yield inner, rest
    for statement in file.source.statements.get("*", ()):
        assert isinstance(statement, ast.ImportFrom)
        if (other := _imported(statement.level, statement.module or "", file)) is not None:
            yield other, _joined(root, rest)


def imported_by(piece: Piece, home: File) -> Iterator[tuple[File, str]]:
    """Yield the names in files that a piece of code in `home` refers to."""
    for level, module, chain in piece.in_files:
        file = home if module is None else _imported(level, module, home)
        if file is not None:
            yield file, chain


def _imported(level: int, module: str, home: File) -> File | None:
    """Find the module of an import in `home`; None if it is not the user's."""
    name = _absolute_name(level, module, home.package)
    return None if name is None else _file(name)


def _file(name: str) -> File | None:
    """Find a module without importing it; None if it is not the user's."""
    top = sys.modules.get(name.partition(".")[0])
    if name.partition(".")[0] == PACKAGE or (top is not None and owner(top) != "user"):
        return None
    spec = _spec(name)
    if spec is None:
        return None
    folders = spec.submodule_search_locations
    where = spec.origin if spec.has_location else next(iter(folders or ()), None)
    if where is None or (is_library(where) and not getattr(spec.loader, "is_users", False)):
        return None
    get_source = getattr(spec.loader, "get_source", None)
    text = get_source(name) if get_source is not None else ""
    package = name.rpartition(".")[0] if folders is None else name
    loader = getattr(sys.modules.get(name), "__loader__", None)
    is_settled = getattr(loader, "is_settled", False)
    return File(name, package, _parsed(text or "pass"), is_settled)


def _spec(name: str) -> ModuleSpec | None:
    """Find a module's spec; `importlib.util.find_spec` would import the packages around it."""
    path, outer = None, name.rpartition(".")[0]
    if outer:
        around = _spec(outer)
        if around is None or around.submodule_search_locations is None:
            return None
        path = list(around.submodule_search_locations)
    found = (finder.find_spec(name, path) for finder in sys.meta_path)
    return next((spec for spec in found if spec is not None), None)


def imported_modules(name: str, content: bytes) -> set[str]:
    """List the modules that a Python file may import, anywhere in it.

    Parameters
    ----------
    name
        Its path among the user's files, such as ``nets/blocks.py``.
    content
        Its content; a file with a syntax error imports nothing.
    """
    package = name.rpartition("/")[0].replace("/", ".")
    try:
        nodes = [*ast.walk(ast.parse(content))]
    except (SyntaxError, ValueError):
        return set()
    found = set[str]()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = _absolute_name(node.level, node.module or "", package)
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)} if base else set()
    return {module for module in found if module.partition(".")[0] not in TAKEN}


def _absolute_name(level: int, module: str, package: str) -> str | None:
    """Resolve the module of an import; None where it points above the topmost package."""
    try:
        return importlib.util.resolve_name("." * level + module, package) if level else module
    except ImportError:
        return None


def _joined(*names: str) -> str:
    return ".".join(filter(None, names))


def _bytecode(code: CodeType) -> Json:
    signature = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags)
    names = (code.co_varnames, code.co_names, code.co_freevars, code.co_cellvars)
    constants = [_constant(const) for const in code.co_consts]
    return [sha256(code.co_code), repr(signature), repr(names), constants]


def _constant(value: object) -> Json:
    if isinstance(value, CodeType):
        return {"code": _bytecode(value)}
    if isinstance(value, frozenset):
        return {"frozenset": [*sorted(map(_constant, value), key=json_text)]}
    if isinstance(value, tuple):
        return [_constant(item) for item in value]
    return {"literal": repr(value)}


def json_text(value: Json) -> str:
    """Write JSON in the form that is hashed."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def sha256(content: str | bytes) -> str:
    """Return a SHA-256 in hex."""
    data = content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")
    return hashlib.sha256(data).hexdigest()
