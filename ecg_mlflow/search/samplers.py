"""Make one of Optuna's samplers by its name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler, TPESampler

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import Grid, Option, Uniform
from ecg_mlflow.search.optuna_sampler import N_STARTUP, MakeSampler, OptunaSampler
from ecg_mlflow.search.sampler import TrialState

#: Choose by the trials alone. The others count their samples or generations in Optuna's study.
_STATELESS = ("random", "tpe", "gp")
_REFUSED = {
    "grid": "write sampler=grid for this package's own, which lists the configurations of the grid",
    "bruteforce": "it tries everything, which sampler=grid does, whose runs all start at once",
    "partialfixed": "it needs another sampler: give options one value in the grid to fix them",
}


def make_sampler(name: str, grid: Grid, **options: Any) -> OptunaSampler:
    """Make a sampler.

    Parameters
    ----------
    name
        ``random``; ``tpe``, Optuna's tree-structured Parzen estimator; or another of Optuna's
        samplers by the name of its class, such as ``cmaes`` or ``NSGAIISampler``.
    grid
        What to choose from.
    **options
        Those of `OptunaSampler` that are the search's: `n_trials`, `directions`, `seed`, `known`.

    Raises
    ------
    SearchError
        If there is no such sampler, if it can't be used here or lacks a package, or if there is no
        end because the grid has a range and `n_trials` is None.
    """
    kinds: dict[str, type[BaseSampler]] = {
        _short(one): getattr(optuna.samplers, one)
        for one in optuna.samplers.__all__
        if one.endswith("Sampler") and not one.startswith("Base")
    }
    short = _short(name)
    if short in _REFUSED:
        raise SearchError(f"sampler={name} is not for a search here: {_REFUSED[short]}")
    if short not in kinds:
        others = sorted(kinds.keys() - _REFUSED.keys())
        names = [*dict.fromkeys(["grid", "random", "tpe", *others])]
        hints = difflib.get_close_matches(short, names, n=1)
        hint = f", perhaps {hints[0]}" if hints else ""
        raise SearchError(f"there is no sampler {name!r}: choose one of {', '.join(names)}{hint}")
    make: MakeSampler | None = None
    if short != "random":
        make = _tpe if short == "tpe" else lambda seed, _: kinds[short](seed=seed)  # type: ignore[call-arg]
        _try(name, make, options["directions"])
    return OptunaSampler(grid, sampler=make, is_stateless=short in _STATELESS, **options)


def _tpe(seed: int, attempt: int) -> BaseSampler:
    """Make a TPE sampler that takes what it suggests from fewer candidates at each attempt.

    The best of 24 candidates, Optuna's number, is nearly always the same one in a grid: where that
    was asked before, it would be suggested again and again. A single candidate is a draw from the
    region of the good ones.
    """
    return TPESampler(
        n_startup_trials=N_STARTUP,
        n_ei_candidates=max(24 >> attempt, 1),
        multivariate=True,
        group=True,
        constant_liar=True,
        seed=seed,
    )


def _try(name: str, make: MakeSampler, directions: Sequence[str]) -> None:
    """Let a sampler learn and suggest once, on a toy, to see now that it can.

    Optuna's samplers load what packages they need, and check how many objectives there are, only
    when they are to suggest something.
    """
    toy = Grid(Option("x", Uniform(0, 1)) * Option("y", Uniform(0, 1)))
    try:
        n = N_STARTUP + 1
        sampler = OptunaSampler(toy, n_trials=n, directions=directions, sampler=make, seed=0)
        while (trial := sampler.ask()) is not None:
            sampler.tell(trial.number, TrialState.COMPLETE, [trial.number] * len(directions))
    except ImportError as error:
        raise SearchError(
            f"sampler={name} needs a package that is not installed here: {error}. Install it with "
            f"pip install {error.name or name}"
        ) from error
    except ValueError as error:
        raise SearchError(
            f"sampler={name} can't be used with {len(directions)} objective(s): {error}"
        ) from error


def _short(name: str) -> str:
    """Spell a sampler's name without case, hyphens and the word sampler: ``cmaes``."""
    return re.sub(r"[-_ ]", "", name.lower()).removesuffix("sampler")
