"""Describe a study and its runs for MLflow: params, data sets, configurations, the note."""

from __future__ import annotations

import json
import math
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.grids import Grid
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.models.build import weight_seed
from ecg_mlflow.pipeline import Stages
from ecg_mlflow.pipeline.spec import check_deterministic, stages_to_json
from ecg_mlflow.records import Corpus, list_bad_records
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.records.locating import asked_for
from ecg_mlflow.search.space import Space
from ecg_mlflow.study.plan import ConfigPlan, PlannedRun, StudyPlan
from ecg_mlflow.study.research import RESERVED
from ecg_mlflow.study.search_config import SearchConfig, selection_warnings
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo
from ecg_mlflow.tracking.recordings_source import RecordingsSource
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.study_run import Study

#: Of the digests of data sets, by which studies of all versions are compared.
DATASET_VERSION = 1
#: Rows of the leaderboard that the parent's note shows.
SHOWN_ROWS = 10
#: The longest param that can be read in a table of runs; the configuration's file has all of it.
PARAM_SHOWN = 100
#: The longest name of a run that every store takes.
NAME_LIMIT = 250


@dataclass(frozen=True)
class Counts:
    """A study's runs by their ends; `n_runs` is how many there are going to be."""

    n_runs: int
    finished: int = 0
    failed: int = 0
    pruned: int = 0

    @property
    def waiting(self) -> int:
        """How many have not ended."""
        return self.n_runs - self.finished - self.failed - self.pruned


def describe_study(
    study: Study, plan: StudyPlan, search: SearchConfig, code: UserCode, n_runs: int
) -> None:
    """Log what is known of a study before its first run: design, plan, records left out.

    `code` is the grid file and what it imports from beside it.
    """
    study.params(study_params(plan, search, n_runs))
    client, run_id = study.client, study.run_id
    with store_errors(f"write the design into run {run_id}"):
        if code.files:
            with tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder:
                client.log_artifacts(run_id, str(code.write(Path(folder))), "design")
        client.log_text(run_id, json.dumps(plan.describe(), indent=1), "design/plan.json")
        if plan.bad:
            client.log_text(run_id, "\n".join(list_bad_records(plan.bad)), "left_out.txt")
    state = describe_state(plan, search, [], Counts(n_runs))
    first = search.rule.first
    study.describe(
        state,
        first.metric,
        higher_is_better=first.maximize,
        n_runs=n_runs,
    )


def study_params(plan: StudyPlan, search: SearchConfig, n_runs: int) -> dict[str, object]:
    """Return the parent's params: the design in numbers."""
    research, corpus, rule = plan.research, plan.corpus, search.rule
    chosen = {
        "sampler": search.sampler,
        "pruner": rule.pruner or "none",
        "adaptive_repetitions": rule.adaptive,
    }
    return {
        "study": research.name,
        "configurations": n_configs(plan),
        "repetitions": research.repetitions,
        "runs": n_runs,
        "seed": research.seed,
        "split": str(research.split),
        "corpus_source": corpus.source,
        "corpus_digest": corpus.digest[:16],
        "labels_sha256": corpus.labels_sha256[:16],
        "objective": ", ".join(map(str, rule.objectives)),
        **(chosen if search.selects else {}),
    }


def n_configs(plan: StudyPlan) -> int | str:
    """Return how many configurations there are to choose from."""
    if not plan.sampled:
        return len(plan.configs)
    assert isinstance(plan.research.grid, Grid)
    n = Space(plan.research.grid).n_configs
    return "unlimited" if n is None else n


def run_name(run: PlannedRun) -> str:
    """Return a run's name in MLflow."""
    return f"{run.key} {run.config.name}"[:NAME_LIMIT]


def configuration_name(run: PlannedRun) -> str:
    """Return the name that all repetitions of a run share, short enough for a chart's legend."""
    return str(_shown(f"{run.config.index:02d} {run.config.name}"))


def run_params(run: PlannedRun) -> dict[str, object]:
    """Return a run's params: what the grid file fixes, and every option by its alias.

    Long ones are cut; they end in a hash, so that those that differ look different.
    """
    settings, network = run.config.settings, run.config.network
    params = {
        "model": settings.model_name,
        **{name: value for name, value in settings.arguments.items() if name not in RESERVED},
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "drop_last": settings.drop_last,
        "test_every": settings.test_every,
        "optimizer": settings.optimizer,
        "loss_function": settings.loss,
        "classes": ", ".join(settings.classes),
        "positive": settings.positive,
        **({"multilabel": True} if settings.multilabel else {}),
        "seed": settings.seed,
        # An option may replace any of the above; its alias is the name that the user chose.
        **run.config.config.alias(),
        "weight_seed": weight_seed(settings.seed, run.repetition),
        "repetition": run.repetition,
        "config": run.config.index,
        "trainable_parameters": network.parameters if network else "unknown",
    }
    # The positive class is looked for by its name.
    return {name: one if name == "positive" else _shown(one) for name, one in params.items()}


