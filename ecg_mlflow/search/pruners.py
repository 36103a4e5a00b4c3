"""Give configurations up early by rules that compare them at equal ages.

An age is a number of epochs. A pruner says at which ages a trial is judged, and, given its value at
such an age and those of the others that have reached it, whether it continues. Optuna's pruners do
not fit: they take one value per age, once, and a trial's value here is a mean over repetitions
that arrive one after the other.
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass, fields
from statistics import median

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids.canonical import digest


@dataclass(frozen=True)
class Pruner(ABC):
    """Judges trials. Merits are larger where values are better.

    Its fields are whole numbers: the arguments that `make_pruner` reads.
    """

    def __str__(self) -> str:
        """Write it as `make_pruner` reads it; what is 0 is left to the study."""
        (name,) = (name for name, kind in PRUNERS.items() if type(self) is kind)
        given = [f"{key}={value}" for key, value in vars(self).items() if value]
        return f"{name}:{','.join(given)}"

    @abstractmethod
    def rungs(self, number: int, epochs: int) -> list[int]:
        """Return the ages at which trial `number`, which trains for `epochs`, is judged."""

    @abstractmethod
    def keeps(self, merit: float, others: Sequence[float]) -> bool:
        """Say whether a trial goes on, given the merits of the others at its age."""

    def bracket(self, number: int, epochs: int) -> int:
        """Return the group of trial `number`: it is compared with others of this group only."""
        return 0


@dataclass(frozen=True)
class SuccessiveHalving(Pruner):
    """Asynchronous successive halving: the best 1/eta of those that reach a rung go on.

    Source: Li et al., "A system for massively parallel hyperparameter tuning", MLSys 2020, in the
    form that decides on arrival and never wakes a trial up again.

    Parameters
    ----------
    eta
        Reduction factor; also the ratio of consecutive rungs.
    min_epochs
        The first rung; by default ``epochs / eta**3``, at least 1.
    """

    eta: int = 3
    min_epochs: int = 0

    def rungs(self, number: int, epochs: int) -> list[int]:
        """Return ``min_epochs * eta**k``, as far as they lie before the end."""
        ages = [self.min_epochs or max(1, epochs // self.eta**3)]
        while ages[-1] < epochs:
            ages.append(ages[-1] * self.eta)
        return ages[:-1]

    def keeps(self, merit: float, others: Sequence[float]) -> bool:
        """Say whether it is among the best 1/eta; the first that comes is."""
        return is_among_best(merit, others, self.eta)


@dataclass(frozen=True)
class Hyperband(SuccessiveHalving):
    """Successive halving in several brackets with different first rungs.

    It hedges against curves that cross: a slow starter may be in a bracket that judges later. The
    shares of the brackets are Hyperband's, and a trial's bracket follows from its number.

    Source: Li et al., "Hyperband", JMLR 18 (2018), 185; asynchronous as in `SuccessiveHalving`.
    """

    def rungs(self, number: int, epochs: int) -> list[int]:
        """Return the rungs of the trial's bracket."""
        return super().rungs(number, epochs)[self.bracket(number, epochs) :]

    def bracket(self, number: int, epochs: int) -> int:
        """Draw a bracket by the trial's number."""
        n = len(super().rungs(number, epochs)) + 1
        shares = [math.ceil(n * self.eta ** (n - 1 - s) / (n - s)) for s in range(n)]
        place = int(digest(["bracket", number])[:8], 16) % sum(shares)
        return bisect(list(itertools.accumulate(shares)), place)


@dataclass(frozen=True)
class Median(Pruner):
    """Give up what is worse than the median of the others at the same age, after every epoch.

    Source: Golovin et al., "Google Vizier", KDD 2017, section 3.2.1, with values in place of
    running averages.

    Parameters
    ----------
    min_epochs
        The first age at which trials are judged; by default a tenth of their epochs, at least 1.
    min_trials
        How many others must have reached that age before anything is given up.
    """

    min_epochs: int = 0
    min_trials: int = 4

    def rungs(self, number: int, epochs: int) -> list[int]:
        """Return every epoch from the first judged to the last but one."""
        return list(range(self.min_epochs or max(1, epochs // 10), epochs))

    def keeps(self, merit: float, others: Sequence[float]) -> bool:
        """Say whether it reaches the median."""
        if not math.isfinite(merit):
            return False
        return len(others) < self.min_trials or merit >= median(others)


PRUNERS: dict[str, type[Pruner]] = {
    "asha": SuccessiveHalving,
    "hyperband": Hyperband,
    "median": Median,
}
#: Least values of arguments, where 0 makes no sense.
_LEAST = {"eta": 2, "min_trials": 1}


def make_pruner(text: str) -> Pruner | None:
    """Read ``asha``, ``median`` or, with arguments, ``asha:eta=4,min_epochs=2``; None for ``none``.

    Raises
    ------
    SearchError
        If there is no such pruner or argument, or a value is out of range.
    """
    name, _, rest = text.partition(":")
    if name == "none" and not rest:
        return None
    if name not in PRUNERS:
        raise SearchError(f"pruner={text!r}: there are {', '.join(PRUNERS)} and none")
    arguments: dict[str, int] = {}
    known = [field.name for field in fields(PRUNERS[name])]
    for part in rest.split(",") if rest else []:
        key, _, value = (piece.strip() for piece in part.partition("="))
        if key not in known or not value.isdecimal():
            raise SearchError(
                f"pruner={text!r}: {part.strip()!r} must be one of {', '.join(known)}, followed by "
                f"= and a whole number, as in {name}:{known[0]}=4"
            )
        arguments[key] = int(value)
        if arguments[key] < (least := _LEAST.get(key, 0)):
            raise SearchError(f"pruner argument {key}={value} must be at least {least}")
    return PRUNERS[name](**arguments)


def is_among_best(merit: float, others: Sequence[float], eta: int) -> bool:
    """Say whether a merit is among the best 1/eta (at least one) of its own and the others'."""
    if not math.isfinite(merit):
        return False
    n_kept = max(1, (len(others) + 1) // eta)
    return sum(other > merit for other in others) < n_kept
