"""``ecg-mlflow reap``: put a store and the checkpoint folder in order after deaths."""

from __future__ import annotations

from pathlib import Path

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ecg_mlflow.files import checkpoint_root, discard_checkpoint
from ecg_mlflow.tracking import EndStatus, connect
from ecg_mlflow.tracking.ledger import reap


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
    removed = [path for path in checkpoint_root().glob("*.npz") if _is_finished(client, path.stem)]
    for path in removed:
        discard_checkpoint(path.stem)
    if removed:
        lines.append(f"removed {len(removed)} checkpoints of finished runs")
    return "\n".join(lines) or "nothing to do: no study is without its driver"


def _is_finished(client: MlflowClient, run_id: str) -> bool:
    """Say whether a run is in this store and finished; the checkpoint may be of another store."""
    try:
        return bool(client.get_run(run_id).info.status == EndStatus.FINISHED)
    except MlflowException:
        return False
