"""Resume a study: what is done about each planned run, and what is left by dead drivers.

`KnownRuns.decide` is the whole table: a finished run is skipped, an interrupted one continued, a
failed one left or tried again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from pathlib import Path

from mlflow import MlflowClient

from ecg_mlflow.errors import ResumeError, TrackingError
from ecg_mlflow.files import checkpoint_root, discard_checkpoint
from ecg_mlflow.grids.canonical import VERSION
from ecg_mlflow.provenance import VERSIONS_TAG, ProcessMark, living_process
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.request import DESIGN, StudyRequest
from ecg_mlflow.study.search_history import SearchHistory, read_history
from ecg_mlflow.tracking.artifacts import parse_json
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.retry import store_errors
from ecg_mlflow.tracking.runs import EndStatus, end_run
from ecg_mlflow.tracking.stored_run import IDENTITY_VERSION_TAG, PLAN_TAG, REQUEST_TAG, StoredRun
from ecg_mlflow.tracking.stored_study import read_study, search_runs


class ResumeAction(Enum):
    """What to do about a planned run, in the words in which it is summarized."""

    SKIP = "finished"
    """It is finished."""
    REUSE = "taken over from other studies"
    """A run of an earlier study is finished and has the same identity."""
    CONTINUE = "to go on with"
    """A run was interrupted, or its processes died: the same child run continues."""
    LEAVE = "failed and left so"
    """It failed, and is not to be tried again."""
    PRUNED = "pruned"
    """It was given up because others were better, and is not resumed."""
    START = "to begin"
    """Nothing is there: a new child run."""
    REPLACE = "to begin anew"
    """A run failed by an error of its own, and is to be tried again: a new child run."""


@dataclass(frozen=True)
class RunDecision:
    """A planned run, what is to be done about it, and the stored run that says so."""

    run: PlannedRun
    action: ResumeAction
    stored: StoredRun | None = None


class KnownRuns:
    """What the store has of a study, to decide by what is done about each planned run.

    Parameters
    ----------
    runs
        The study's children so far, the oldest first.
    reusable
        Finished runs of other studies, by identity.
    retry_failed
        Try failed runs again.
    """

    def __init__(
        self,
        runs: Iterable[StoredRun] = (),
        reusable: Mapping[str, StoredRun] | None = None,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.runs = list(runs)
        self._reusable = reusable or {}
        self._retry_failed = retry_failed
        self._by_identity: dict[str, list[StoredRun]] = {}
        for run in self.runs:
            self._by_identity.setdefault(run.identity, []).append(run)

    @cached_property
    def history(self) -> SearchHistory:
        """The trials of earlier sessions, if the study is a search."""
        return read_history(self.runs)

    @property
    def identities(self) -> set[str]:
        """What the study's children so far have trained."""
        return set(self._by_identity)

    def decide(self, run: PlannedRun) -> RunDecision:
        """Decide what is to be done about a planned run: this is the whole table."""
        stored = self._by_identity.get(run.identity, [])
        reusable = self._reusable.get(run.identity)
        for one in stored:
            if one.is_finished:
                return RunDecision(run, ResumeAction.SKIP, one)
        newest = next((one for one in reversed(stored) if not one.is_replaced), None)
        if newest is not None and newest.is_pruned:
            return RunDecision(run, ResumeAction.PRUNED, newest)
        if reusable is not None:
            return RunDecision(run, ResumeAction.REUSE, reusable)
        if newest is None:
            return RunDecision(run, ResumeAction.START)
        if newest.status != EndStatus.FAILED:
            return RunDecision(run, ResumeAction.CONTINUE, newest)
        if not self._retry_failed:
            return RunDecision(run, ResumeAction.LEAVE, newest)
        action = ResumeAction.CONTINUE if newest.has_died else ResumeAction.REPLACE
        return RunDecision(run, action, newest)


def summary(decisions: Sequence[RunDecision]) -> str | None:
    """Summarize in a line what was found of a study; None if nothing was."""
    n = Counter(decision.action for decision in decisions)
    if n[ResumeAction.START] == len(decisions):
        return None
    found = ", ".join(f"{n[action]} {action.value}" for action in ResumeAction if n[action])
    return f"of {len(decisions)} runs: {found}"


def superfluous(decisions: Sequence[RunDecision], runs: Iterable[StoredRun]) -> list[StoredRun]:
    """List the runs that look alive and that no planned run continues.

    They are of configurations that are no longer planned, or a second one of an identity that is
    finished or continues in another run.
    """
    kept_by = (ResumeAction.CONTINUE, ResumeAction.PRUNED)
    kept = {one.stored.run_id for one in decisions if one.stored and one.action in kept_by}
    return [run for run in runs if run.status == "RUNNING" and run.run_id not in kept]


# --- The study to resume --------------------------------------------------------------------------