def _shown(value: object) -> object:
    text = str(value)
    if len(text) <= PARAM_SHOWN:
        return value
    return f"{text[: PARAM_SHOWN - 15]} ... ({digest(text)[:8]})"


def full_configuration(run: PlannedRun) -> dict[str, Any]:
    """Return a run's whole configuration as plain data: values where params have aliases."""
    settings = run.config.settings
    return {
        "identity": run.identity,
        "options": run.config.config.alias(),
        "config": run.config.index,
        "repetition": run.repetition,
        "model": settings.model_name,
        "model_arguments": {name: repr(value) for name, value in settings.arguments.items()},
        "train": [str(action) for action in settings.train.actions],
        "test": [str(action) for action in settings.test.actions],
        "test_pipeline": kept_pipeline(settings.test),
        "classes": list(settings.classes),
        "positive": settings.positive,
        "multilabel": settings.multilabel,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size,
        "drop_last": settings.drop_last,
        "test_every": settings.test_every,
        "optimizer": repr(settings.optimizer),
        "loss": repr(settings.loss),
        "seed": settings.seed,
        "weight_seed": weight_seed(settings.seed, run.repetition),
        "iterations": run.config.n_iterations,
        "windows_per_epoch": run.config.data.windows_per_epoch,
        "input_shape": list(run.config.data.input_shape),
    }


def kept_pipeline(stages: Stages) -> list[dict[str, Any]] | None:
    """Return a test pipeline as a model would keep it; None where no model can."""
    try:
        check_deterministic(stages)
        return stages_to_json(stages)
    except PipelineError:
        return None  # the plan's notes say why


def dataset_infos(corpus: Corpus, config: ConfigPlan) -> dict[str, DatasetInfo]:
    """Describe each side's records for MLflow."""
    found = {}
    source = corpus.source
    # "demo: 400 made-up records" and "cinc2017: ..." by their first word, files by their folder.
    source = Path(source).name if Path(source).is_absolute() else source.partition(":")[0]
    data = asked_for(corpus.source)
    for side, selection in config.data.sides.items():
        rows = tuple(map(int, selection.rows))
        seconds = corpus.n_samples[list(rows)] / corpus.fs[list(rows)]
        found_labels = Counter(one for label in selection.labels for one in split_label(label))
        counts = {label: found_labels[label] for label in config.settings.classes}
        found[side] = DatasetInfo(
            f"{source} {side}",
            digest([corpus.digest, selection.rows, selection.labels], version=DATASET_VERSION),
            RecordingsSource(data, corpus.provenance.labels, corpus.digest, rows),
            len(rows),
            counts,
            tuple(sorted({float(corpus.fs[row]) for row in rows})),
            corpus.leads[rows[0]],
            (float(seconds.min()), float(np.median(seconds)), float(seconds.max())),
        )
    return found


def describe_state(
    plan: StudyPlan,
    search: SearchConfig,
    rows: Sequence[Mapping[str, object]],
    counts: Counts,
    reused: Sequence[StoredRun] = (),
) -> str:
    """Write the parent's description: the design, the state and the best, in Markdown."""
    research, metric = plan.research, search.rule.first.metric
    parts = ", ".join(f"{len(part)} {name}" for name, part in plan.parts.items())
    # What changes comes first: the UI folds all but a few lines.
    lines = [
        f"{counts.finished} of {counts.n_runs} runs finished"
        + (f", {counts.pruned} pruned" if counts.pruned else "")
        + (f", {counts.failed} failed." if counts.failed else "."),
        *(_best(row, research.grid.names, metric) for row in rows[:1]),
        "",
        f"**{research.name}**: {n_configs(plan)} configurations x {research.repetitions} "
        f"repetitions on {plan.corpus.source} ({parts} records); F1 is of "
        f"{research.positive!r} against the rest, by record.",
    ]
    if search.selects:
        lines += ["", f"Chosen by {search}."]
    lines += [f"\n**Beware**: {warning}." for warning in selection_warnings(plan, search)]
    if reused:
        studies = Counter(entry.study_id for entry in reused)
        listed = ", ".join(f"{n} of study {study}" for study, n in studies.items())
        lines += ["", f"{len(reused)} of them were finished before, in other studies: {listed}."]
    if rows:
        lines += ["", f"| rank | configuration | runs | {metric} | sd |", "|---|---|---|---|---|"]
        for row in rows[:SHOWN_ROWS]:
            config = _options(row, research.grid.names)
            values = " | ".join(_number(row[name]) for name in (metric, f"{metric}_std"))
            lines.append(f"| {row['rank']} | {config} | {row['runs']} | {values} |")
    return "\n".join(lines)


def _options(row: Mapping[str, object], names: Sequence[str]) -> str:
    return ", ".join(f"{name} {row[name]}".replace("|", r"\|") for name in names if name in row)


def _best(row: Mapping[str, object], names: Sequence[str], metric: str) -> str:
    options = _options(row, names)
    what = f" of {options}" if options else ""
    return f"Best so far: {metric} {_number(row[metric])}{what} (mean of {row['runs']} runs)."


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) and math.isfinite(value) else "-"
