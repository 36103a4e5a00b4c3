"""Run jobs in Ray actors, one per slot, on any node of a cluster. Needs the package `ray`."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import ray

from ecg_mlflow.errors import DeviceError
from ecg_mlflow.executors.base import ExecutorError
from ecg_mlflow.executors.devices import (
    GPU_ENV,
    NO_GPU_ENV,
    RayShare,
    Slot,
    build_travelling_env,
    count_cores,
    thread_env,
)
from ecg_mlflow.executors.job_queue import UNKNOWN
from ecg_mlflow.executors.pool import Pool
from ecg_mlflow.executors.ray_actor import FolderFile, read_folder
from ecg_mlflow.executors.ray_worker import RayWorker
from ecg_mlflow.files import cache_root

_CONNECT_TIMEOUT = 10.0  # seconds for a cluster to be reached


class RayExecutor(Pool[RayWorker]):
    """Executes jobs in one Ray actor per slot, which is reused for the next job.

    1. An actor is started for its slot's first job, with its share of a node's cores and GPUs
       and with an environment that is complete before its process starts. It may have to wait for
       as long as others use the cluster.
    2. The folder is copied to a node that lacks it, before the first job there.
    3. Reports are fetched by one call at a time, which returns when there are any.
    4. `shutdown` sets a flag, and `Terminated` is raised at the job's next ``report``, or where it
       leaves a shielded block, as in the in-process executor. After the grace the actor is killed.
    5. An actor that ends, by itself, with its node or without a sign of life, makes its job
       DIED. The slot's next job gets a new actor, perhaps on another node.
    6. When this process dies, Ray kills its actors, without a grace.

    Reports of the last moments before a process crashes may be lost, and there is no exit code. An
    exclusive job is alone among the jobs of this executor on its node's GPU, or on its node without
    GPUs, and reuses an idle worker.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``, importable on every node.
    share
        The workers, and their share of a cluster. Its address is ignored if this process is
        connected to Ray already.
    folder
        Folder in the cache that a node needs before a job runs there; its name is the hash of its
        content.
    hang_timeout
        See `Pool`.

    Raises
    ------
    ExecutorError
        If there is no cluster at the address.
    DeviceError
        If the cluster's current nodes have too few resources for the workers.
    """

    def __init__(
        self,
        function: str,
        share: RayShare,
        *,
        folder: Path | None = None,
        hang_timeout: float | None = None,
    ) -> None:
        if share.gpus > 1 and share.gpus != int(share.gpus):
            raise DeviceError(
                f"gpus_per_worker={share.gpus:g}: write whole GPUs, or a fraction of one"
            )
        super().__init__(share.workers, hang_timeout=hang_timeout)
        self._folder = folder
        self._files: list[FolderFile] = []
        self._arguments = function, folder and folder.relative_to(cache_root()).as_posix()
        devices = GPU_ENV if share.gpus else NO_GPU_ENV
        slot = Slot(0, "cpu", {**thread_env(max(1, int(share.cpus))), **devices})
        self._options = {
            "num_cpus": share.cpus,
            "num_gpus": share.gpus,
            "runtime_env": {"env_vars": build_travelling_env(slot, os.environ)},
        }
        self._has_whole_gpus = share.gpus >= 1
        self._owns_ray = _connect(share)
        try:
            _check_room(share)
        except BaseException:
            self._release()
            raise

    def _device(self, slot: int) -> str:
        if self._has_whole_gpus:
            return f"worker {slot}"
        worker = self._workers[slot]
        return worker.device if worker else UNKNOWN

    def _release(self) -> None:
        self._files.clear()
        if self._owns_ray:
            self._owns_ray = False
            ray.shutdown()

    def _wait(self, timeout: float) -> None:
        workers = self._present()
        calls = [worker.call for worker in workers if worker.call is not None]
        if refs := [*calls, *(worker.end for worker in workers)]:
            ray.wait(refs, timeout=timeout)

    def _assign(self) -> None:
        super()._assign()
        # A starting worker may wait for the share of a node that an idle one holds, above all
        # after another node was lost: the idle one takes its job.
        ready = [worker for worker in self._present() if worker.is_ready and worker.is_idle]
        for starting in self._present():
            if ready and not starting.info and (job := starting.job):
                starting.finish()
                ready.pop(0).start(job, self._pending[job.key], self._hang_timeout)

    def _spawn(self, slot: int) -> RayWorker:
        return RayWorker(slot, self._options, self._arguments, self._load)

    def _load(self) -> list[FolderFile]:
        """Put the folder into Ray's store, once, when the first node needs it."""
        if self._folder and not self._files:
            self._files = read_folder(self._folder, ray.put)
        return self._files


def _connect(share: RayShare) -> bool:
    """Connect to Ray unless it is connected; return whether to disconnect at the end.

    Raises
    ------
    ExecutorError
        If there is no Ray at the address.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = share.address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": count_cores(), "include_dashboard": False}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _check_listening(address)
        with _devices_visible(share.visible_devices):
            ray.init(address, **options)
    except (OSError, RuntimeError, ValueError) as error:
        raise ExecutorError(
            f"can't connect to Ray at {address}: {error}. Start it there with `ray start --head`, "
            "or leave the address out for one on this machine"
        ) from error
    finally:
        if in_main and handler is not None:  # Ray replaces the driver's SIGTERM handler
            signal.signal(signal.SIGTERM, handler)
    return True


@contextmanager
def _devices_visible(devices: str | None) -> Iterator[None]:
    """Show Ray the GPUs that this process hides from itself."""
    hidden = os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    shown = {} if devices is None else {"CUDA_VISIBLE_DEVICES": devices}
    os.environ.update(shown)
    try:
        yield
    finally:
        os.environ.pop("CUDA_VISIBLE_DEVICES", None)
        if hidden is not None:
            os.environ["CUDA_VISIBLE_DEVICES"] = hidden


def _check_listening(address: str) -> None:
    """Raise OSError if nothing listens at the address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT):
            pass


def _check_room(share: RayShare) -> None:
    """Raise DeviceError if the cluster could never hold so many workers at once."""
    nodes: list[dict[str, Any]] = cast(Any, ray).nodes()  # which has no types
    found = [node["Resources"] for node in nodes if node["Alive"]]
    room = 0
    for node in found:
        gpus = int(node.get("GPU", 0))
        by_cpus = int(node.get("CPU", 0) / share.cpus + 1e-9)
        if share.gpus >= 1:
            room += min(by_cpus, gpus // int(share.gpus))
        elif share.gpus > 0:
            room += min(by_cpus, gpus * int(1 / share.gpus + 1e-9))
        else:
            room += by_cpus
    if room < share.workers:
        shown = "; ".join(
            f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in found
        )
        raise DeviceError(
            f"{share.workers} workers with {share.cpus:g} CPUs and {share.gpus:g} GPUs each were "
            f"asked for, and the Ray cluster has room for {room}; its nodes have {shown}. Take "
            "fewer workers or smaller shares, or add nodes"
        )
