"""What a promotion writes down: the report on the model version, and its tags."""

from __future__ import annotations

from collections.abc import Mapping

from ecg_mlflow.reports.html import render
from ecg_mlflow.reports.study_results import Results
from ecg_mlflow.serving.gate import GateDecision, PromotionRequest
from ecg_mlflow.serving.served_model import ServedModel


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
    return render(
        "decision.md",
        request=request,
        study=results.studies[0],
        served=served,
        decision=decision,
        notes=(*results.notes, *decision.notes),
    )
