"""How work gets from the driver to the workers."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ecg_mlflow.executors import (
    Executor,
    ExecutorError,
    InProcessExecutor,
    ProcessExecutor,
    Slot,
)
from ecg_mlflow.files import CHECKPOINT_VARIABLE

#: Seconds that a worker has to flush when it is told to stop.
GRACE = 30.0


@dataclass(frozen=True)
class RayShare:
    """What a study takes of a Ray cluster.

    Attributes
    ----------
    workers
        How many jobs run at once.
    address
        Of the cluster; None for RAY_ADDRESS, or else a new one on this machine.
    cpus, gpus
        Each worker's share of a node; GPUs may be fractions.
    visible_devices
        CUDA_VISIBLE_DEVICES as the user has set it, for a cluster that is started here: this
        process itself sees no GPU.
    """

    workers: int
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    visible_devices: str | None = None


def make_executor(
    function: str,
    where: Sequence[Slot] | RayShare,
    *,
    corpus: Path | None = None,
    log_dir: Path | None = None,
    hang_s: float | None = None,
) -> Executor:
    """Make the executor for slots on this machine, for none (this process), or for a cluster.

    Parameters
    ----------
    function
        The job function's import path.
    where
        Slots, or a share of a Ray cluster.
    corpus
        The packed corpus that jobs need: its folder is called by its content's hash, and is
        copied to the nodes of a cluster that lack it.
    log_dir
        For the output of workers on this machine.
    hang_s
        Seconds without a sign of life after which a worker counts as hung.
    """
    if isinstance(where, RayShare):
        return _ray_executor(function, where, corpus, hang_s)
    if not where:
        return InProcessExecutor(function)
    return ProcessExecutor(function, where, log_dir=log_dir, grace=GRACE, hang_timeout=hang_s)


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
    # How the store is reached, and where checkpoints are shared, is the same on every node.
    env = {k: v for k, v in os.environ.items() if k.startswith(("MLFLOW_", CHECKPOINT_VARIABLE))}
    with _devices_visible(share.visible_devices):
        return RayExecutor(
            function,
            share.workers,
            address=share.address,
            num_cpus=share.cpus,
            num_gpus=share.gpus,
            folders={} if corpus is None else {corpus.name: corpus},
            place="ecg_mlflow.records:packed_path",
            env=env,
            grace=GRACE,
            hang_timeout=hang_s,
        )


@contextmanager
def _devices_visible(devices: str | None) -> Iterator[None]:
    before = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if devices is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = devices
    try:
        yield
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if before is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = before
