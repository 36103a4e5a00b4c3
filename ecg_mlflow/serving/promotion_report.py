"""What a promotion writes down: the report on the model version, and its tags."""

from __future__ import annotations

from collections.abc import Mapping

from ecg_mlflow.reports.study_results import Results
from ecg_mlflow.reports.winner import Choice
from ecg_mlflow.serving.gate import GateDecision, PromotionRequest
from ecg_mlflow.serving.served_model import OperatingPoint
from ecg_mlflow.tracking.stored_study import StoredStudy


def decision_tags(
    study: StoredStudy, choice: Choice, point: OperatingPoint, decision: GateDecision, metric: str
) -> Mapping[str, object]:
    """Return the tags of a version: where it comes from, how it answers, what was measured."""
    figures = decision.figures
    tags: dict[str, object] = {
        "study": study.run_id,
        "run": choice.run.record.run_id,
        "threshold": "none" if point.threshold is None else point.threshold,
        "temperature": f"{point.temperature:.4g}",
        "held_out_records": decision.n_records,
    }
    if decision.champion is not None:
        tags["judged_against"] = decision.champion.version
        tags["gain_interval"] = f"{figures['gain_low']:+.4f} to {figures['gain_high']:+.4f}"
    # The UI lists all tags of all versions in one narrow column: the rest is in the report.
    for name in (metric, "gain", "p_value"):
        if name in figures:
            tags[name] = f"{figures[name]:.4g}"
    return {f"ecg_mlflow.{name}": value for name, value in tags.items()}


def decision_report(
    request: PromotionRequest,
    choice: Choice,
    results: Results,
    point: OperatingPoint,
    decision: GateDecision,
    version: int,
) -> str:
    """Write the decision for people, in Markdown."""
    study, requirements, figures = results.studies[0], request.requirements, decision.figures
    outcome = f"Promoted to {request.alias}" if decision.promoted else "Refused"
    lines = [
        f"{outcome}: {decision}.",
        "",
        f"- Version {version} of {request.name}.",
        f"- Model: {choice}.",
        f"- From: run `{choice.run.record.run_id}` of study {study.name} (`{study.run_id}`), its "
        f"{choice.run.weights} weights; nothing was trained for this.",
        f"- Compared with: {decision.champion or 'no champion'}, on {decision.n_records} held-out "
        "records.",
        f"- Label: {_threshold(choice, point)}; temperature {point.temperature:.3g}; both "
        f"chosen on {point.chosen_on}.",
        f"- Gate: better in {requirements.metric} by the one-sided paired bootstrap over records "
        f"({requirements.resamples} resamples) at {requirements.level:.0%}"
        + "".join(f", {text}" for text in _required(request)),
    ]
    if choice.candidates:
        lines.append(
            f"- It was picked from {len(choice.candidates)} models with a look at these records, "
            "so the p-value is that of the best of all of them."
        )
    lines += [f"- Note: {note}." for note in (*results.notes, *decision.notes)]
    lines += ["", "| figure | value | interval |", "|---|---|---|"]
    for name, value in figures.items():
        if f"{name}_low" in figures:
            low, high = figures[f"{name}_low"], figures[f"{name}_high"]
            lines.append(f"| {name} | {value:.4g} | {low:.4f} to {high:.4f} |")
        elif not name.endswith(("_low", "_high")):
            lines.append(f"| {name} | {value:.4g} | |")
    return "\n".join(lines)


def _threshold(choice: Choice, point: OperatingPoint) -> str:
    assert choice.run.test is not None
    if point.threshold is None:
        return "the most probable class"
    positive = choice.run.test.positive
    return f"{positive} from a probability of {point.threshold:.4f} on (rule: {point.rule})"


def _required(request: PromotionRequest) -> list[str]:
    one = request.requirements
    required = (
        ("sensitivity of at least", one.min_sensitivity),
        ("specificity of at least", one.min_specificity),
        ("calibration error of at most", one.max_calibration_error),
        ("size in MB of at most", one.max_size_mb),
        ("milliseconds a record of at most", one.max_ms_per_record),
    )
    return [f"{text} {value:g}" for text, value in required if value is not None]
