"""End the runs of studies whose driver has died; remove checkpoints that are not needed."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ecg_mlflow.files import checkpoint_root, discard_checkpoint
from ecg_mlflow.provenance import living_process
from ecg_mlflow.tracking.client import connect, store_errors
from ecg_mlflow.tracking.runs import EndStatus, end_run
from ecg_mlflow.tracking.stored_run import PLAN_TAG, StoredRun
from ecg_mlflow.tracking.stored_study import search_runs


def reap_all() -> str:
    """End the runs of dead studies, remove checkpoints that nobody needs; return what was done.

    This is ``ecg-mlflow reap``.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    client = connect(base_dir=Path.cwd())
    studies = reap(client)
    lines = [
        f"ended study {name}; go on with: ecg-mlflow run --resume {run_id}"
        for run_id, name in studies.items()
    ]
    removed = [path for path in checkpoint_root().glob("*.npz") if _is_over(client, path.stem)]
    for path in removed:
        discard_checkpoint(path.stem)
    if removed:
        lines.append(f"removed {len(removed)} checkpoints of runs that have ended")
    return "\n".join(lines) or "nothing to do: no study is without its driver"


def reap(client: MlflowClient, except_for: str | None = None) -> dict[str, str]:
    """End the runs of studies whose driver has died without ending them; they can be resumed.

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
        running = list(search_runs(client, None, "attributes.status = 'RUNNING'"))
    runs = [StoredRun.from_mlflow(run) for run in running]
    for parent in runs:
        if (
            PLAN_TAG not in parent.tags
            or parent.run_id == except_for
            or living_process(parent.tags)
        ):
            continue
        ended[parent.run_id] = parent.name
        reason = "its driver died; the study can be resumed"
        for run in runs:
            if run.study_id == parent.run_id:
                end_abandoned(client, run, reason)
        end_run(client, parent.run_id, EndStatus.KILLED, reason)
    return ended


def end_abandoned(client: MlflowClient, run: StoredRun, reason: str) -> None:
    """End a run whose process is gone: as finished if it had logged everything."""
    if run.is_complete:
        end_run(client, run.run_id, EndStatus.FINISHED, None)
    else:
        end_run(client, run.run_id, EndStatus.KILLED, reason)


def _is_over(client: MlflowClient, run_id: str) -> bool:
    """Say whether a run is in this store, and will not be resumed.

    The checkpoint may be of another store, and must stay then.
    """
    try:
        run = StoredRun.from_mlflow(client.get_run(run_id))
    except MlflowException:
        return False
    if run.status == EndStatus.FAILED:
        return not run.has_died
    if run.status == EndStatus.KILLED:
        return run.is_pruned
    return run.status == EndStatus.FINISHED
