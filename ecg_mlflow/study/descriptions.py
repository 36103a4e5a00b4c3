"""Describe a study and its runs for MLflow, and its plan as a table for the terminal."""

from __future__ import annotations

import json
import math
import re
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from ecg_mlflow.errors import few
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.models.build import weight_seed
from ecg_mlflow.records import Corpus, list_bad_records
from ecg_mlflow.records.catalogue import asked_for
from ecg_mlflow.records.label_sets import count_labels
from ecg_mlflow.records.reading import REFUSE
from ecg_mlflow.reports.text_tables import aligned
from ecg_mlflow.study.plan import ConfigPlan, PlannedRun, StudyPlan
from ecg_mlflow.study.research import RESERVED
from ecg_mlflow.study.search_config import SELECTS_BY_TEST
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo, duration_range
from ecg_mlflow.tracking.recordings_source import RecordingsSource
from ecg_mlflow.tracking.retry import store_errors
from ecg_mlflow.tracking.run_data import log_new_params, markdown
from ecg_mlflow.tracking.stored_run import StoredRun
from ecg_mlflow.tracking.stored_study import CODE, PLAN
from ecg_mlflow.tracking.study_run import CONFIGURATION_TAG, Study
from ecg_mlflow.tracking.trusted_code import file_hashes

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
    """A study's runs by their ends.

    Attributes
    ----------
    n_runs
        How many there are going to be.
    finished, failed, pruned
        How many have ended so.
    gone
        How many were deleted or ended by hand while they were trained.
    """

    n_runs: int
    finished: int = 0
    failed: int = 0
    pruned: int = 0
    gone: int = 0

    @property
    def waiting(self) -> int:
        """How many have not ended."""
        return self.n_runs - self.finished - self.failed - self.pruned - self.gone

    def __str__(self) -> str:
        """Return how many have ended in which way, but for those that finished."""
        ends = {"failed": self.failed, "pruned": self.pruned, "deleted or ended by hand": self.gone}
        return "".join(f", {n} {how}" for how, n in ends.items() if n)


def describe_study(study: Study, plan: StudyPlan, code: UserCode, n_runs: int) -> None:
    """Log what is known of a study before its first run: design, plan, records left out.

    `code` is the grid file and what it imports from beside it.
    """
    client, run_id = study.client, study.run_id
    # ``mlflow run`` has logged what it was given under the same names.
    log_new_params(client, run_id, study_params(plan, n_runs))
    if code.files:
        with (
            store_errors(f"write the design into run {run_id}"),
            tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as folder,
        ):
            client.log_artifacts(run_id, str(code.write(Path(folder))), "design")
    described = plan.describe() | {CODE: file_hashes(code.files)}
    client.log_text(run_id, json.dumps(described, indent=1), PLAN)
    if plan.bad:
        client.log_text(run_id, "\n".join(list_bad_records(plan.bad)), "left_out.txt")


def study_params(plan: StudyPlan, n_runs: int) -> dict[str, object]:
    """Return the parent's params: the design in numbers."""
    research, corpus, search = plan.research, plan.corpus, plan.search
    chosen = {
        "sampler": search.sampler,
        "pruner": search.pruner or "none",
        "adaptive_repetitions": search.adaptive,
    }
    return {
        "study": research.name,
        "configurations": plan.n_configs,
        "repetitions": research.repetitions,
        "runs": n_runs,
        "seed": research.seed,
        "split": str(research.split),
        "corpus_source": corpus.source,
        "corpus_digest": corpus.digest[:16],
        "labels_sha256": corpus.labels_sha256[:16],
        "objective": ", ".join(map(str, search.objectives)),
        **(chosen if search.selects else {}),
    }


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
        **{name: value for name, value in settings.arguments.items() if name not in RESERVED},
        **_common_values(run),
        "optimizer": settings.optimizer,
        "loss_function": settings.loss,
        "classes": ", ".join(settings.classes),
        **({"multilabel": True} if settings.multilabel else {}),
        # An option may replace any of the above; its alias is the name that the user chose.
        **run.config.config.alias(),
        "trainable_parameters": network.parameters if network else "unknown",
    }
    # The positive class is looked for by its name.
    return {name: one if name == "positive" else _shown(one) for name, one in params.items()}


