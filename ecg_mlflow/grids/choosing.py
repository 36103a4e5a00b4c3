"""A part of a study by the user's word: some of its configurations, some of its records."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids import ConfigAlias

_NUMBERS = re.compile(r"\d+(\s*-\s*\d+)?(\s*,\s*\d+(\s*-\s*\d+)?)*")


def choose(configs: Sequence[ConfigAlias], which: str | None) -> list[int]:
    """Choose configurations by ``"0,3,5-8"`` or ``"model=ResNet18 & layout=cna"``.

    Returns
    -------
    Places in `configs`, ascending.

    Raises
    ------
    ResearchError
        If the text can't be read or chooses nothing.
    """
    if which is None:
        return list(range(len(configs)))
    if _NUMBERS.fullmatch(which.strip()):
        return _by_number(which, len(configs))
    wanted = _wanted(configs, which)
    chosen = [i for i, config in enumerate(configs) if wanted.items() <= config.alias().items()]
    if not chosen:
        raise ResearchError(f"configs={which!r} fits none of the {len(configs)} configurations")
    return chosen


def _by_number(which: str, n_configs: int) -> list[int]:
    chosen: set[int] = set()
    for piece in which.split(","):
        first, _, end = (part.strip() for part in piece.partition("-"))
        low, high = int(first), int(end or first)
        if not low <= high < n_configs:
            raise ResearchError(
                f"configs={which!r}: configurations are numbered 0 to {n_configs - 1}, and a range "
                f"goes up; {piece.strip()!r} does not fit"
            )
        chosen.update(range(low, high + 1))
    return sorted(chosen)


def _wanted(configs: Sequence[ConfigAlias], which: str) -> Mapping[str, str]:
    """Read ``option=alias & option=alias`` and check that there are such."""
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


def spread(n_records: int, limit: int | None) -> npt.NDArray[np.int64]:
    """Choose at most `limit` of the records, evenly spread: ``(n,)`` ascending positions."""
    if limit is None or limit >= n_records:
        return np.arange(n_records, dtype=np.int64)
    return np.arange(limit, dtype=np.int64) * n_records // limit