def resumed(
    client: MlflowClient, request: StudyRequest, project_run: str | None
) -> tuple[str | None, StudyRequest]:
    """Find the study to resume, if any, and complete the request by what it was started with.

    It is the one that was asked for, by its id or name, or the one that ``mlflow run --run-id`` was
    given.

    Returns
    -------
    The parent run to work in, None for a new one; and the request.

    Raises
    ------
    ResumeError
        If that run is no study's parent run, or was begun with identities of another version.
    TrackingError
        If the store has no such run, or fails.
    """
    run_id = project_run
    if request.resume is not None:
        is_id = re.fullmatch(r"[0-9a-f]{32}", request.resume)
        run_id = request.resume if is_id else read_study(client, request.resume).run_id
    if run_id is None:
        return None, request
    with store_errors(f"find the study {run_id}", "Is MLFLOW_TRACKING_URI its store?"):
        tags = client.get_run(run_id).data.tags
    if PLAN_TAG not in tags:
        if request.resume is not None:
            raise ResumeError(
                f"run {run_id} is no study of ecg_mlflow; resume takes the id of a parent run, "
                "which the study prints when it starts and the MLflow UI shows"
            )
        return run_id, request
    _check_version(run_id, tags)
    process = living_process(tags)
    if process is not None and process != ProcessMark.own():
        raise ResumeError(
            f"study {run_id} is being run by {process}; end that first. If that process is on "
            "another machine and has died, this is known three minutes after its last sign of life"
        )
    before = parse_json(tags.get(REQUEST_TAG), f"the tag {REQUEST_TAG} of study {run_id}")
    missing = {name for name in DESIGN if getattr(request, name) in (None, "")}
    return run_id, replace(request, **{name: before[name] for name in missing & before.keys()})


# --- Studies whose driver has died ----------------------------------------------------------------


def _check_version(run_id: str, tags: Mapping[str, str]) -> None:
    """Refuse a study whose runs have identities of another version."""
    made = tags.get(IDENTITY_VERSION_TAG, "1")  # versions before 2 did not say so
    if made == str(VERSION):
        return
    # The first of the versions is another package's where ours ran from a folder.
    first = tags.get(VERSIONS_TAG, "").partition(",")[0]
    by = first if first.startswith("ecg_mlflow ") else "an unknown version of ecg_mlflow"
    raise ResumeError(
        f"study {run_id} can't be resumed: it was begun by {by} with run identities of version "
        f"{made}, and this ecg_mlflow makes those of version {VERSION}. What decides a training is "
        "hashed otherwise in them, so that no run of the study can be found again. All of it can "
        "still be read, compared and promoted as it is. To train what is missing, run the grid "
        "file anew, without resume"
    )


def reap_dead_studies(client: MlflowClient, run_id: str | None = None) -> list[str]:
    """End the runs of studies whose driver has died without ending them; they can be resumed.

    So end other runs of ours whose process on this machine has died, such as the run that ``mlflow
    run`` has made for a resumed study or a promotion, and that of a script with autolog.

    Parameters
    ----------
    client
        The store.
    run_id
        A study that is about to be resumed, and is left as it is.

    Returns
    -------
    For each study a line that says how to resume it, and one for each of the other runs.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    with store_errors("look for studies that have died"):
        running = list(search_runs(client, None, "attributes.status = 'RUNNING'"))
    runs = [StoredRun.from_mlflow(run) for run in running]
    studies = [run for run in runs if PLAN_TAG in run.tags]
    said = []
    for parent in studies:
        if parent.run_id == run_id or living_process(parent.tags):
            continue
        reason = "its driver died; the study can be resumed"
        for run in runs:
            if run.study_id == parent.run_id:
                end_abandoned(client, run, reason)
        end_run(client, parent.run_id, EndStatus.KILLED, reason)
        said.append(
            f"ended study {parent.name}, whose driver had died; go on with: "
            f"ecg-mlflow run --resume {parent.run_id}"
        )
    own = {study.run_id for study in studies}
    for run in runs:
        # Of processes on other machines only studies give signs of life all the time.
        mark = ProcessMark.from_tags(run.tags)
        if mark and not mark.is_alive(silent_s=0) and not {run.run_id, run.study_id} & own:
            end_abandoned(client, run, "its process died")
            said.append(f"ended run {run.name}, whose process had died")
    return said


def reap_all() -> str:
    """End the runs of dead studies, remove checkpoints that nobody needs; return what was done.

    This is ``ecg-mlflow reap``.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    client = connect(base_dir=Path.cwd())
    said = reap_dead_studies(client)
    removed = [path for path in checkpoint_root().glob("*.npz") if _is_over(client, path.stem)]
    for path in removed:
        discard_checkpoint(path.stem)
    if removed:
        said.append(f"removed {len(removed)} checkpoints of runs that have ended")
    return "\n".join(said) or "nothing to do: no study is without its driver"


def end_abandoned(client: MlflowClient, run: StoredRun, reason: str) -> None:
    """End a run whose process is gone: as finished if it had logged everything."""
    end = (EndStatus.FINISHED, None) if run.is_complete else (EndStatus.KILLED, reason)
    end_run(client, run.run_id, *end)


def _is_over(client: MlflowClient, run_id: str) -> bool:
    """Say whether a run is in this store, and will not be resumed.

    The checkpoint may be of another store, and must stay then.
    """
    try:
        run = StoredRun.from_mlflow(client.get_run(run_id))
    except TrackingError:
        return False
    if run.status == EndStatus.FAILED:
        return not run.has_died
    is_pruned = run.status == EndStatus.KILLED and run.is_pruned
    return run.status == EndStatus.FINISHED or is_pruned
