"""Select parts of a design: configurations by number or alias, grids by given values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from ecg_mlflow.errors import GridError, ResearchError
from ecg_mlflow.grids.values import KV, ConfigAlias, Range

if TYPE_CHECKING:
    from ecg_mlflow.grids.grid import Option, Product

Domain: TypeAlias = "tuple[KV, ...] | Range"

_NUMBERS = re.compile(r"\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*")


def narrowed(products: Sequence[Product], given: Mapping[str, object]) -> list[dict[str, Domain]]:
    """Narrow the options of all products to given values; leave out products that lack them.

    Parameters
    ----------
    products : sequence of Product
        The design.
    given : Mapping
        Same as for ``Grid.only``.

    Returns
    -------
    list
        For each product that is left, its options' values or ranges by name.

    Raises
    ------
    GridError
        Same as ``Grid.only``.
    """
    options = [option for product in products for option in product]
    for name, value in given.items():
        _check([option for option in options if option.name == name], options, name, value)
    left = []
    for product in products:
        parts = {
            one.name: _part(one, given[one.name]) if one.name in given else one.range or one.values
            for one in product
        }
        if given.keys() <= parts.keys() and all(parts.values()):
            left.append(parts)
    if not left:
        asked = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise GridError(
            f"no configuration has {asked}: each value occurs, but never all in one product. "
            "Name fewer options"
        )
    return left


def _part(option: Option, value: object) -> Domain:
    """Return the wanted part of an option's values or range; an empty tuple if it has none."""
    span = option.range
    if isinstance(value, Range):
        return value if span is not None and span.covers(value) else ()
    items = value if isinstance(value, list | tuple) else (value,)
    if span is not None:
        return tuple(dict.fromkeys(kv for one in items if (kv := span.exactly(one)) is not None))
    aliases = set(map(str, items))
    return tuple(kv for kv in option.values if kv.alias in aliases)


def _check(named: Sequence[Option], options: Sequence[Option], name: str, value: object) -> None:
    """Raise GridError for a name or a value that no option has."""
    if not named:
        known = [*dict.fromkeys(option.name for option in options)]
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "give one of them"
        listed = ", ".join(map(repr, known)) or "none"
        raise GridError(f"there is no option {name!r}. The options are {listed}; {hint}")
    if isinstance(value, list | tuple) and not value:
        raise GridError(
            f"option {name!r} is given an empty list: give it an alias, or leave it out"
        )
    for item in value if isinstance(value, list | tuple) else [value]:
        # An item of a list is no range, which can't be one of several values.
        asked = item if item is value else [item]
        if not any(_part(option, asked) for option in named):
            texts = [
                repr(one)
                for option in named
                for one in ([option.range] if option.range else [kv.alias for kv in option.values])
            ]
            has = ", ".join(dict.fromkeys(texts))
            raise GridError(f"option {name!r} has no value {item!r}; it has {has}")


def choose(configs: Sequence[ConfigAlias], which: str | None) -> list[int]:
    """Choose configurations by ``"0,3,5-8"`` or ``"model=ResNet18 & layout=cna"``.

    Returns
    -------
    Positions in `configs`, ascending.

    Raises
    ------
    ResearchError
        If the text can't be read, or no configuration matches it.
    """
    if which is None:
        return list(range(len(configs)))
    if _NUMBERS.fullmatch(which.strip()):
        return _by_number(which, len(configs))
    aliases = [config.alias() for config in configs]
    wanted: dict[str, str] = {}
    for term in which.split("&"):
        name, _, alias = (part.strip() for part in term.partition("="))
        if name in wanted or alias not in {one.get(name) for one in aliases}:
            known: dict[str, dict[str, None]] = {}
            for option, one in (pair for config in aliases for pair in config.items()):
                known.setdefault(option, {})[one] = None
            listed = "; ".join(f"{option}: {', '.join(found)}" for option, found in known.items())
            raise ResearchError(
                f"configs={which!r} must be numbers (0,3,5-8) or option=alias joined by ' & ', "
                f"each option once; {term.strip()!r} is neither. The options are {listed or 'none'}"
            )
        wanted[name] = alias
    chosen = [i for i, one in enumerate(aliases) if wanted.items() <= one.items()]
    if not chosen:
        raise ResearchError(f"configs={which!r} matches none of the {len(configs)} configurations")
    return chosen


def _by_number(which: str, n_configs: int) -> list[int]:
    chosen: set[int] = set()
    for piece in which.split(","):
        first, _, end = piece.partition("-")
        low, high = int(first), int(end or first)
        if not low <= high < n_configs:
            raise ResearchError(
                f"configs={which!r}: configurations are numbered 0 to {n_configs - 1}, and a range "
                f"must ascend; {piece.strip()!r} is invalid"
            )
        chosen.update(range(low, high + 1))
    return sorted(chosen)
