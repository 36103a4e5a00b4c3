"""The ledger: what MLflow knows of a study's runs, and whose processes are still there.

A run's identity is a hash of all that decides its training. Whatever else is known of it (what it
has come to, who trains it, how often it was begun) stands in the run itself, as tags, so that a
driver needs nothing but the store to go on where another one has died.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ecg_mlflow.provenance import HEARTBEAT_TAG, ProcessMark, seconds_since
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.run_log import COMPLETE_TAG
from ecg_mlflow.tracking.runs import EndStatus, end_run

#: Hash of all that decides a run's training; on children.
IDENTITY_TAG = "ecg_mlflow.identity"
#: How often the run was begun or gone on with; on children.
ATTEMPT_TAG = "ecg_mlflow.attempt"
#: Digest of the recordings; on parents and children.
CORPUS_TAG = "ecg_mlflow.corpus"
#: Digest of the planned runs; on parents, which are known by it.
PLAN_TAG = "ecg_mlflow.plan"
#: The run that took this one's place; on children that can't go on.
REPLACED_TAG = "ecg_mlflow.replaced"
#: Why others were preferred; on children that were stopped early for that.
PRUNED_TAG = "ecg_mlflow.pruned"
#: On children that failed because their processes died: they can go on where they were.
DIED_TAG = "ecg_mlflow.died"

_PAGE = 1000


@dataclass(frozen=True)
class LedgerEntry:
    """One child run as the store has it.

    Attributes
    ----------
    run_id, identity, parent_id
        The run, what it trains, and its study.
    status
        ``RUNNING``, ``FINISHED``, ``FAILED`` or ``KILLED``.
    attempt
        How often it was begun or gone on with.
    is_complete
        Its process has logged everything: only the status is missing.
    is_replaced
        Another run stands in its place.
    has_died
        It failed because processes died under it, not by an error of its own.
    metrics
        The last values of all its metrics.
    is_pruned
        Others were better at its age: it is not gone on with.
    ended_ms
        When it ended, in milliseconds since 1970; 0 where it has not.
    tags
        All its tags.
    """

    run_id: str
    identity: str
    parent_id: str
    status: str
    attempt: int
    is_complete: bool
    is_replaced: bool
    has_died: bool
    metrics: Mapping[str, float]
    is_pruned: bool = False
    ended_ms: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_run(cls, run: Run) -> LedgerEntry:
        """Read a run."""
        tags = run.data.tags
        attempt = tags.get(ATTEMPT_TAG, "")
        return cls(
            run.info.run_id,
            tags.get(IDENTITY_TAG, ""),
            tags.get(MLFLOW_PARENT_RUN_ID, ""),
            run.info.status,
            int(attempt) if attempt.isdecimal() else 1,
            COMPLETE_TAG in tags,
            REPLACED_TAG in tags,
            DIED_TAG in tags,
            dict(run.data.metrics),
            PRUNED_TAG in tags,
            run.info.end_time or 0,
            tags,
        )

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to train or to log."""
        return self.status == EndStatus.FINISHED or self.is_complete


def read_children(client: MlflowClient, experiment_id: str, parent_id: str) -> list[LedgerEntry]:
    """Return the children of a study that carry an identity, the oldest first.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'"
    with store_errors(f"read the runs of study {parent_id}"):
        runs = list(search_runs(client, [experiment_id], query))
    runs.sort(key=lambda run: run.info.start_time)
    return [LedgerEntry.from_run(run) for run in runs if IDENTITY_TAG in run.data.tags]


def find_finished(client: MlflowClient, corpus: str) -> dict[str, LedgerEntry]:
    """Return all finished runs on a corpus, of any study in the store, by identity.

    Of several with one identity the first counts.

    Parameters
    ----------
    client
        The store.
    corpus
        Value of `CORPUS_TAG`.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    query = f"attributes.status = 'FINISHED' AND tags.`{CORPUS_TAG}` = '{corpus}'"
    with store_errors("look for finished runs of earlier studies"):
        runs = list(search_runs(client, all_experiments(client), query))
    runs.sort(key=lambda run: -run.info.start_time)
    entries = [LedgerEntry.from_run(run) for run in runs if IDENTITY_TAG in run.data.tags]
    return {entry.identity: entry for entry in entries}


def living_process(tags: Mapping[str, str]) -> ProcessMark | None:
    """Return the process that a run's tags tell of, if it still lives."""
    mark = ProcessMark.from_tags(tags)
    if mark is None:
        return None
    return mark if mark.is_alive(seconds_since(tags.get(HEARTBEAT_TAG, ""))) else None


def reap(client: MlflowClient, except_for: str | None = None) -> dict[str, str]:
    """End the runs of studies whose driver has died without a word; they can be resumed.

    Parameters
    ----------
    client
        The store.
    except_for
        A study that is about to be resumed, and is left as it is.

    Returns
    -------
    The studies' names by the ids of their parent runs.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    ended = {}
    with store_errors("look for studies that have died"):
        experiments = all_experiments(client)
        running = list(search_runs(client, experiments, "attributes.status = 'RUNNING'"))
    parents = {run.info.run_id: run for run in running if PLAN_TAG in run.data.tags}
    for parent_id, parent in parents.items():
        if parent_id == except_for or living_process(parent.data.tags):
            continue
        ended[parent_id] = str(parent.info.run_name)
        reason = "its driver died; the study can be resumed"
        for run in running:
            if run.data.tags.get(MLFLOW_PARENT_RUN_ID) == parent_id:
                end_abandoned(client, LedgerEntry.from_run(run), reason)
        end_run(client, parent_id, EndStatus.KILLED, reason)
    return ended


def end_abandoned(client: MlflowClient, entry: LedgerEntry, reason: str) -> None:
    """End a run whose process is gone: as finished if it had logged everything."""
    if entry.is_complete:
        end_run(client, entry.run_id, EndStatus.FINISHED, None)
    else:
        end_run(client, entry.run_id, EndStatus.KILLED, reason)


def all_experiments(client: MlflowClient) -> list[str]:
    """Return the ids of all experiments that are not deleted."""
    found, token = [], None
    while True:
        page = client.search_experiments(max_results=_PAGE, page_token=token)
        found += [experiment.experiment_id for experiment in page]
        token = page.token
        if not token:
            return found


def search_runs(client: MlflowClient, experiments: list[str], query: str) -> Iterator[Run]:
    """Yield all runs that a query finds, page by page."""
    token = None
    while True:
        page = client.search_runs(experiments, query, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return
