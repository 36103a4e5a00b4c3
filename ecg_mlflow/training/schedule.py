"""Schedule events during training: after which iterations they happen.

Iterations count from zero, epochs from one, so the first epoch of 213 iterations ends after
iteration 212.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from ecg_mlflow.errors import ScheduleError

Rule: TypeAlias = "str | int"

_ALLOWED = (
    "allowed are '%N' (every N iterations), an integer n >= 0 (iteration n only), "
    "-1 or 'last' (the final iteration), 'epoch' or 'N epochs' (at the end of every N-th epoch), "
    "or a list of these"
)
_PERIOD = re.compile(r"%([0-9]+)")
_EPOCHS = re.compile(r"(?:([0-9]+) +)?epochs?")


@dataclass(frozen=True)
class Schedule:
    """A set of iterations. Build one with :meth:`parse`.

    Attributes
    ----------
    periods : frozenset of int
        Fires where ``(iteration + 1) % period == 0`` for any of these.
    moments : frozenset of int
        Fires at these iterations.
    at_last : bool
        Fires at the final iteration, also if the run stops early.
    """

    periods: frozenset[int]
    moments: frozenset[int]
    at_last: bool

    @classmethod
    def parse(
        cls, rules: Rule | Sequence[Rule], iterations_per_epoch: int | None = None
    ) -> Schedule:
        """Read one rule, or several of which any may fire.

        Parameters
        ----------
        rules : str, int, or a list or tuple of them
            ``'%N'`` fires when ``(iteration + 1) % N == 0``; an integer n >= 0 at iteration n
            only; -1 or ``'last'`` at the final iteration, also when the run stops early;
            ``'epoch'``, ``'1 epoch'`` and ``'N epochs'`` at the last iteration of every N-th
            epoch.
        iterations_per_epoch : int, optional
            Needed for rules in epochs.

        Returns
        -------
        Schedule

        Raises
        ------
        ScheduleError
            If a rule is invalid, if there is no rule, or if a rule in epochs is given without
            `iterations_per_epoch`.
        """
        if iterations_per_epoch is not None and iterations_per_epoch < 1:
            raise ScheduleError(
                f"an epoch has {iterations_per_epoch} iterations, but needs at least one: "
                "make the batch smaller or take more records"
            )
        listed = rules if isinstance(rules, list | tuple) else [rules]
        if not listed:
            raise ScheduleError(f"an empty list of rules never fires; {_ALLOWED}")
        parsed = [_parse_rule(rule, iterations_per_epoch) for rule in listed]
        return cls(
            periods=frozenset(n for n, is_period in parsed if is_period),
            moments=frozenset(n for n, is_period in parsed if not is_period and n >= 0),
            at_last=(-1, False) in parsed,
        )

    def fires(self, iteration: int, last: bool) -> bool:
        """Return whether the schedule fires at this iteration.

        Parameters
        ----------
        iteration : int
            Counted from zero.
        last : bool
            Whether it is the run's final iteration, planned or not.

        Returns
        -------
        bool
        """
        return (
            (last and self.at_last)
            or iteration in self.moments
            or any((iteration + 1) % period == 0 for period in self.periods)
        )

    def iterations(self, total: int) -> list[int]:
        """List the iterations at which this schedule fires in a run of `total` iterations.

        Parameters
        ----------
        total : int
            Number of iterations of a run that is not stopped early.

        Returns
        -------
        list of int
            Ascending, each once.
        """
        return [i for i in range(total) if self.fires(i, last=i == total - 1)]


def _parse_rule(rule: object, iterations_per_epoch: int | None) -> tuple[int, bool]:
    """Return a number of iterations, and whether it is a period; -1 is the final iteration."""
    if isinstance(rule, int | np.integer) and not isinstance(rule, bool):
        if rule < -1:
            raise _unreadable(rule, "the only negative iteration is -1, the final one")
        return int(rule), False
    if not isinstance(rule, str):
        raise _unreadable(rule, f"it is of type {type(rule).__name__}")
    text = rule.strip()
    if text == "last":
        return -1, False
    if found := _PERIOD.fullmatch(text):
        period = int(found[1])
    elif found := _EPOCHS.fullmatch(text):
        if iterations_per_epoch is None:
            raise _unreadable(rule, "the number of iterations in an epoch is not known here")
        period = int(found[1] or 1) * iterations_per_epoch
    elif re.fullmatch(r"-?[0-9]+", text):
        raise _unreadable(rule, f"a single iteration is an integer: write {text} without quotes")
    elif text.startswith("%"):
        raise _unreadable(rule, "after '%' comes a whole number of iterations, at least 1")
    else:
        raise _unreadable(rule, "it is not a rule")
    if period == 0:
        raise _unreadable(rule, "a period is at least 1")
    return period, True


def _unreadable(rule: object, why: str) -> ScheduleError:
    return ScheduleError(f"can't read the schedule rule {rule!r}: {why}; {_ALLOWED}")
