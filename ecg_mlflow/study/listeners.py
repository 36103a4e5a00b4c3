"""The events of a study's runs, for all that count or show them."""

from __future__ import annotations

from collections.abc import Mapping

from ecg_mlflow.study.jobs import RunReport
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.resume import RunDecision


class StudyListener:
    """Called by the dispatcher for each event; a method that isn't overridden ignores it."""

    def known(self, decision: RunDecision) -> None:
        """Note a run that had ended before this session."""

    def handed_out(self, run: PlannedRun) -> None:
        """Note that a run was handed to a worker."""

    def reported(self, run: PlannedRun, report: RunReport) -> None:
        """Note a worker's report of a run, except its last one."""

    def finished(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Note a run that has finished, and its final metrics."""

    def failed(self, run: PlannedRun, reason: str) -> None:
        """Note a run that has failed for good."""

    def pruned(self, run: PlannedRun, reason: str) -> None:
        """Note a run that was given up because others are better."""

    def scored(self, run: PlannedRun, metrics: Mapping[str, float]) -> None:
        """Note what a finished run has reached on the test records."""

    def refresh(self) -> None:
        """Bring up to date what is shown; called about once a second."""
