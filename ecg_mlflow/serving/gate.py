"""The gate of a promotion: may a model take the champion's place, and why, or why not."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from ecg_mlflow.stats.bootstrap import resample_weights, resampled_metrics
from ecg_mlflow.stats.calibration import calibrated, calibration_error
from ecg_mlflow.stats.gate import GainTest, gain_test
from ecg_mlflow.stats.intervals import records_interval
from ecg_mlflow.stats.predictions import Predictions


@dataclass(frozen=True)
class Requirements:
    """What a model has to fulfil; None where nothing is asked.

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
class Machine:
    """What a model costs: its network's file in MB, and the milliseconds that a record takes."""

    size_mb: float
    ms_per_record: float


@dataclass(frozen=True)
class Verdict:
    """What the gate says.

    Attributes
    ----------
    promoted
        Whether the model may take the champion's place.
    reasons
        Why, or all that stands against it.
    figures
        What was measured, by name.
    test
        The comparison with the champion; None where there is none.
    """

    promoted: bool
    reasons: tuple[str, ...]
    figures: dict[str, float] = field(default_factory=dict)
    test: GainTest | None = None

    def __str__(self) -> str:
        return "; ".join(self.reasons)


def judge(
    challenger: Predictions,
    champion: Predictions | None,
    requirements: Requirements,
    machine: Machine,
    *,
    candidates: Sequence[Predictions] = (),
    temperature: float = 1.0,
) -> Verdict:
    """Judge a model by its predictions of held-out records.

    Parameters
    ----------
    challenger
        The model's predictions.
    champion
        Those of the present champion for the same records; None where there is none.
    requirements
        What is asked of it.
    machine
        What it costs.
    candidates
        Predictions of all models that it was picked from, where it was picked by these very
        records: the best of many looks better than it is, and the test makes up for that.
    temperature
        Of its calibration.
    """
    figures = _figures(challenger, requirements, machine, temperature)
    against = _shortcomings(figures, requirements)
    if champion is None:
        reasons = against or ["there was no champion"]
        return Verdict(not against, tuple(reasons), figures)
    test = gain_test(
        challenger,
        champion,
        requirements.metric,
        candidates=candidates,
        level=requirements.level,
        n_resamples=requirements.resamples,
        seed=requirements.seed,
    )
    figures |= {"gain": test.gain, "p_value": test.p_value}
    limit = 1 - requirements.level
    is_better = test.p_value <= limit
    compared = (
        f"{requirements.metric} {test.gain:+.4f} against the champion, "
        f"{requirements.level:.0%} interval {test.interval.low:+.4f} to {test.interval.high:+.4f}, "
        f"p = {test.p_value:.4f}"
        + (f" (corrected: the best of {len(candidates)} models)" if candidates else "")
    )
    if not is_better:
        against = [f"not better than the champion beyond chance: {compared}", *against]
    return Verdict(not against, tuple(against or [compared]), figures, test)


def _figures(
    challenger: Predictions, requirements: Requirements, machine: Machine, temperature: float
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
    probabilities = calibrated(challenger.probabilities, temperature, challenger.activation)
    figures["calibration_error"] = calibration_error(
        Predictions(
            challenger.records,
            challenger.targets,
            probabilities,
            challenger.classes,
            challenger.positive,
        )
    )
    figures["size_mb"], figures["ms_per_record"] = machine.size_mb, machine.ms_per_record
    return figures


def _shortcomings(figures: dict[str, float], requirements: Requirements) -> list[str]:
    found = []
    for name in ("sensitivity", "specificity"):
        asked = getattr(requirements, f"min_{name}")
        # Written so that NaN, of a metric that these records don't define, doesn't pass.
        if asked is not None and not figures[f"{name}_low"] >= asked:
            found.append(
                f"{name} {figures[name]:.3f}, but only {figures[f'{name}_low']:.3f} is sure at "
                f"{requirements.level:.0%}; asked for is {asked:g}"
            )
    for name, unit in (("calibration_error", ""), ("size_mb", " MB"), ("ms_per_record", " ms")):
        asked = getattr(requirements, f"max_{name}")
        if asked is not None and not figures[name] <= asked:
            found.append(f"{name} {figures[name]:.3g}{unit}; allowed is {asked:g}{unit}")
    return found
