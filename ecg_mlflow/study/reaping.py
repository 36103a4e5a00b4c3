"""``ecg-mlflow reap``: put a store and the checkpoint folder in order after deaths."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ecg_mlflow.files import checkpoint_root, discard_checkpoint
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.ledger import DIED_TAG, PRUNED_TAG, reap
from ecg_mlflow.tracking.runs import EndStatus


def reap_all() -> str:
    """End the runs of dead studies, remove checkpoints that nobody needs; return what was done.

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


def _is_over(client: MlflowClient, run_id: str) -> bool:
    """Say whether a run is in this store, and will not be gone on with.

    The checkpoint may be of another store, and must stay then.
    """
    try:
        run = client.get_run(run_id)
    except MlflowException:
        return False
    if run.info.status == EndStatus.FAILED:
        return DIED_TAG not in run.data.tags
    if run.info.status == EndStatus.KILLED:
        return PRUNED_TAG in run.data.tags
    return bool(run.info.status == EndStatus.FINISHED)
