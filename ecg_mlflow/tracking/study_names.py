"""Find a study by what people call it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.ledger import PLAN_TAG, all_experiments, search_runs

#: As much of a run's id as names a study.
LEAST_ID = 6
#: Studies that a message lists.
LISTED = 20


def find_parent(client: MlflowClient, name: str) -> Run:
    """Find the parent run of a study.

    Parameters
    ----------
    client
        The store.
    name
        Its id, six or more characters of the id's beginning, its name, or the name of the study.

    Raises
    ------
    TrackingError
        If there is no such study, or several; the message lists them. Or the store fails.
    """
    with store_errors(f"look for the study {name!r}", "Is MLFLOW_TRACKING_URI its store?"):
        query = f"tags.`{PLAN_TAG}` != ''"
        studies = list(search_runs(client, all_experiments(client), query))
    studies.sort(key=lambda run: -run.info.start_time)
    found = [run for run in studies if run.info.run_id == name]
    found = found or [run for run in studies if _answers_to(run, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TrackingError(
            f"{len(found)} studies are called {name!r}; give the id of one:\n{_listed(found)}"
        )
    if not studies:
        raise TrackingError(
            f"there is no study {name!r}, nor any other one in this store; is MLFLOW_TRACKING_URI "
            "right?"
        )
    raise TrackingError(
        f"there is no study {name!r}{_what_else(client, name)}: give a parent run's id, {LEAST_ID} "
        f"or more characters of its beginning, or the name of a study. There are:\n"
        f"{_listed(studies)}"
    )


def _answers_to(run: Run, name: str) -> bool:
    is_prefix = re.fullmatch(rf"[0-9a-f]{{{LEAST_ID},}}", name) is not None
    return name in (run.info.run_name, run.data.params.get("study")) or (
        is_prefix and run.info.run_id.startswith(name)
    )


def _what_else(client: MlflowClient, name: str) -> str:
    """Say whose child it is, where the id is that of one."""
    if not re.fullmatch(r"[0-9a-f]{32}", name):
        return ""
    with store_errors(f"look for the run {name}"):
        runs = list(search_runs(client, all_experiments(client), f"attributes.run_id = '{name}'"))
    parents = [run.data.tags.get(MLFLOW_PARENT_RUN_ID) for run in runs]
    return f", {name} is a run of study {parents[0]}" if parents and parents[0] else ""


def _listed(studies: Sequence[Run]) -> str:
    lines = []
    for run in studies[:LISTED]:
        began = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
        lines.append(
            f"  {run.info.run_id}  {began:%Y-%m-%d %H:%M} UTC  {run.info.status:8}  "
            f"{run.info.run_name}"
        )
    if len(studies) > LISTED:
        lines.append(f"  ... and {len(studies) - LISTED} more")
    return "\n".join(lines)
