"""Where a search is written down: beside the store, and in the study's parent run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from ecg_mlflow.files import cache_root, scratch_folder, write_whole
from ecg_mlflow.tracking.client import environment, local_folder, store_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient

#: Folder of the parent run's artifacts.
ARTIFACTS = "search"
#: Seconds between two copies into the parent run: it grows, and a copy is always whole.
COPY_S = 30.0


def journal_path(client: MlflowClient, run_id: str) -> Path:
    """Return where the journal of a study's search is on this machine.

    Beside a store that is a file; in the cache where the store is a server.
    """
    folder = local_folder(client.tracking_uri)
    return (folder or cache_root()) / "searches" / f"{run_id}.journal"


def fetch_journal(client: MlflowClient, run_id: str, path: Path) -> None:
    """Copy the journal from the parent run, if it has one and this machine has not.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    if path.exists():
        return
    with store_errors(f"look for the search's journal in run {run_id}"):
        names = [item.path for item in client.list_artifacts(run_id, ARTIFACTS)]
        if f"{ARTIFACTS}/{path.name}" not in names:
            return
        with (
            scratch_folder(path.parent, path.name) as folder,
            environment(MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false"),
        ):
            copy = client.download_artifacts(run_id, f"{ARTIFACTS}/{path.name}", str(folder))
            write_whole(path, Path(copy).read_bytes())


class JournalCopy:
    """Keeps the parent run's copy of the journal up to date.

    Parameters
    ----------
    client, run_id
        The parent run.
    path
        The journal.
    """

    def __init__(self, client: MlflowClient, run_id: str, path: Path) -> None:
        self._client = client
        self._run_id = run_id
        self._path = path
        self._copied = 0
        self._copied_s = -COPY_S

    def update(self, *, now: bool = False) -> None:
        """Copy it if it has grown; no more often than every half minute, unless `now`.

        Raises
        ------
        TrackingError
            If the store fails.
        """
        if not self._path.exists() or self._path.stat().st_size == self._copied:
            return
        if not now and time.monotonic() - self._copied_s < COPY_S:
            return
        size = self._path.stat().st_size
        with store_errors(f"copy the search's journal into run {self._run_id}"):
            self._client.log_artifact(self._run_id, str(self._path), ARTIFACTS)
        self._copied, self._copied_s = size, time.monotonic()
