"""The promotion gate: the requirements, and the decision whether a model replaces the champion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ecg_mlflow.reports.study_corpus import DataLocation
from ecg_mlflow.reports.study_results import ComparisonOptions
from ecg_mlflow.stats.calibration import reliability, with_temperature
from ecg_mlflow.stats.gain import gain_test
from ecg_mlflow.stats.intervals import metric_intervals
from ecg_mlflow.stats.predictions import Predictions


@dataclass(frozen=True)
class Requirements:
    """What a model has to fulfil beside being better; None where nothing is required.

    Attributes
    ----------
    min_sensitivity, min_specificity
        Reached by the lower bounds of the intervals over records.
    max_calibration_error
        Of the calibrated probabilities.
    max_size_mb
        Size of the network's file.
    max_ms_per_record
        Time that a record takes, measured where the gate runs.
    """

    min_sensitivity: float | None = None
    min_specificity: float | None = None
    max_calibration_error: float | None = None
    max_size_mb: float | None = None
    max_ms_per_record: float | None = None


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
        How the winner is found, and by which metric and level it must be better than the champion.
    requirements
        What it has to fulfil.
    threshold
        Rule by which the threshold is chosen on validation records.
    run_id
        A run to promote in place of the winner.
    location
        Where the recordings are now.
    trust_code
        Run code that came with the study or with the champion, although this machine has not run
        it before.
    """

    study: str
    name: str
    alias: str
    options: ComparisonOptions
    requirements: Requirements
    threshold: str = "f1"
    run_id: str | None = None
    location: DataLocation | None = None
    trust_code: bool = False


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
    """

    promoted: bool
    reasons: tuple[str, ...]
    figures: dict[str, float]
    n_records: int

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def apply_gate(
    challenger: Predictions,
    champion: Predictions | None,
    options: ComparisonOptions,
    requirements: Requirements,
    cost: Mapping[str, float],
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
    options
        The metric, the confidence and the bootstrap by which it must be better than the champion.
    requirements
        What the model has to fulfil.
    cost
        Its ``size_mb``, and the ``ms_per_record`` that it takes here.
    candidates
        Predictions of all models that it was picked from, where it was picked by these very
        records: the best of many looks better than it is, and the test makes up for that.
    temperature
        Of its calibration.
    """
    figures = {**_figures(challenger, options, temperature), **cost}
    against = _shortcomings(figures, requirements, options.level)
    if champion is None:
        reasons = tuple(against or ["there was no champion"])
        return GateDecision(not against, reasons, figures, len(challenger))
    test = gain_test(
        challenger, champion, options.metric, candidates=candidates, **options.bootstrap
    )
    low, high = test.interval.low, test.interval.high
    figures |= {"gain": test.gain, "gain_low": low, "gain_high": high, "p_value": test.p_value}
    compared = (
        f"{options.metric} {test.gain:+.4f} against the champion, "
        f"{options.level:.0%} interval {low:+.4f} to {high:+.4f}, p = {test.p_value:.4f}"
        + (f" (corrected: the best of {len(candidates)} models)" if candidates else "")
    )
    if not test.p_value <= 1 - options.level:
        against = [f"not significantly better than the champion: {compared}", *against]
    return GateDecision(not against, tuple(against or [compared]), figures, len(challenger))


def _figures(
    challenger: Predictions, options: ComparisonOptions, temperature: float
) -> dict[str, float]:
    names = dict.fromkeys([options.metric, "sensitivity", "specificity", "precision"])
    figures: dict[str, float] = {}
    for name, interval in metric_intervals(challenger, names, **options.bootstrap).items():
        figures[name] = challenger.metrics.get(name, float("nan"))
        figures[f"{name}_low"], figures[f"{name}_high"] = interval.low, interval.high
    calibrated = with_temperature(challenger, temperature)
    return {**figures, "calibration_error": reliability(calibrated).error}


def _shortcomings(
    figures: Mapping[str, float], requirements: Requirements, level: float
) -> list[str]:
    found = []
    for name in ("sensitivity", "specificity"):
        required = getattr(requirements, f"min_{name}")
        # Written so that NaN, of a metric that these records don't define, doesn't pass.
        if required is not None and not figures[f"{name}_low"] >= required:
            found.append(
                f"{name} {figures[name]:.3f}, lower bound of the {level:.0%} interval "
                f"{figures[f'{name}_low']:.3f}; required is {required:g}"
            )
    for name, unit in (("calibration_error", ""), ("size_mb", " MB"), ("ms_per_record", " ms")):
        required = getattr(requirements, f"max_{name}")
        if required is not None and not figures[name] <= required:
            found.append(f"{name} {figures[name]:.3g}{unit}; allowed is {required:g}{unit}")
    return found