def _shown(value: object) -> object:
    text = str(value)
    if len(text) <= PARAM_SHOWN:
        return value
    return f"{text[: PARAM_SHOWN - 15]} ... ({digest(text)[:8]})"


def _common_values(run: PlannedRun) -> dict[str, object]:
    """Return what params and the full configuration have in common."""
    settings = run.config.settings
    names = ("epochs", "batch_size", "drop_last", "test_every", "positive", "seed")
    return {
        "model": settings.model_name,
        **{name: getattr(settings, name) for name in names},
        "weight_seed": weight_seed(settings.seed, run.repetition),
        "repetition": run.repetition,
        "config": run.config.index,
    }


def full_configuration(run: PlannedRun) -> dict[str, Any]:
    """Return a run's whole configuration as plain data: values where params have aliases."""
    settings, data = run.config.settings, run.config.data
    return {
        "identity": run.identity,
        "options": run.config.config.alias(),
        **_common_values(run),
        "model_arguments": {name: repr(value) for name, value in settings.arguments.items()},
        "train": [str(action) for action in settings.train.actions],
        "test": [str(action) for action in settings.test.actions],
        "test_pipeline": data.test_pipeline,
        "classes": list(settings.classes),
        "multilabel": settings.multilabel,
        "optimizer": repr(settings.optimizer),
        "loss": repr(settings.loss),
        "iterations": run.config.n_iterations,
        "windows_per_epoch": data.windows_per_epoch,
        "input_shape": list(data.input_shape),
    }


def dataset_infos(corpus: Corpus, config: ConfigPlan) -> dict[str, DatasetInfo]:
    """Describe each side's records for MLflow."""
    found = {}
    # "demo: 400 records" and "ptbxl@folder: ..." by their first word, files by their folder.
    path = Path(corpus.source)
    source = path.name if path.is_absolute() else re.split("[:@]", corpus.source)[0]
    data = asked_for(corpus.source)
    for side, selection in config.data.sides.items():
        rows = tuple(map(int, selection.rows))
        n_records = count_labels(selection.labels)
        found[side] = DatasetInfo(
            f"{source} {side}",
            digest([corpus.digest, selection.rows, selection.labels], version=DATASET_VERSION),
            RecordingsSource(
                data,
                corpus.provenance.labels,
                corpus.digest,
                rows,
                leads=corpus.provenance.reading.leads or None,
                gaps=None if (gaps := corpus.provenance.reading.gaps) == REFUSE else gaps,
            ),
            len(rows),
            {label: n_records[label] for label in config.settings.classes},
            tuple(sorted({float(corpus.fs[row]) for row in rows})),
            corpus.leads[rows[0]],
            duration_range(corpus.seconds[list(rows)]),
        )
    return found


def describe_unplanned(runs: Iterable[StoredRun], metric: str) -> str:
    """Say which finished runs of a study its grid does not list any more; empty without any."""
    reached: dict[str, list[float]] = {}
    for run in runs:
        values = reached.setdefault(run.tags.get(CONFIGURATION_TAG, run.name), [])
        values.append(run.metrics.get(metric, math.nan))
    if not reached:
        return ""
    each = [
        f"{name} ({metric} {_number(fmean(values))}, runs: {len(values)})"
        for name, values in reached.items()
    ]
    listed = few(each, 10, "; ")
    return f"No longer planned, but kept, and shown by compare and load_results: {listed}."


