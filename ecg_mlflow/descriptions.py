"""What MLflow is told of a study and its runs: params, data sets, configurations, the note."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_mlflow.canonical import digest
from ecg_mlflow.plan import ConfigPlan, PlannedRun, StudyPlan
from ecg_mlflow.tracking import DatasetInfo

#: Rows of the leaderboard that the parent's note shows.
SHOWN_ROWS = 10


def objective(plan: StudyPlan) -> str:
    """Return the metric that a study's configurations are ranked by."""
    return "validation_f1" if len(plan.parts.validation) else "test_f1"


def study_params(plan: StudyPlan) -> dict[str, object]:
    """Return the parent's params: the design in numbers."""
    research, corpus = plan.research, plan.corpus
    return {
        "study": research.name,
        "configurations": len(plan.configs),
        "repetitions": research.repetitions,
        "runs": len(plan.runs),
        "seed": research.seed,
        "split": repr(research.split),
        "corpus_source": corpus.source,
        "corpus_digest": corpus.digest[:16],
        "labels_sha256": corpus.labels_sha256[:16],
        "objective": objective(plan),
    }


def run_params(run: PlannedRun) -> dict[str, object]:
    """Return a run's params: options by alias, and what the grid file fixes."""
    settings, network = run.config.settings, run.config.network
    return {
        **run.config.config.alias(),
        "model": settings.model_name,
        "repetition": run.repetition,
        "config": run.config.index,
        "seed": settings.seed,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "optimizer": repr(settings.optimizer),
        "loss_function": repr(settings.loss),
        "classes": ", ".join(settings.classes),
        "positive": settings.positive,
        "trainable_parameters": network.parameters if network else "unknown",
    }


def full_configuration(run: PlannedRun) -> dict[str, Any]:
    """Return a run's whole configuration as plain data."""
    settings = run.config.settings
    return {
        **{key: str(value) for key, value in run_params(run).items()},
        "identity": run.identity,
        "model_arguments": {name: repr(value) for name, value in settings.arguments.items()},
        "train": [str(action) for action in settings.train.actions],
        "test": [str(action) for action in settings.test.actions],
        "test_every": settings.test_every,
        "iterations": run.config.n_iterations,
        "windows_per_epoch": run.config.data.windows_per_epoch,
        "input_shape": list(run.config.data.input_shape),
    }


def dataset_infos(plan: StudyPlan, config: ConfigPlan) -> dict[str, DatasetInfo]:
    """Describe each side's records for MLflow."""
    corpus, found = plan.corpus, {}
    source = corpus.source.partition(":")[0] if ":" in corpus.source else Path(corpus.source).name
    for side, selection in config.data.sides.items():
        counts = {label: selection.labels.count(label) for label in config.settings.classes}
        found[side] = DatasetInfo(
            f"{source} {side}",
            digest([corpus.digest, selection.rows, selection.labels]),
            corpus.source,
            len(selection.rows),
            counts,
            tuple(sorted({float(corpus.fs[row]) for row in selection.rows})),
            corpus.leads[int(selection.rows[0])],
        )
    return found


def describe_state(
    plan: StudyPlan, rows: Sequence[Mapping[str, object]], metric: str, done: int, failed: int
) -> str:
    """Write the parent's description: the design, the state and the best, in Markdown."""
    research = plan.research
    parts = ", ".join(f"{len(part)} {name}" for name, part in plan.parts.items())
    lines = [
        f"**{research.name}**: {len(plan.configs)} configurations x {research.repetitions} "
        f"repetitions on {plan.corpus.source} ({parts} records); F1 is of "
        f"{plan.configs[0].settings.positive!r} against the rest, by record.",
        f"{done} of {len(plan.runs)} runs finished" + (f", {failed} failed." if failed else "."),
    ]
    if rows:
        lines += ["", f"| rank | configuration | runs | {metric} | sd |", "|---|---|---|---|---|"]
        names = [name for name in rows[0] if name in research.grid.names]
        for row in rows[:SHOWN_ROWS]:
            config = ", ".join(f"{name} {row[name]}" for name in row if name in names)
            values = " | ".join(_number(row[name]) for name in (metric, f"{metric}_std"))
            lines.append(f"| {row['rank']} | {config} | {row['runs']} | {values} |")
    return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) and math.isfinite(value) else "-"
