"""What a study has left in the store: its design, its finished runs and their tables."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.artifacts import fetch_files, read_text, read_texts
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.ledger import (
    CORPUS_TAG,
    IDENTITY_TAG,
    LedgerEntry,
    find_finished,
    search_runs,
)
from ecg_mlflow.tracking.study_names import find_parent

REQUEST_TAG = "ecg_mlflow.request"
PLAN = "design/plan.json"
CONFIGURATION = "configuration.json"
#: Runs of other studies that a study has taken over: their ids by identity.
REUSED = "design/reused.json"


@dataclass(frozen=True)
class ChildRecord:
    """A finished run of a study.

    Attributes
    ----------
    run_id, name, identity
        The run, and what it has trained.
    study_id
        The study that has trained it; an earlier one, where its result was taken over.
    params, metrics
        As logged; of metrics the last values.
    datasets
        Digest of the records of each side: ``train``, ``test``, maybe ``validation``.
    configuration
        Its ``configuration.json``; empty where it has none.
    """

    run_id: str
    name: str
    identity: str
    study_id: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    datasets: Mapping[str, str]
    configuration: Mapping[str, Any]

    @property
    def options(self) -> Mapping[str, str]:
        """Its options by their aliases."""
        options: Mapping[str, str] = self.configuration.get("options", {})
        return options

    @property
    def config(self) -> int:
        """Index of its configuration in the study that has trained it; -1 if that is unknown."""
        return int(self.configuration.get("config", self.params.get("config", -1)))

    @property
    def repetition(self) -> int:
        """Which repetition it is, from 0."""
        return int(self.configuration.get("repetition", self.params.get("repetition", 0)))


@dataclass(frozen=True, eq=False)
class StudyRecord:
    """A study.

    Attributes
    ----------
    client
        The store.
    run_id, experiment_id, name
        Of its parent run.
    status
        ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
    tags, params
        Of its parent run.
    children
        Its finished runs, those taken over from other studies included, by configuration and
        repetition.
    """

    client: MlflowClient
    run_id: str
    experiment_id: str
    name: str
    status: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    children: tuple[ChildRecord, ...]

    @cached_property
    def plan(self) -> Mapping[str, Any]:
        """Its ``design/plan.json``, read when it is first asked for.

        Raises
        ------
        TrackingError
            If there is none, or the store fails.
        """
        text = read_text(self.client, self.run_id, PLAN)
        if text is None:
            raise TrackingError(
                f"study {self.name} ({self.run_id}) has no {PLAN}: it was deleted, or the study "
                "never began"
            )
        plan: Mapping[str, Any] = json.loads(text)
        return plan

    @property
    def request(self) -> Mapping[str, Any]:
        """What it was asked for."""
        request: Mapping[str, Any] = json.loads(self.tags.get(REQUEST_TAG, "{}"))
        return request

    def fetch_code(self, folder: Path) -> list[Path]:
        """Copy its grid file, and the files beside it that it imports, into a folder.

        Raises
        ------
        TrackingError
            If they can't be fetched.
        """
        return fetch_files(self.client, self.run_id, "design", ".py", folder)


def read_study(client: MlflowClient, name: str) -> StudyRecord:
    """Read a study.

    Parameters
    ----------
    client
        The store.
    name
        The parent run's id, six or more characters of its beginning, its name, or the name of the
        study.

    Raises
    ------
    TrackingError
        If there is no such study, or several; the message lists them. Or the store fails.
    """
    parent = find_parent(client, name)
    run_id = parent.info.run_id
    begun = begun_runs(client, parent)
    own = {key: run for key, run in begun.items() if LedgerEntry.from_run(run).is_finished}
    return StudyRecord(
        client,
        run_id,
        parent.info.experiment_id,
        str(parent.info.run_name),
        parent.info.status,
        dict(parent.data.tags),
        dict(parent.data.params),
        _records(client, [*own.values(), *taken_over(client, parent, own)]),
    )


def begun_runs(client: MlflowClient, parent: Run) -> dict[str, Run]:
    """Return a study's own runs by identity.

    Of several the oldest that has finished, which the study counts too, or else the last.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    run_id = parent.info.run_id
    with store_errors(f"read the runs of study {run_id}"):
        query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{run_id}'"
        runs = list(search_runs(client, [parent.info.experiment_id], query))
    found: dict[str, Run] = {}
    for run in sorted(runs, key=lambda one: one.info.start_time):
        entry = LedgerEntry.from_run(run)
        before = found.get(entry.identity)
        if not entry.identity:
            continue
        if before is None or not LedgerEntry.from_run(before).is_finished:
            found[entry.identity] = run
    return found


def taken_over(
    client: MlflowClient, parent: Run, own: Collection[str], begun: Collection[str] = ()
) -> list[Run]:
    """Return the runs of other studies whose results a study has taken over.

    A study says which they are. Where it doesn't, they are found as it has found them: by the
    identities of what it has planned.

    Parameters
    ----------
    client, parent
        The store, and the study's parent run.
    own
        Identities that the study has finished itself.
    begun
        Those that it has begun itself: not looked for where it doesn't say that it has taken them.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    parent_id = parent.info.run_id
    texts = read_texts(client, [(parent_id, REUSED), (parent_id, PLAN)])
    said = texts[parent_id, REUSED]
    if said is not None:
        run_ids = [run_id for identity, run_id in json.loads(said).items() if identity not in own]
    else:
        plan = json.loads(texts[parent_id, PLAN] or "{}")
        planned = [run["identity"] for run in plan.get("runs", ())]
        missing = [one for one in planned if one not in own and one not in begun]
        if not missing:
            return []
        stock = find_finished(client, parent.data.tags.get(CORPUS_TAG, ""))
        run_ids = [stock[identity].run_id for identity in missing if identity in stock]
    with store_errors(f"read the runs that study {parent_id} has taken over"):
        return [client.get_run(run_id) for run_id in run_ids]


def _records(client: MlflowClient, runs: Sequence[Run]) -> tuple[ChildRecord, ...]:
    wanted = [(run.info.run_id, CONFIGURATION) for run in runs]
    texts = read_texts(client, wanted)
    records = [_record(run, texts[key] or "{}") for run, key in zip(runs, wanted, strict=True)]
    return tuple(sorted(records, key=lambda one: (one.config, one.repetition)))


def _record(run: Run, configuration: str) -> ChildRecord:
    inputs = run.inputs.dataset_inputs if run.inputs else ()
    return ChildRecord(
        run.info.run_id,
        str(run.info.run_name),
        run.data.tags[IDENTITY_TAG],
        run.data.tags.get(MLFLOW_PARENT_RUN_ID, ""),
        dict(run.data.params),
        dict(run.data.metrics),
        {
            tag.value: one.dataset.digest
            for one in inputs
            for tag in one.tags
            if tag.key == MLFLOW_DATASET_CONTEXT
        },
        json.loads(configuration),
    )
