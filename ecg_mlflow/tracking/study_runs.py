"""All runs of a study, however they have ended."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ecg_mlflow.tracking.artifacts import read_text, read_texts
from ecg_mlflow.tracking.ledger import IDENTITY_TAG, LedgerEntry
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.stored_study import CONFIGURATION, PLAN, begun_runs, taken_over
from ecg_mlflow.tracking.study_names import find_parent

#: A run that a pruner has given up; MLflow calls it ``KILLED``.
PRUNED = "PRUNED"
FINISHED = EndStatus.FINISHED.value
STATUSES = (FINISHED, PRUNED, "RUNNING", EndStatus.FAILED.value, EndStatus.KILLED.value)


@dataclass(frozen=True)
class StudyRun:
    """A run of a study.

    Attributes
    ----------
    run_id, status
        The run, and one of `STATUSES`.
    options
        By their aliases.
    config, repetition
        The index of its configuration in this study, and which repetition it is, from 0.
    metrics
        The last values.
    place
        Where its artifacts are.
    """

    run_id: str
    status: str
    options: Mapping[str, str]
    config: int
    repetition: int
    metrics: Mapping[str, float]
    place: str


@dataclass(frozen=True)
class StudyRuns:
    """The runs of a study.

    Attributes
    ----------
    name, run_id
        Of the parent run.
    planned
        The options of all configurations that were planned, in the grid's order; empty where a
        sampler chooses them.
    runs
        By configuration and repetition, one of each: of several that were begun the finished one,
        or the last.
    """

    name: str
    run_id: str
    planned: tuple[Mapping[str, str], ...]
    runs: tuple[StudyRun, ...]


def read_study_runs(client: MlflowClient, name: str) -> StudyRuns:
    """Read what a study has run or taken over from other studies.

    Parameters
    ----------
    client
        The store.
    name
        As of `ecg_mlflow.tracking.study_names.find_parent`.

    Raises
    ------
    TrackingError
        If there is no such study, or several; the message lists them. Or the store fails.
    """
    parent = find_parent(client, name)
    run_id = parent.info.run_id
    own = begun_runs(client, parent)
    finished = [identity for identity, run in own.items() if LedgerEntry.from_run(run).is_finished]
    others = taken_over(client, parent, finished, begun=own)
    found = {**own, **{run.data.tags[IDENTITY_TAG]: run for run in others}}
    plan = json.loads(read_text(client, run_id, PLAN) or "{}")
    runs = _study_runs(client, list(found.values()), plan.get("runs", ()), run_id)
    return StudyRuns(
        str(parent.info.run_name),
        run_id,
        tuple(run["config"] for run in plan.get("runs", ())),
        tuple(sorted(runs, key=lambda run: (run.config, run.repetition))),
    )


def _study_runs(
    client: MlflowClient, runs: Sequence[Run], planned: Sequence[Mapping[str, Any]], study_id: str
) -> list[StudyRun]:
    """Give each run its options: the plan's, or those of its own configuration."""
    known = {
        run["identity"]: {
            "options": run["config"],
            "config": int(run["key"].partition("-")[0]),
            "repetition": run["repetition"],
        }
        for run in planned
    }
    unknown = [run for run in runs if run.data.tags[IDENTITY_TAG] not in known]
    texts = read_texts(client, [(run.info.run_id, CONFIGURATION) for run in unknown])
    for run in unknown:
        text = texts[run.info.run_id, CONFIGURATION]
        params = {name: run.data.params.get(name, 0) for name in ("config", "repetition")}
        known[run.data.tags[IDENTITY_TAG]] = {"options": {}, **params, **json.loads(text or "{}")}
        # The index of another study's grid is none of this one's.
        if run.data.tags.get(MLFLOW_PARENT_RUN_ID) != study_id:
            known[run.data.tags[IDENTITY_TAG]]["config"] = None
    indices = {
        _key(one["options"]): int(one["config"])
        for one in known.values()
        if one["config"] is not None
    }
    found = []
    for run in runs:
        one = known[run.data.tags[IDENTITY_TAG]]
        config = indices.setdefault(_key(one["options"]), max(indices.values(), default=-1) + 1)
        entry = LedgerEntry.from_run(run)
        status = PRUNED if entry.is_pruned else entry.status
        found.append(
            StudyRun(
                run.info.run_id,
                FINISHED if entry.is_finished else status,
                one["options"],
                config,
                int(one["repetition"]),
                dict(run.data.metrics),
                run.info.artifact_uri,
            )
        )
    return found


def _key(options: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(options.items()))
