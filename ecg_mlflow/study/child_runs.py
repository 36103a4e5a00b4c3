"""Open the child runs of a study, describe them to workers, and end them early."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ecg_mlflow.errors import CheckpointError, RunGoneError
from ecg_mlflow.files import checkpoint_path, discard_checkpoint
from ecg_mlflow.study import descriptions
from ecg_mlflow.study.jobs import RunJob
from ecg_mlflow.study.plan import PlannedRun, StudyPlan
from ecg_mlflow.study.search_history import TrialEnd
from ecg_mlflow.tracking.dataset_inputs import DatasetInfo, log_datasets
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.runs import EndStatus
from ecg_mlflow.tracking.stored_run import ATTEMPT_TAG, CORPUS_TAG, IDENTITY_TAG, PRUNED_TAG
from ecg_mlflow.tracking.study_run import CONFIGURATION_TAG, Study
from ecg_mlflow.training.checkpoint import load_checkpoint


@dataclass
class OpenRun:
    """A planned run that has not ended yet, and what has happened to it.

    Attributes
    ----------
    run
        The plan of it.
    run_id
        The child run; empty until it is opened.
    attempt
        How often it was started or continued.
    saved
        The iteration of its last checkpoint that this driver has heard of.
    deaths
        How often processes died under it since it has last got further.
    alone
        It is to be tried without others in its process.
    exclusive
        ... and without other processes on its device: memory may have been at its end.
    is_open
        This driver has created the child run, or continues it.
    is_trained
        It has finished, and its test records are to be scored.
    pruned
        Why others are preferred, once its process was told to give it up.
    """

    run: PlannedRun
    run_id: str = ""
    attempt: int = 0
    saved: int = 0
    deaths: int = 0
    alone: bool = False
    exclusive: bool = False
    is_open: bool = False
    is_trained: bool = False
    pruned: str | None = None


class ChildRuns:
    """The child runs of a study.

    Parameters
    ----------
    plan, study
        The study and its parent run.
    """

    def __init__(self, plan: StudyPlan, study: Study) -> None:
        self._plan = plan
        self._study = study
        self._datasets: dict[int, dict[str, DatasetInfo]] = {}

    def open(self, one: OpenRun, trial_tags: Mapping[str, str]) -> None:
        """Create the child run, or reopen the one that was created before."""
        run, study = one.run, self._study
        one.attempt += 1
        tags = {ATTEMPT_TAG: one.attempt, **trial_tags}
        if one.run_id:
            study.tag_child(one.run_id, tags)
            if one.is_open:
                return
            study.reopen_child(one.run_id, descriptions.run_params(run))
        else:
            tags |= {
                IDENTITY_TAG: run.identity,
                CORPUS_TAG: self._plan.corpus.digest[:16],
                CONFIGURATION_TAG: descriptions.configuration_name(run),
            }
            one.run_id = study.create_child(
                descriptions.run_name(run), descriptions.run_params(run), tags
            )
        one.is_open = True
        # Again for a resumed run: its first driver may have died before it came here.
        # Here and not in the workers, which would race for the first entry in MLflow's table.
        log_datasets(study.client, one.run_id, self._describe_data(run))
        text = json.dumps(descriptions.full_configuration(run), indent=2)
        study.client.log_text(one.run_id, text, "configuration.json")

    def _describe_data(self, run: PlannedRun) -> dict[str, DatasetInfo]:
        index = run.config.index
        if index not in self._datasets:  # the repetitions of a configuration share them
            self._datasets[index] = descriptions.dataset_infos(self._plan.corpus, run.config)
        return self._datasets[index]

    def job(self, one: OpenRun) -> RunJob:
        """Return what a worker needs to know of a run."""
        datasets, scores_test = self._describe_data(one.run), not self._plan.holds_test_back
        return RunJob(one.run, one.run_id, datasets, scores_test)

    def store_end(self, run_ids: Iterable[str], end: TrialEnd) -> None:
        """Store how a trial has ended, in the first of its children that is not gone."""
        for run_id in run_ids:
            with suppress(RunGoneError):
                self._study.tag_child(run_id, end.tags())
                return

    def end_pruned(self, run_id: str, reason: str) -> None:
        """End a run that is given up, with all that it has logged.

        A reason that is in the store already is kept: it is the first one.
        """
        reason = self._study.client.get_run(run_id).data.tags.get(PRUNED_TAG, reason)
        self._study.tag_child(run_id, {PRUNED_TAG: reason})
        self.deliver_rest(run_id)
        self._study.finish_child(run_id, EndStatus.KILLED, reason)
        discard_checkpoint(run_id)

    def deliver_rest(self, run_id: str) -> None:
        """Log what the last checkpoint of a run holds and its processes could not deliver."""
        try:
            checkpoint = load_checkpoint(checkpoint_path(run_id))
        except CheckpointError:
            return
        if checkpoint is not None:
            pending, retry = checkpoint.state["pending"], self._study.retry
            with RunLog(self._study.client, run_id, pending=pending, retry=retry) as log:
                log.flush()
