"""What a promotion writes down: the report on the model version, and its tags."""

from __future__ import annotations

from collections.abc import Mapping

from ecg_mlflow.reports.study_results import Results
from ecg_mlflow.serving.gate import GateDecision, PromotionRequest
from ecg_mlflow.serving.served_model import ServedModel

_REQUIRED = {
    "min_sensitivity": "sensitivity of at least",
    "min_specificity": "specificity of at least",
    "max_calibration_error": "calibration error of at most",
    "max_size_mb": "size in MB of at most",
    "max_ms_per_record": "milliseconds a record of at most",
}


def decision_tags(
    results: Results, served: ServedModel, decision: GateDecision, metric: str
) -> Mapping[str, object]:
    """Return the tags of a version: where it comes from, how it answers, what was measured."""
    figures, threshold = decision.figures, served.manifest.threshold
    tags: dict[str, object] = {
        "study": results.studies[0].run_id,
        "run": served.choice.run.record.run_id,
        "threshold": "none" if threshold is None else threshold,
        "temperature": f"{served.manifest.temperature:.4g}",
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
    request: PromotionRequest, results: Results, served: ServedModel, decision: GateDecision
) -> str:
    """Write the decision for people, in Markdown."""
    study, options, choice = results.studies[0], request.options, served.choice
    figures, manifest = decision.figures, served.manifest
    outcome = f"Promoted to {request.alias}" if decision.promoted else "Refused"
    label = manifest.threshold_rule
    if manifest.threshold is not None:
        label = f"{manifest.positive} from a probability of {manifest.threshold:.4f} on ({label})"
    required = [(text, getattr(request.requirements, name)) for name, text in _REQUIRED.items()]
    lines = [
        f"{outcome}: {decision}.",
        "",
        f"- Registered as {request.name}, for the alias {request.alias}.",
        f"- Model: {choice}.",
        f"- From: run `{choice.run.record.run_id}` of study {study.name} (`{study.run_id}`), its "
        f"{choice.run.weights} weights; nothing was trained for this.",
        f"- Compared with: {decision.champion or 'no champion'}, on {decision.n_records} held-out "
        "records.",
        f"- Label: {label}; temperature {manifest.temperature:.3g}; both chosen on "
        f"{manifest.calibrated_on}.",
        f"- Gate: better in {options.metric} by the one-sided paired bootstrap over records "
        f"({options.resamples} resamples) at {options.level:.0%}"
        + "".join(f", {text} {value:g}" for text, value in required if value is not None),
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
