"""A run as the store has it: what its tags mean, and the rules that follow from them.

A run's identity is a hash of all that decides its training. Its tags hold what else is known of it:
whose child it is, how often it was begun, why it was given up. A driver needs nothing but the store
to resume where another one has died.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT, MLFLOW_PARENT_RUN_ID

from ecg_mlflow.tracking.runs import EndStatus

#: Hash of all that decides a run's training; on children.
IDENTITY_TAG = "ecg_mlflow.identity"
#: Version of the identities of a study's runs; on parents, and on those before version 2 none.
IDENTITY_VERSION_TAG = "ecg_mlflow.identity_version"
#: How often the run was begun or resumed; on children.
ATTEMPT_TAG = "ecg_mlflow.attempt"
#: Digest of the recordings; on parents and children.
CORPUS_TAG = "ecg_mlflow.corpus"
#: Digest of the planned runs; on parents, which are known by it.
PLAN_TAG = "ecg_mlflow.plan"
#: What the user asked for, as JSON; on parents.
REQUEST_TAG = "ecg_mlflow.request"
#: The run that took this one's place; on children that can't be resumed.
REPLACED_TAG = "ecg_mlflow.replaced"
#: Why others were preferred; on children that were stopped early for that.
PRUNED_TAG = "ecg_mlflow.pruned"
#: On children that failed because their processes died: they can be resumed.
DIED_TAG = "ecg_mlflow.died"
#: The run's process has logged everything; whoever opened the run may close it as finished.
COMPLETE_TAG = "ecg_mlflow.complete"

FINISHED = EndStatus.FINISHED.value
#: A run that was given up because others are better; MLflow calls it ``KILLED``.
PRUNED = "PRUNED"
STATUSES = (FINISHED, PRUNED, "RUNNING", EndStatus.FAILED.value, EndStatus.KILLED.value)


@dataclass(frozen=True)
class StoredRun:
    """A child run of a study.

    Attributes
    ----------
    run_id
        The run.
    status
        ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
    tags, params, metrics
        As logged; the last values of all metrics.
    name
        The run's name.
    ended_ms
        When it ended, in milliseconds since 1970; 0 where it has not.
    artifact_uri
        Where its artifacts are.
    datasets
        Digest of the records of each side: ``train``, ``test``, maybe ``validation``.
    configuration
        Its ``configuration.json``, or the plan's part of it; empty where it was not read.
    """

    run_id: str
    status: str
    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    name: str = ""
    ended_ms: int = 0
    artifact_uri: str = ""
    datasets: Mapping[str, str] = field(default_factory=dict)
    configuration: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_mlflow(cls, run: Run, **more: Any) -> Self:
        """Read a run; its configuration is an artifact, and is not read here."""
        inputs = run.inputs.dataset_inputs if run.inputs else ()
        return cls(
            run.info.run_id,
            run.info.status,
            dict(run.data.tags),
            dict(run.data.params),
            dict(run.data.metrics),
            str(run.info.run_name),
            run.info.end_time or 0,
            str(run.info.artifact_uri),
            {
                tag.value: one.dataset.digest
                for one in inputs
                for tag in one.tags
                if tag.key == MLFLOW_DATASET_CONTEXT
            },
            **more,
        )

    @property
    def identity(self) -> str:
        """What it trains; empty where the run is none of a study."""
        return self.tags.get(IDENTITY_TAG, "")

    @property
    def study_id(self) -> str:
        """The study that trains it: an earlier one, where its result was taken over."""
        return self.tags.get(MLFLOW_PARENT_RUN_ID, "")

    @property
    def attempt(self) -> int:
        """How often it was begun or resumed."""
        attempt = self.tags.get(ATTEMPT_TAG, "")
        return int(attempt) if attempt.isdecimal() else 1

    @property
    def is_complete(self) -> bool:
        """Whether its process has logged everything, and only the status is missing."""
        return COMPLETE_TAG in self.tags

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train or to log."""
        return self.status == FINISHED or self.is_complete

    @property
    def is_replaced(self) -> bool:
        """Whether another run has taken its place."""
        return REPLACED_TAG in self.tags

    @property
    def is_pruned(self) -> bool:
        """Whether it was given up because others were better: it is not resumed."""
        return PRUNED_TAG in self.tags

    @property
    def has_died(self) -> bool:
        """Whether it failed because processes died under it, not by an error of its own."""
        return DIED_TAG in self.tags

    @property
    def shown_status(self) -> str:
        """One of `STATUSES`, as results show it."""
        if self.is_finished:
            return FINISHED
        return PRUNED if self.is_pruned else self.status

    @property
    def options(self) -> Mapping[str, str]:
        """Its options by their aliases."""
        options: Mapping[str, str] = self.configuration.get("options", {})
        return options

    @property
    def config(self) -> int:
        """Index of its configuration; -1 if that is unknown."""
        return int(self.configuration.get("config", self.params.get("config", -1)))

    @property
    def repetition(self) -> int:
        """Which repetition it is, from 0."""
        return int(self.configuration.get("repetition", self.params.get("repetition", 0)))
