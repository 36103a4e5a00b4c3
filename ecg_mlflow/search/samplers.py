"""Make a sampler by its name: the grid, or any of Optuna's."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler, TPESampler

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import Grid, Option, Uniform
from ecg_mlflow.search.optuna_sampler import N_STARTUP, MakeSampler, OptunaSampler
from ecg_mlflow.search.sampler import GridSampler, Sampler, TrialState

_OURS = ("grid", "random", "tpe")
#: Choose by the trials alone. The others count their samples or generations in Optuna's study.
_STATELESS = ("random", "tpe", "gp")
_REFUSED = {
    "grid": "write sampler=grid for this package's own, which lists the configurations of the grid",
    "bruteforce": "it tries everything, which sampler=grid does, whose runs all start at once",
    "partialfixed": "it needs another sampler: give options one value in the grid to fix them",
}


def known_samplers() -> list[str]:
    """List the names of samplers, as `make_sampler` takes them, the usual ones first."""
    others = _optuna_samplers().keys() - set(_OURS) - _REFUSED.keys()
    return [*_OURS, *sorted(others)]


def make_sampler(name: str, grid: Grid, **options: Any) -> Sampler:
    """Make a sampler.

    Parameters
    ----------
    name
        ``grid``, all configurations in order; ``random``; ``tpe``, Optuna's tree-structured Parzen
        estimator; or another of Optuna's samplers by the name of its class, such as ``cmaes`` or
        ``NSGAIISampler``.
    grid
        What to choose from.
    **options
        Those of `OptunaSampler` that are the search's: `n_trials`, `directions`, `seed`, `known`.
        ``grid`` tries all configurations and asks for the same ones anyway.

    Raises
    ------
    SearchError
        If there is no such sampler, if it can't be used here or lacks a package, or if there is no
        end because the grid has a range and `n_trials` is None.
    GridError
        If ``grid`` is to list a grid that has a range.
    """
    if name.lower() == "grid":
        return GridSampler(grid)
    short, known = _short(name), _optuna_samplers()
    if short in _REFUSED:
        raise SearchError(f"sampler={name} is not for a search here: {_REFUSED[short]}")
    if short not in known:
        hints = difflib.get_close_matches(short, known_samplers(), n=1)
        hint = f", perhaps {hints[0]}" if hints else ""
        raise SearchError(
            f"there is no sampler {name!r}: choose one of {', '.join(known_samplers())}{hint}"
        )
    make: Callable[..., BaseSampler] = known[short]
    ours: dict[str, MakeSampler | None] = {"random": None, "tpe": _tpe}
    sampler = ours.get(short, lambda seed, _: make(seed=seed))
    if sampler is not None:
        _try(name, sampler, options["directions"])
    return OptunaSampler(grid, sampler=sampler, is_stateless=short in _STATELESS, **options)


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


def _optuna_samplers() -> dict[str, type[BaseSampler]]:
    """Find the classes of Optuna's samplers by their short names."""
    return {
        _short(name): found
        for name in optuna.samplers.__all__
        if inspect.isclass(found := getattr(optuna.samplers, name))
        and issubclass(found, BaseSampler)
        and not inspect.isabstract(found)
    }


def _short(name: str) -> str:
    """Spell a sampler's name without case, hyphens and the word sampler: ``cmaes``."""
    return re.sub(r"[-_ ]", "", name.lower()).removesuffix("sampler")
