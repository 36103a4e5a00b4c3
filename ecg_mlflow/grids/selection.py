"""Select parts of a design: configurations by number or alias, grids by given values."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from ecg_mlflow.errors import GridError, ResearchError
from ecg_mlflow.grids.base import Range
from ecg_mlflow.grids.config import ConfigAlias
from ecg_mlflow.grids.configurations import Product
from ecg_mlflow.grids.kv import KV

Domain: TypeAlias = "tuple[KV, ...] | Range"

_NUMBERS = re.compile(r"\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*")


def narrowed(
    products: Sequence[Product], config: Mapping[str, object]
) -> list[list[tuple[str, Domain]]]:
    """Narrow the options of all products to given values; leave out products that lack them.

    Parameters
    ----------
    products : sequence of Product
        The design.
    config : Mapping
        Same as for ``Grid.only``.

    Returns
    -------
    list
        For each product that is left, its option names with their values or range.

    Raises
    ------
    GridError
        Same as ``Grid.only``.
    """
    given = config.alias() if isinstance(config, ConfigAlias) else config
    wanted = {name: _wanted(name, value) for name, value in given.items()}
    for name, items in wanted.items():
        _check(products, name, items)
    left = []
    for product in products:
        if wanted.keys() <= {option.name for option in product}:
            domains = {option.name: option.range or option.values for option in product}
            domains |= {name: _narrow(domains[name], items) for name, items in wanted.items()}
            if all(domains.values()):
                left.append(list(domains.items()))
    if not left:
        asked = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise GridError(
            f"no configuration has {asked}: each value occurs, but never all in one product. "
            "Name fewer options"
        )
    return left


def _wanted(name: str, value: object) -> tuple[object, ...] | Range:
    if isinstance(value, Range):
        return value
    items = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not items:
        raise GridError(
            f"option {name!r} is given an empty list: give it an alias, or leave it out"
        )
    return items


def _check(products: Sequence[Product], name: str, items: tuple[object, ...] | Range) -> None:
    """Raise GridError for a name or a value that no product has."""
    domains = [
        option.range or option.values
        for product in products
        for option in product
        if option.name == name
    ]
    if not domains:
        known = list(dict.fromkeys(option.name for product in products for option in product))
        close = difflib.get_close_matches(str(name), known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "give one of them"
        listed = ", ".join(map(repr, known)) or "none"
        raise GridError(f"there is no option {name!r}. The options are {listed}; {hint}")
    for item in [items] if isinstance(items, Range) else [(one,) for one in items]:
        if not any(_narrow(domain, item) for domain in domains):
            missing = item if isinstance(item, Range) else item[0]
            listed = ", ".join(dict.fromkeys(text for domain in domains for text in _texts(domain)))
            raise GridError(f"option {name!r} has no value {missing!r}; it has {listed}")


def _narrow(domain: Domain, items: tuple[object, ...] | Range) -> Domain:
    """Return the wanted part of a domain; an empty tuple if it has none."""
    if isinstance(items, Range):
        return items if isinstance(domain, Range) and domain.covers(items) else ()
    if isinstance(domain, Range):
        found = (domain.exactly(item) for item in items)
        return tuple(dict.fromkeys(kv for kv in found if kv is not None))
    aliases = set(map(str, items))
    return tuple(kv for kv in domain if kv.alias in aliases)


def _texts(domain: Domain) -> list[str]:
    return [repr(domain)] if isinstance(domain, Range) else [repr(kv.alias) for kv in domain]


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
    wanted = _wanted_aliases(configs, which)
    chosen = [i for i, config in enumerate(configs) if wanted.items() <= config.alias().items()]
    if not chosen:
        raise ResearchError(f"configs={which!r} matches none of the {len(configs)} configurations")
    return chosen


def _by_number(which: str, n_configs: int) -> list[int]:
    chosen: set[int] = set()
    for piece in which.split(","):
        first, _, end = (part.strip() for part in piece.partition("-"))
        low, high = int(first), int(end or first)
        if not low <= high < n_configs:
            raise ResearchError(
                f"configs={which!r}: configurations are numbered 0 to {n_configs - 1}, and a range "
                f"must ascend; {piece.strip()!r} is invalid"
            )
        chosen.update(range(low, high + 1))
    return sorted(chosen)


def _wanted_aliases(configs: Sequence[ConfigAlias], which: str) -> Mapping[str, str]:
    """Read ``option=alias & option=alias`` and check that the options have these aliases."""
    known: dict[str, dict[str, None]] = {}
    for config in configs:
        for name, alias in config.alias().items():
            known.setdefault(name, {})[alias] = None
    wanted: dict[str, str] = {}
    for term in which.split("&"):
        name, _, alias = (part.strip() for part in term.partition("="))
        if alias not in known.get(name, {}) or name in wanted:
            listed = "; ".join(f"{option}: {', '.join(known[option])}" for option in known)
            raise ResearchError(
                f"configs={which!r} must be numbers (0,3,5-8) or option=alias joined by ' & ', "
                f"each option once; {term.strip()!r} is neither. The options are {listed or 'none'}"
            )
        wanted[name] = alias
    return wanted
