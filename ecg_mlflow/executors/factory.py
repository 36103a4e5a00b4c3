"""Make the executor of a study."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from ecg_mlflow.executors import (
    Executor,
    ExecutorError,
    InProcessExecutor,
    ProcessExecutor,
    Slot,
)
from ecg_mlflow.executors.devices import RayShare
from ecg_mlflow.files import CHECKPOINT_VARIABLE


def make_executor(
    function: str,
    where: Sequence[Slot] | RayShare,
    *,
    corpus: Path | None = None,
    log_dir: Path | None = None,
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
        The packed corpus that jobs need: its folder is named by the hash of its content, and is
        copied to cluster nodes that lack it.
    log_dir
        Folder for the output of workers on this machine.
    hang_s
        Seconds without a sign of life after which a worker counts as hung.
    """
    if isinstance(where, RayShare):
        return _ray_executor(function, where, corpus, hang_s)
    if not where:
        return InProcessExecutor(function)
    return ProcessExecutor(function, where, log_dir=log_dir, hang_timeout=hang_s)


def _ray_executor(
    function: str, share: RayShare, corpus: Path | None, hang_s: float | None
) -> Executor:
    try:
        from ecg_mlflow.executors.ray_cluster import RayExecutor
    except ModuleNotFoundError as error:
        if error.name != "ray":
            raise
        raise ExecutorError(
            "executor=ray needs the package ray: pip install 'ecg_mlflow[ray]'"
        ) from error
    # The store's address and the shared folder of checkpoints are the same on every node.
    env = {k: v for k, v in os.environ.items() if k.startswith(("MLFLOW_", CHECKPOINT_VARIABLE))}
    return RayExecutor(
        function,
        share,
        folder=corpus,
        place="ecg_mlflow.records:packed_path",
        env=env,
        hang_timeout=hang_s,
    )