def describe_state(
    plan: StudyPlan,
    rows: Sequence[Mapping[str, object]],
    counts: Counts,
    reused: Sequence[StoredRun] = (),
    unplanned: Sequence[StoredRun] = (),
) -> str:
    """Write the parent's description: the design, the state and the best, in Markdown.

    Parameters
    ----------
    plan
        The study.
    rows
        Of its leaderboard.
    counts
        How its runs have ended so far.
    reused
        Runs of other studies that it has taken over.
    unplanned
        Its finished runs that are not planned any more.
    """
    research, search, metric = plan.research, plan.search, plan.search.first.metric

    def options(row: Mapping[str, object]) -> str:
        names = [name for name in research.grid.names if name in row]
        return markdown(", ".join(f"{name} {row[name]}" for name in names))

    parts = ", ".join(f"{len(part)} {name}" for name, part in plan.parts.items())
    # What changes comes first: the UI folds all but a few lines.
    lines = [f"{counts.finished} of {counts.n_runs} runs finished{counts}."]
    if rows:
        of = f" of {options(rows[0])}" if options(rows[0]) else ""
        value = _number(rows[0][metric])
        lines.append(f"Best so far: {metric} {value}{of} (mean of {rows[0]['runs']} runs).")
    lines += [
        "",
        f"**{markdown(research.name)}**: {plan.n_configs} configurations x {research.repetitions} "
        f"repetitions on {markdown(plan.corpus.source)} ({parts} records); F1 is of "
        f"{markdown(repr(research.positive))} against the rest, by record.",
    ]
    if search.selects:
        lines += ["", f"Chosen by {search}."]
    if SELECTS_BY_TEST in plan.notes:
        lines.append(f"\n**Beware**: {SELECTS_BY_TEST}.")
    if reused:
        studies = Counter(entry.study_id for entry in reused)
        listed = ", ".join(f"{n} of study {study}" for study, n in studies.items())
        lines += ["", f"{len(reused)} of them were finished before, in other studies: {listed}."]
    if unplanned:
        lines += ["", markdown(describe_unplanned(unplanned, metric), limit=2000)]
    if rows:
        lines += ["", f"| rank | configuration | runs | {metric} | sd |", "|---|---|---|---|---|"]
        for row in rows[:SHOWN_ROWS]:
            values = " | ".join(_number(row[name]) for name in (metric, f"{metric}_std"))
            lines.append(f"| {row['rank']} | {options(row)} | {row['runs']} | {values} |")
    return "\n".join(lines)


def _number(value: object) -> str:
    return f"{value:.4f}" if isinstance(value, float) and math.isfinite(value) else "-"


# --- The plan, on a terminal ----------------------------------------------------------------------


def plan_table(plan: StudyPlan, n_workers: int) -> str:
    """Write a plan: one line per configuration, and what the study takes in all.

    Parameters
    ----------
    plan
        The plan.
    n_workers
        How many runs train at once, for the estimate of the time.
    """
    rows = [
        [
            str(config.index),
            config.name,
            f"{config.network.parameters:,}" if config.network else "?",
            f"{config.n_iterations:,}",
            _duration(config.seconds),
        ]
        for config in plan.configs
    ]
    header = ["#", "configuration", "parameters", "iterations", "time of one run"]
    parts = ", ".join(f"{len(part)} {name}" for name, part in plan.parts.items())
    n_planned, what = _size(plan)
    # No worker is idle before the end, except that one run is on one worker.
    share = n_planned * plan.seconds / len(plan.runs) / n_workers
    seconds = max(share, max(config.seconds for config in plan.configs))
    early = ", less what is given up early" if plan.search.selects else ""
    return "\n".join(
        [
            *aligned([header, *rows]),
            "",
            f"{plan.research.name}: {what} x "
            f"{plan.research.repetitions} repetitions = {n_planned} runs, plan "
            f"{plan.digest[:12]}",
            *([f"chosen by {plan.search}"] if plan.search.selects else []),
            f"records: {parts} of {len(plan.corpus)} from {plan.corpus.source}",
            f"estimated time: {_duration(seconds)} with {n_workers} CPU workers of one core "
            f"(within a factor of about 2){early}",
        ]
    )


def _size(plan: StudyPlan) -> tuple[int, str]:
    """Return how many runs there are at most, and of what."""
    if not plan.search.is_sampled:
        return len(plan.runs), f"{len(plan.configs)} configurations"
    # At least one of the two is a number: a search without an end has been refused.
    trials = min(n for n in (plan.n_configs, plan.search.trials) if isinstance(n, int))
    what = f"{trials} of {plan.n_configs} configurations (examples above)"
    return trials * plan.research.repetitions, what


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
