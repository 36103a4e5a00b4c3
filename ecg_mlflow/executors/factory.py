"""Make the executor of a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ecg_mlflow.executors.base import ExecutorError
from ecg_mlflow.executors.devices import RayShare, Slot
from ecg_mlflow.executors.pool import Executor
from ecg_mlflow.executors.processes import ProcessExecutor
from ecg_mlflow.executors.thread import InProcessExecutor


def make_executor(
    function: str,
    where: Sequence[Slot] | RayShare,
    *,
    corpus: Path | None = None,
    hang_s: float | None = None,
) -> Executor:
    """Make the executor for slots on this machine, for this process, or for a cluster.

    Parameters
    ----------
    function
        The job function's import path.
    where
        Slots (an empty list for this process), or a share of a Ray cluster.
    corpus
        The packed corpus that jobs need: a folder in the cache, named by the hash of its content,
        which is copied to cluster nodes that lack it.
    hang_s
        Seconds without a sign of life after which a worker counts as hung.

    Raises
    ------
    ExecutorError
        If a cluster is asked for, and the package `ray` is not installed.
    """
    if isinstance(where, RayShare):
        try:
            from ecg_mlflow.executors.ray_cluster import RayExecutor
        except ModuleNotFoundError as error:
            if error.name != "ray":
                raise
            raise ExecutorError(
                "executor=ray needs the package ray: pip install 'ecg_mlflow[ray]'"
            ) from error
        return RayExecutor(function, where, folder=corpus, hang_timeout=hang_s)
    if not where:
        return InProcessExecutor(function)
    return ProcessExecutor(function, where, hang_timeout=hang_s)
