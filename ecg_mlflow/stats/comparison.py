"""Comparison of configurations by the predictions of their repetitions for the same records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.bootstrap import defined_mean, paired_weights, resampled_metrics
from ecg_mlflow.stats.intervals import Interval, records_interval, t_interval
from ecg_mlflow.stats.metrics import higher_is_better
from ecg_mlflow.stats.pairs import PairTable, SeedSpread, compare_pairs
from ecg_mlflow.stats.predictions import Predictions, degrees_of_freedom
from ecg_mlflow.stats.scores import Floats


@dataclass(frozen=True)
class Candidate:
    """A configuration that is compared.

    Attributes
    ----------
    name
        Which no other one has.
    repetitions
        Predictions of each repetition, all of the same records.
    parameters
        Trainable parameters of its model; None where not known.
    ms_per_record
        Time that a record takes; None where not known.
    """

    name: str
    repetitions: tuple[Predictions, ...]
    parameters: float | None = None
    ms_per_record: float | None = None


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
        records. NaN to NaN of fewer than two.
    over_records
        Bootstrap interval: what the mean of these trained models would be on other records.
    each
        The values of the repetitions.
    """

    mean: float
    sd: float
    over_repetitions: Interval
    over_records: Interval
    each: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Standing(Candidate):
    """A candidate's place in a comparison.

    Attributes
    ----------
    name, repetitions, parameters, ms_per_record
        See `Candidate`.
    estimates
        By metric.
    p_value
        Adjusted, of its difference from the leader in the decisive metric; 1 for the leader.
    in_group
        Whether it is not significantly different from the leader.
    """

    estimates: Mapping[str, Estimate]
    p_value: float
    in_group: bool


@dataclass(frozen=True)
class Comparison:
    """Candidates compared on the same records.

    Attributes
    ----------
    decisive
        The metric that ranks them.
    metrics
        All metrics that are estimated.
    level
        Confidence of all intervals and of the group.
    n_records
        Number of records.
    standings
        Best first, by the mean of the decisive metric.
    pairs
        All pairs, in the order of `standings`.
    spread
        How the decisive metric varies with the seed of the training.
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
        """Those not significantly different from the leader, which is the first of them."""
        return tuple(one for one in self.standings if one.in_group)

    @property
    def smallest(self) -> Standing | None:
        """The one in the group with the fewest parameters; None where no one's are known."""
        return self._least("parameters")

    @property
    def fastest(self) -> Standing | None:
        """The one in the group with the least time per record; None where no one's is known."""
        return self._least("ms_per_record")

    def marks(self, standing: Standing) -> tuple[str, ...]:
        """Tell whether a candidate is the smallest or the fastest of a group of several."""
        if len(self.group) < 2:
            return ()
        named = {"smallest": self.smallest, "fastest": self.fastest}
        return tuple(word for word, one in named.items() if one is standing)

    def _least(self, name: str) -> Standing | None:
        known = [one for one in self.group if getattr(one, name) is not None]
        return min(known, key=attrgetter(name), default=None)


def compare(
    candidates: Sequence[Candidate],
    metrics: Sequence[str],
    decisive: str,
    *,
    level: float = 0.95,
    n_resamples: int = 2000,
    seed: int = 0,
) -> Comparison:
    """Compare candidates by their predictions of the same records.

    Parameters
    ----------
    candidates
        At least one.
    metrics
        What is estimated; the decisive one need not be among them.
    decisive
        The metric that ranks them, and whose differences are tested.
    level
        Confidence of all intervals, and of the group of the best.
    n_resamples, seed
        Of the bootstrap.

    Raises
    ------
    PredictionsError
        If the predictions are of other records, two candidates have one name, or there is no such
        metric.
    """
    _check(candidates)
    everyone = [one for candidate in candidates for one in candidate.repetitions]
    names = tuple(dict.fromkeys([decisive, *metrics]))
    weights = paired_weights(everyone, n_resamples, seed)
    estimates, decisive_values = [], []
    for candidate in candidates:
        each = [resampled_metrics(one, weights, names) for one in candidate.repetitions]
        stacked = {name: np.stack([one[name] for one in each]) for name in names}
        estimates.append({name: _estimate(candidate, name, stacked[name], level) for name in names})
        decisive_values.append(stacked[decisive])
    resampled = np.stack([defined_mean(values) for values in decisive_values])
    best_first = np.where(higher_is_better(decisive), -1, 1) * resampled[:, 0]
    order = np.argsort(best_first, kind="stable")
    spread = _seed_spread(decisive_values)
    pairs = compare_pairs(
        resampled[order, 0],
        resampled[order, 1:],
        np.array([len(candidates[row].repetitions) for row in order]),
        spread,
        freedom=degrees_of_freedom(everyone),
        level=level,
        seed=seed,
    )
    standings = tuple(
        Standing(
            **vars(candidates[row]),
            estimates=estimates[row],
            p_value=float(p_value),
            in_group=bool(p_value >= 1 - level),
        )
        for row, p_value in zip(order, pairs.p_values[0], strict=True)
    )
    notes, n = _notes(candidates, spread), len(everyone[0])
    return Comparison(decisive, names, level, n, standings, pairs, spread, notes)


