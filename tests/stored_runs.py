"""Runs as the store has them, without a store; and tables that runs have logged."""

from __future__ import annotations

from pathlib import Path

from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ecg_mlflow.tracking.artifacts import parse_table
from ecg_mlflow.tracking.stored_run import (
    ATTEMPT_TAG,
    COMPLETE_TAG,
    DIED_TAG,
    IDENTITY_TAG,
    PRUNED_TAG,
    REPLACED_TAG,
    StoredRun,
)


def stored_run(
    run_id,
    status="FINISHED",
    *,
    identity="a",
    study_id="study",
    attempt=1,
    is_complete=False,
    is_replaced=False,
    has_died=False,
    is_pruned=False,
    tags=(),
    **more,
):
    """Return a run with the tags that say all this of it."""
    flags = {
        COMPLETE_TAG: is_complete,
        REPLACED_TAG: is_replaced,
        DIED_TAG: has_died,
        PRUNED_TAG: is_pruned,
    }
    all_tags = {
        IDENTITY_TAG: identity,
        MLFLOW_PARENT_RUN_ID: study_id,
        ATTEMPT_TAG: str(attempt),
        **{tag: "yes" for tag, is_set in flags.items() if is_set},
        **dict(tags),
    }
    return StoredRun(run_id, status, all_tags, **more)


def read_table(client, run_id, path):
    """Read a CSV artifact of a run."""
    return parse_table(Path(client.download_artifacts(run_id, path)).read_bytes(), path)
