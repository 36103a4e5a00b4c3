"""What a comparison finds: estimates, places, pairs, and who can't be told from the best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.intervals import Interval
from ecg_mlflow.stats.pairs import PairTable, SeedSpread


@dataclass(frozen=True)
class Estimate:
    """What is known of one metric of a candidate.

    Attributes
    ----------
    mean
        Over the repetitions that define the metric; NaN where none does.
    sd
        Sample standard deviation over them; NaN of fewer than two.
    over_repetitions
        Student's interval: what the mean would be of as many trainings anew, tested on these very
        records. None of fewer than two.
    over_records
        Bootstrap interval: what the mean of these trained models would be on other records.
    each
        The values of the repetitions.
    """

    mean: float
    sd: float
    over_repetitions: Interval | None
    over_records: Interval
    each: tuple[float, ...]


@dataclass(frozen=True)
class Standing:
    """A candidate's place in a comparison.

    Attributes
    ----------
    name, parameters, ms_per_record
        See `ecg_mlflow.stats.comparison.Candidate`.
    estimates
        By metric.
    p_value
        Adjusted, of its difference from the leader in the decisive metric; 1 for the leader.
    in_group
        Whether it can't be told from the leader.
    """

    name: str
    parameters: float | None
    ms_per_record: float | None
    estimates: Mapping[str, Estimate]
    p_value: float
    in_group: bool


@dataclass(frozen=True)
class Pair:
    """Two candidates: the first one's decisive metric less the second one's.

    Attributes
    ----------
    first, second
        Names.
    difference
        Of the means over repetitions.
    interval
        Simultaneous for all pairs of the comparison.
    p_value
        Adjusted for all pairs.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Candidates compared on the same records.

    Attributes
    ----------
    decisive
        The metric by which they are ranked and told apart.
    metrics
        All metrics that are estimated.
    level
        Confidence of all intervals and of the group.
    n_records
        Of how many records.
    standings
        Best first, by the mean of the decisive metric.
    pairs
        All pairs, in the order of `standings`.
    spread
        What the seed of a training does to the decisive metric.
    notes
        What a reader has to know about these figures.
    """

    decisive: str
    metrics: tuple[str, ...]
    level: float
    n_records: int
    standings: tuple[Standing, ...]
    pairs: PairTable
    spread: SeedSpread
    notes: tuple[str, ...]

    @property
    def leader(self) -> Standing:
        """The one with the best mean."""
        return self.standings[0]

    @property
    def group(self) -> tuple[Standing, ...]:
        """Those that can't be told from the leader, which is the first of them."""
        return tuple(one for one in self.standings if one.in_group)

    @property
    def smallest(self) -> Standing | None:
        """The one in the group with the fewest parameters; None where no one's are known."""
        known = [(one.parameters, one) for one in self.group if one.parameters is not None]
        return min(known, key=lambda found: found[0])[1] if known else None

    @property
    def fastest(self) -> Standing | None:
        """The one in the group with the least time per record; None where no one's is known."""
        known = [(one.ms_per_record, one) for one in self.group if one.ms_per_record is not None]
        return min(known, key=lambda found: found[0])[1] if known else None

    def __getitem__(self, name: str) -> Standing:
        return self.standings[self._row(name)]

    def pair(self, first: str, second: str) -> Pair:
        """Return the comparison of two candidates.

        Raises
        ------
        PredictionsError
            If one of them isn't there.
        """
        at = self._row(first), self._row(second)
        difference = float(self.pairs.differences[at])
        half = self.pairs.critical * float(self.pairs.errors[at])
        interval = Interval(difference - half, difference + half)
        return Pair(first, second, difference, interval, float(self.pairs.p_values[at]))

    def _row(self, name: str) -> int:
        names = [one.name for one in self.standings]
        if name not in names:
            raise PredictionsError(f"{name!r} is none of the candidates: {', '.join(names)}")
        return names.index(name)