def winner(comparison: Comparison, rule: str = "lower_bound") -> Standing:
    """Return the candidate that a rule chooses.

    Parameters
    ----------
    comparison
        Of all candidates.
    rule
        ``lower_bound``: the highest lower bound of the interval over records (the lowest upper
        bound where less is better); ``mean``: the best mean; ``smallest``: the fewest parameters
        among those not significantly different from the best.

    Raises
    ------
    PredictionsError
        If there is no such rule, or ``smallest`` is asked for and no one's parameters are known.
    """
    if rule == "mean":
        return comparison.leader
    if rule == "lower_bound":
        return max(comparison.standings, key=lambda one: _worst_case(one, comparison.decisive))
    if rule != "smallest":
        raise PredictionsError(f"rule={rule!r} is none of lower_bound, mean, smallest")
    if not comparison.smallest:
        raise PredictionsError(
            "rule='smallest' needs parameter counts, and none of the best has one; take the rule "
            "'lower_bound' or 'mean'"
        )
    return comparison.smallest


def _worst_case(standing: Standing, metric: str) -> float:
    interval = standing.estimates[metric].over_records
    bound = interval.low if higher_is_better(metric) else -interval.high
    return float("-inf") if np.isnan(bound) else bound


def _check(candidates: Sequence[Candidate]) -> None:
    if not candidates or not all(one.repetitions for one in candidates):
        raise PredictionsError("a comparison needs candidates, each with at least one repetition")
    names = [one.name for one in candidates]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise PredictionsError(f"several candidates are called {', '.join(twice)}")


def _estimate(candidate: Candidate, name: str, values: Floats, level: float) -> Estimate:
    """Return the estimate of ``(n_repetitions, 1 + n_resamples)`` values."""
    each, mean = values[:, 0], defined_mean(values)
    known = each[~np.isnan(each)]
    return Estimate(
        mean=float(mean[0]),
        sd=float(known.std(ddof=1)) if len(known) > 1 else float("nan"),
        over_repetitions=t_interval(known, level),
        over_records=records_interval(candidate.repetitions, name, float(mean[0]), mean[1:], level),
        each=tuple(each.tolist()),
    )


def _seed_spread(values: Sequence[Floats]) -> SeedSpread:
    """Pool ``(n_repetitions, 1 + n_resamples)`` values of each candidate."""
    total = by_records = 0.0
    freedom = 0
    for each in values:
        known = each[~np.isnan(each[:, 0])]
        if len(known) < 2:
            continue
        deviations = known[:, 1:] - known[:, :1]
        deviations = deviations[:, ~np.isnan(deviations).any(axis=0)]
        freedom += len(known) - 1
        total += float(known[:, 0].var(ddof=1)) * (len(known) - 1)
        if deviations.size:
            by_records += float(deviations.var(axis=0, ddof=1).mean()) * (len(known) - 1)
    return SeedSpread(total / freedom, by_records / freedom, freedom) if freedom else SeedSpread()


def _notes(candidates: Sequence[Candidate], spread: SeedSpread) -> tuple[str, ...]:
    single = sum(len(one.repetitions) == 1 for one in candidates)
    if not spread.freedom:
        note = (
            "one repetition each: intervals and tests say how results vary with the records, not "
            "with the seed of the training"
        )
    else:
        note = (
            f"{single} of {len(candidates)} candidates have one repetition; how they vary with the "
            "seed is estimated from the others"
        )
    return (note,) if single or not spread.freedom else ()
