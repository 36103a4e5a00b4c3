"""What a promotion writes down: the report on the model version, and its tags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from ecg_mlflow.reports.study_results import Results, TrainedRun
from ecg_mlflow.reports.winner import Choice
from ecg_mlflow.serving.build import Operation
from ecg_mlflow.serving.promotion_request import PromotionRequest
from ecg_mlflow.tracking.stored_study import StudyRecord

if TYPE_CHECKING:
    from ecg_mlflow.serving.promote import Gate

PREFIX = "ecg_mlflow."


def version_tags(
    study: StudyRecord, run: TrainedRun, operation: Operation, gate: Gate, metric: str
) -> Mapping[str, object]:
    """Return the tags of a version: where it comes from, how it answers, what was measured."""
    verdict = gate.verdict
    tags: dict[str, object] = {
        f"{PREFIX}study": study.run_id,
        f"{PREFIX}run": run.record.run_id,
        f"{PREFIX}threshold": "none" if operation.threshold is None else operation.threshold,
        f"{PREFIX}temperature": f"{operation.temperature:.4g}",
        f"{PREFIX}held_out_records": gate.n_records,
    }
    if gate.champion is not None:
        tags[f"{PREFIX}judged_against"] = gate.champion.version
    if verdict.test is not None:
        interval = verdict.test.interval
        tags[f"{PREFIX}gain_interval"] = f"{interval.low:+.4f} to {interval.high:+.4f}"
    # The UI lists all tags of all versions in one narrow column: the rest is in the report.
    for name in (metric, "gain", "p_value"):
        if name in verdict.figures:
            tags[f"{PREFIX}{name}"] = f"{verdict.figures[name]:.4g}"
    return tags


def report(
    request: PromotionRequest,
    choice: Choice,
    results: Results,
    operation: Operation,
    gate: Gate,
    version: int,
) -> str:
    """Write the decision for people, in Markdown."""
    study, verdict, requirements = results.studies[0], gate.verdict, request.requirements
    against = "no champion" if gate.champion is None else str(gate.champion)
    decision = f"Promoted to {request.alias}" if verdict.promoted else "Refused"
    lines = [
        f"{decision}: {verdict}.",
        "",
        f"- Version {version} of {request.name}.",
        f"- Model: {choice}.",
        f"- From: run `{choice.run.record.run_id}` of study {study.name} (`{study.run_id}`), its "
        f"{choice.run.weights} weights; nothing was trained for this.",
        f"- Judged against: {against}, on {gate.n_records} held-out records.",
        f"- Label: {_threshold(choice, operation)}; temperature {operation.temperature:.3g}; both "
        f"chosen on {operation.chosen_on}.",
        f"- Gate: better in {requirements.metric} by the one-sided paired bootstrap over records "
        f"({requirements.resamples} resamples) at {requirements.level:.0%}"
        + "".join(f", {text}" for text in _asked(request)),
    ]
    if choice.candidates:
        lines.append(
            f"- It was picked from {len(choice.candidates)} models with a look at these records, "
            "so the p-value is that of the best of all of them."
        )
    lines += [f"- Note: {note}." for note in (*results.notes, *gate.notes)]
    lines += ["", "| figure | value | interval |", "|---|---|---|"]
    for name, value in verdict.figures.items():
        if name.endswith(("_low", "_high")):
            continue
        interval = ""
        if f"{name}_low" in verdict.figures:
            low, high = verdict.figures[f"{name}_low"], verdict.figures[f"{name}_high"]
            interval = f"{low:.4f} to {high:.4f}"
        elif name == "gain" and verdict.test is not None:
            interval = f"{verdict.test.interval.low:+.4f} to {verdict.test.interval.high:+.4f}"
        lines.append(f"| {name} | {value:.4g} | {interval} |")
    return "\n".join(lines)


def _threshold(choice: Choice, operation: Operation) -> str:
    assert choice.run.test is not None
    if operation.threshold is None:
        return "the most probable class"
    positive = choice.run.test.positive
    return f"{positive} from a probability of {operation.threshold:.4f} on (rule: {operation.rule})"


def _asked(request: PromotionRequest) -> list[str]:
    one = request.requirements
    asked = (
        ("sensitivity of at least", one.min_sensitivity),
        ("specificity of at least", one.min_specificity),
        ("calibration error of at most", one.max_calibration_error),
        ("size in MB of at most", one.max_size_mb),
        ("milliseconds a record of at most", one.max_ms_per_record),
    )
    return [f"{text} {value:g}" for text, value in asked if value is not None]
