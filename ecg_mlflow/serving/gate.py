"""The promotion gate: the requirements, and the decision whether a model replaces the champion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

from ecg_mlflow.reports.options import ComparisonOptions
from ecg_mlflow.reports.study_corpus import DataLocation
from ecg_mlflow.stats.bootstrap import resample_weights, resampled_metrics
from ecg_mlflow.stats.calibration import reliability, with_temperature
from ecg_mlflow.stats.gain import gain_test
from ecg_mlflow.stats.intervals import records_interval
from ecg_mlflow.stats.predictions import Predictions

if TYPE_CHECKING:
    from ecg_mlflow.tracking.registry import RegisteredVersion


@dataclass(frozen=True)
class Requirements:
    """What a model has to fulfil; None where nothing is required.

    Attributes
    ----------
    metric
        By which it must be better than the champion.
    level
        Confidence: a model that is no better is promoted with at most one minus this probability.
    min_sensitivity, min_specificity
        Reached by the lower bounds of the intervals over records.
    max_calibration_error
        Of the calibrated probabilities.
    max_size_mb
        Size of the network's file.
    max_ms_per_record
        Time that a record takes, measured where the gate runs.
    resamples, seed
        Of the bootstrap.
    """

    metric: str = "f1"
    level: float = 0.95
    min_sensitivity: float | None = None
    min_specificity: float | None = None
    max_calibration_error: float | None = None
    max_size_mb: float | None = None
    max_ms_per_record: float | None = None
    resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class PromotionRequest:
    """What a user asks of ``ecg-mlflow promote``.

    Attributes
    ----------
    study
        By id or name.
    name, alias
        The registered model, and the alias to assign.
    options
        How the winner is found.
    requirements
        What it has to fulfil.
    threshold
        Rule by which the threshold is chosen on validation records.
    run_id
        A run to promote in place of the winner.
    location
        Where the recordings are now.
    """

    study: str
    name: str
    alias: str
    options: ComparisonOptions
    requirements: Requirements
    threshold: str = "f1"
    run_id: str | None = None
    location: DataLocation | None = None

    def with_metric(self, usual: str) -> Self:
        """Fill in the metric of a study where none was asked for."""
        options = self.options.with_metric(usual)
        return replace(
            self,
            options=options,
            requirements=replace(self.requirements, metric=options.metric),
        )


@dataclass(frozen=True)
class ServingCost:
    """What a model costs: its network's file in MB, and the milliseconds that a record takes."""

    size_mb: float
    ms_per_record: float


@dataclass(frozen=True)
class GateDecision:
    """Whether a model is promoted, and what that rests on.

    Attributes
    ----------
    promoted
        Whether it replaces the champion.
    reasons
        Why, or every reason against it.
    figures
        What was measured, by name.
    n_records
        Held-out records that were compared.
    champion
        The version that it was compared with; None where there is none.
    notes
        What the reader should know.
    """

    promoted: bool
    reasons: tuple[str, ...]
    figures: dict[str, float]
    n_records: int
    champion: RegisteredVersion | None = None
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def apply_gate(
    challenger: Predictions,
    champion: Predictions | None,
    requirements: Requirements,
    cost: ServingCost,
    *,
    candidates: Sequence[Predictions] = (),
    temperature: float = 1.0,
) -> GateDecision:
    """Decide by predictions of held-out records whether a model replaces the champion.

    Parameters
    ----------
    challenger
        The model's predictions.
    champion
        Those of the present champion for the same records; None where there is none.
    requirements
        What the model has to fulfil.
    cost
        What it costs.
    candidates
        Predictions of all models that it was picked from, where it was picked by these very
        records: the best of many looks better than it is, and the test makes up for that.
    temperature
        Of its calibration.
    """
    figures = _figures(challenger, requirements, cost, temperature)
    against = _shortcomings(figures, requirements)
    if champion is None:
        reasons = tuple(against or ["there was no champion"])
        return GateDecision(not against, reasons, figures, len(challenger))
    test = gain_test(
        challenger,
        champion,
        requirements.metric,
        candidates=candidates,
        level=requirements.level,
        n_resamples=requirements.resamples,
        seed=requirements.seed,
    )
    low, high = test.interval.low, test.interval.high
    figures |= {"gain": test.gain, "gain_low": low, "gain_high": high, "p_value": test.p_value}
    compared = (
        f"{requirements.metric} {test.gain:+.4f} against the champion, "
        f"{requirements.level:.0%} interval {low:+.4f} to {high:+.4f}, "
        f"p = {test.p_value:.4f}"
        + (f" (corrected: the best of {len(candidates)} models)" if candidates else "")
    )
    if not test.p_value <= 1 - requirements.level:
        against = [f"not significantly better than the champion: {compared}", *against]
    return GateDecision(not against, tuple(against or [compared]), figures, len(challenger))


def _figures(
    challenger: Predictions, requirements: Requirements, cost: ServingCost, temperature: float
) -> dict[str, float]:
    names = dict.fromkeys([requirements.metric, "sensitivity", "specificity", "precision"])
    groups = challenger.groups
    weights = resample_weights(
        len(challenger), requirements.resamples, requirements.seed, groups=groups
    )
    resampled = resampled_metrics(challenger, weights, list(names))
    figures: dict[str, float] = {}
    for name in names:
        value = challenger.metrics.get(name, float("nan"))
        interval = records_interval([challenger], name, value, resampled[name], requirements.level)
        figures[name] = value
        figures[f"{name}_low"], figures[f"{name}_high"] = interval.low, interval.high
    calibrated = with_temperature(challenger, temperature)
    figures["calibration_error"] = reliability(calibrated).error
    figures["size_mb"], figures["ms_per_record"] = cost.size_mb, cost.ms_per_record
    return figures


def _shortcomings(figures: dict[str, float], requirements: Requirements) -> list[str]:
    found = []
    for name in ("sensitivity", "specificity"):
        required = getattr(requirements, f"min_{name}")
        # Written so that NaN, of a metric that these records don't define, doesn't pass.
        if required is not None and not figures[f"{name}_low"] >= required:
            found.append(
                f"{name} {figures[name]:.3f}, lower bound of the {requirements.level:.0%} interval "
                f"{figures[f'{name}_low']:.3f}; required is {required:g}"
            )
    for name, unit in (("calibration_error", ""), ("size_mb", " MB"), ("ms_per_record", " ms")):
        required = getattr(requirements, f"max_{name}")
        if required is not None and not figures[name] <= required:
            found.append(f"{name} {figures[name]:.3g}{unit}; allowed is {required:g}{unit}")
    return found
