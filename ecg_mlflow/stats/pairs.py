"""All pairs of many candidates, compared at once: which differences are more than chance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ecg_mlflow.stats.intervals import Interval, as_normal, as_student
from ecg_mlflow.stats.scores import Floats


@dataclass(frozen=True, eq=False)
class PairTable:
    """All pairs of candidates.

    Attributes
    ----------
    differences
        ``(n, n)``: the row's value less the column's.
    errors
        ``(n, n)`` standard errors of the differences.
    p_values
        ``(n, n)``, adjusted for the number of pairs; NaN where a value is not defined.
    critical
        How many standard errors of a difference its simultaneous interval reaches to both sides.
    """

    differences: Floats
    errors: Floats
    p_values: Floats
    critical: float

    def interval(self, row: int, column: int) -> Interval:
        """Return a difference's interval, simultaneous for all pairs."""
        difference = float(self.differences[row, column])
        half = self.critical * float(self.errors[row, column])
        return Interval(difference - half, difference + half)


@dataclass(frozen=True)
class SeedSpread:
    """How a metric varies with the seed of the training.

    Attributes
    ----------
    total
        Variance between the repetitions of a candidate on the same records, pooled.
    by_records
        The part of it that is due to these records: repetitions fail at different ones. Resampling
        the records shows it already.
    freedom
        Degrees of freedom of `total`; 0 where there are no repetitions to tell it from.
    """

    total: float = 0.0
    by_records: float = 0.0
    freedom: int = 0

    @property
    def variance(self) -> float:
        """What resampling the records doesn't show."""
        return max(self.total - self.by_records, 0.0)

    def draw(self, rng: np.random.Generator, n: int, repetitions: Floats) -> Floats:
        """Draw ``(len(repetitions), n)`` changes of the means of so many repetitions.

        Each draw takes another variance too, as far as it is known from these few repetitions:
        with `by_records` 0 the changes are ``total ** 0.5 * t / repetitions ** 0.5``, Student's t
        of `freedom`, with one denominator for all candidates.
        """
        if not self.freedom:
            return np.zeros((len(repetitions), n))
        variances = self.total * self.freedom / rng.chisquare(self.freedom, n)
        scale = np.sqrt(np.maximum(variances - self.by_records, 0))
        changes = rng.standard_normal((len(repetitions), n)) * scale
        return np.asarray(changes / np.sqrt(repetitions)[:, None])


def compare_pairs(
    values: Floats,
    resampled: Floats,
    repetitions: npt.NDArray[np.integer],
    spread: SeedSpread,
    *,
    freedom: int,
    level: float,
    seed: int,
) -> PairTable:
    """Compare all pairs by the largest difference that chance makes among all of them.

    1. The standard error of a pair's difference is that of its resampled values, with the variance
       of the seed added.
    2. In each resample, with a draw of the variation by the seed, take the largest of all pairs'
       ``|difference* - difference| / error``.
    3. A pair's adjusted p-value is the share of resamples where that is at least its own
       ``|difference| / error``. So the chance to call any pair of equal candidates different is one
       minus the level, however many there are.

    Parameters
    ----------
    values
        ``(n,)`` means over repetitions; NaN where not defined.
    resampled
        ``(n, n_resamples)``: the same for each resample of records.
    repetitions
        ``(n,)`` how many each mean is of.
    spread
        How the values vary with the seed.
    freedom
        Of the standard errors over records; see `ecg_mlflow.stats.predictions.degrees_of_freedom`.
    level
        Of the simultaneous intervals.
    seed
        Of the draws.

    Notes
    -----
    Single-step maximum of studentised differences: Westfall and Young, *Resampling-Based Multiple
    Testing* (1993), section 2.3; with normal values it is Tukey's range test.
    """
    n, n_resamples = resampled.shape
    deviations = resampled - values[:, None]
    # A resample that doesn't define the metric of some candidate tells nothing of that one.
    deviations = np.where(np.isnan(deviations), 0.0, deviations)
    errors = np.sqrt(_variances(deviations, spread, repetitions))
    rng = np.random.default_rng([seed, n])
    deviations += spread.draw(rng, n_resamples, repetitions.astype(np.float64))
    inverse = np.divide(1.0, errors, out=np.zeros_like(errors), where=errors > 1e-12)
    inverse[np.isnan(values)] = inverse[:, np.isnan(values)] = 0
    largest = np.sort(_largest(deviations.astype(np.float32), inverse.astype(np.float32)))
    differences = values[:, None] - values
    ratios = as_normal(np.abs(np.nan_to_num(differences)) * inverse, freedom)
    # What float32 rounds must not tell a difference from the same difference.
    below = np.searchsorted(largest, ratios * (1 - 1e-6), "left")
    p_values = (n_resamples - below + 1) / (n_resamples + 1)
    p_values[np.isnan(differences)] = np.nan
    critical = float(as_student(np.quantile(largest, level), freedom))
    return PairTable(differences, errors, p_values, critical)


def _variances(
    deviations: Floats, spread: SeedSpread, repetitions: npt.NDArray[np.integer]
) -> Floats:
    """Return ``(n, n)`` variances of the rows' differences, with what the seed adds."""
    n = len(deviations)
    covariance = np.cov(deviations).reshape(n, n)
    own, seed = np.diag(covariance), spread.variance / repetitions
    variances = own[:, None] + own - 2 * covariance
    # Equal rows: what is left of their variance is rounding.
    variances = np.where(variances > 1e-12 * (own[:, None] + own), variances, 0.0)
    return np.asarray(variances + (seed[:, None] + seed) * ~np.eye(n, dtype=bool))


def _largest(
    deviations: npt.NDArray[np.float32], inverse: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Return ``(n_resamples,)``, the largest studentised difference of all pairs in each."""
    largest = np.zeros(deviations.shape[1], np.float32)
    for row in range(len(deviations) - 1):
        others = slice(row + 1, None)
        found = deviations[others] - deviations[row]
        np.abs(found, out=found)
        found *= inverse[row, others, None]
        np.maximum(largest, found.max(axis=0), out=largest)
    return largest
