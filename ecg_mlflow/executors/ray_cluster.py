"""Run jobs in Ray actors, one per slot, on any node of a cluster. Needs the package `ray`."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import ray
from ray.exceptions import RayError, RayTaskError

from ecg_mlflow.errors import DeviceError
from ecg_mlflow.executors.base import ExecutorError, Outcome, Started, check_hang_timeout
from ecg_mlflow.executors.devices import (
    GPU_ENV,
    NO_GPU_ENV,
    Slot,
    build_travelling_env,
    count_cores,
    thread_env,
)
from ecg_mlflow.executors.folders import FolderFile, read_folder
from ecg_mlflow.executors.job_queue import UNKNOWN
from ecg_mlflow.executors.messages import WorkerMessage, check_import_path
from ecg_mlflow.executors.pool import Pool
from ecg_mlflow.executors.ray_actor import JobActor
from ecg_mlflow.executors.ray_worker import RayWorker, refusal

_CONNECT_TIMEOUT = 10.0  # seconds for a cluster to be reached
_END = 10.0  # seconds to wait for actors that were killed
_CALLS = 8  # at once in one actor: two that wait, and some to spare for short ones


class RayExecutor(Pool[RayWorker]):
    """Executes jobs in one Ray actor per slot, which stays for the next job.

    1. An actor is started for its slot's first job, with its share of a node's cores and GPUs
       and with an environment that is complete before its process starts. `Started` is reported
       when the job begins; before that it may wait for as long as others use the cluster.
    2. The folders that its node lacks are copied there before its first job.
    3. Reports are fetched by one call at a time, which returns when there is something to tell.
    4. `cancel` sets a flag, and `Terminated` is raised at the job's next ``report``, or where it
       leaves a shielded block, as in the in-process executor. After its grace the actor is
       killed.
    5. An actor that ends, by itself, with its node or for want of a sign of life, makes its job
       DIED. The slot's next job gets a new actor, perhaps on another node.
    6. When this process dies, Ray kills its actors, without a grace.

    What a job reported in the last moments before its process crashed may be lost, and there is
    no exit code. An exclusive job is alone among the jobs of this executor on its node's GPU, or
    on its node where there are no GPUs, and runs in a worker that was there already.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``, importable on every node.
    n_workers
        How many jobs run at once.
    address
        Of a Ray cluster; None for what RAY_ADDRESS says, or else a new one on this machine, which
        ends with the executor. Ignored if this process is connected to Ray already.
    num_cpus, num_gpus
        A worker's share of a node. GPUs are whole ones or a fraction of one. Workers compute with
        as many threads as they have whole CPUs, at least one.
    folders
        Folders that a node needs before a job runs there: paths on this machine by content
        hash.
    place
        Import path of the function that returns a folder's path on a node, called there as
        ``place(content_hash)``. It is needed with `folders`.
    env
        Environment variables that the workers get beside the usual ones.
    grace
        Seconds to flush, for a cancelled job and at the end of a ``with`` block.
    hang_timeout
        Seconds that a job may take from its start to its first report, and from each report to
        the next or to its end; None for any time.

    Raises
    ------
    ExecutorError
        If an argument is invalid, or there is no cluster at the address.
    DeviceError
        If the cluster's current nodes have too few resources for the workers.
    """

    _starts_at_once = False  # an actor may wait for its share of the cluster

    def __init__(
        self,
        function: str,
        n_workers: int,
        *,
        address: str | None = None,
        num_cpus: float = 1.0,
        num_gpus: float = 0.0,
        folders: Mapping[str, Path] | None = None,
        place: str | None = None,
        env: Mapping[str, str] | None = None,
        grace: float = 30.0,
        hang_timeout: float | None = None,
    ) -> None:
        self._function = check_import_path(function)
        self._hang_timeout = check_hang_timeout(hang_timeout)
        check_share(n_workers, num_cpus, num_gpus)
        super().__init__(n_workers, grace=grace, fresh=False)
        self._folders = dict(folders or {})
        self._place = check_import_path(place) if place is not None else None
        _check_folders(self._folders, self._place)
        self._files: dict[str, list[FolderFile]] = {}
        self._share = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        own = {**thread_env(max(1, int(num_cpus))), **(GPU_ENV if num_gpus else NO_GPU_ENV)}
        self._env = {**build_travelling_env(Slot(0, "cpu", own), os.environ), **(env or {})}
        self._has_whole_gpus = num_gpus >= 1
        self._owns_ray = connect_to_ray(address)
        try:
            check_room(n_workers, num_cpus, num_gpus)
        except BaseException:
            self._disconnect()
            raise

    def _device(self, slot: int) -> str:
        if self._has_whole_gpus:
            return f"worker {slot}"
        worker = self._workers[slot]
        return worker.device if worker else UNKNOWN

    def _stop(self, worker: RayWorker, grace: float) -> None:
        if worker.job and not worker.is_ready:  # it has not been sent to the actor
            self._withdraw_job(worker)
        elif worker.job:
            worker.stop(grace)

    def _is_ending(self) -> bool:
        return any(worker.job for worker in self._present())

    def _end_all(self) -> None:
        workers = self._present()
        for worker in workers:
            worker.stopping = True
            worker.kill("was killed at the shutdown")
        if ends := [worker.end for worker in workers]:
            ray.wait(ends, num_returns=len(ends), timeout=_END)
        for worker in workers:
            self._retire(worker)
        self._files.clear()
        self._disconnect()

    def _disconnect(self) -> None:
        if self._owns_ray:
            self._owns_ray = False
            ray.shutdown()

    def _attend(self, timeout: float) -> None:
        workers = self._present()
        calls = [worker.call for worker in workers if worker.call is not None]
        waited_for = [*calls, *(worker.end for worker in workers)]
        limits = [worker.seconds_left for worker in workers if worker.seconds_left is not None]
        if not waited_for:
            return
        ray.wait(waited_for, timeout=min([timeout, *limits]))
        there, _ = ray.wait(waited_for, num_returns=len(waited_for), timeout=0)
        ready = set(there)
        for worker in workers:
            if not self._is_current(worker):
                continue
            if worker.call in ready:
                self._listen_to(worker)
            if worker.is_lost or worker.end in ready:
                self._retire(worker)
            else:
                worker.enforce_limits()
        self._assign()
        self._move_jobs_to_idle_workers()

    def _listen_to(self, worker: RayWorker) -> None:
        try:
            for answer in worker.answers():
                if isinstance(answer, WorkerMessage):
                    self._note(worker, answer)
                elif isinstance(answer, Outcome):  # its job requested the end of the process
                    self._ready.append(answer)
                    worker.finish()
                    worker.kill("was asked to end by its job")
                elif worker.job:
                    self._ready.append(Started(worker.job.key, worker.slot, worker.pid))
        except (RayTaskError, OSError) as error:
            if worker.job:
                self._ready.append(refusal(worker.job, worker, error))
                worker.finish()
            worker.kill("could not be made ready")
        except RayError as error:
            worker.lose(error)

    def _retire_ended(self) -> None:
        idle = {worker.end: worker for worker in self._present() if worker.is_idle}
        if idle:
            for end in ray.wait(list(idle), num_returns=len(idle), timeout=0)[0]:
                self._retire(idle[end])

    def _end_idle(self, worker: RayWorker) -> None:
        worker.kill("made room for an exclusive job")

    def _move_jobs_to_idle_workers(self) -> None:
        """Give idle workers the jobs of workers that are still starting.

        A starting worker may wait for the share of a node that an idle one holds, above all after
        another node was lost.
        """
        ready = [worker for worker in self._present() if worker.is_ready and worker.is_idle]
        for starting in self._present():
            if ready and not starting.introduction and (job := starting.job):
                starting.withdraw()
                ready.pop(0).start(job, self._pending[job.key])

    def _spawn(self, slot: int) -> RayWorker:
        actor = (
            ray.remote(JobActor)
            .options(
                **self._share,
                max_restarts=0,
                max_concurrency=_CALLS,
                runtime_env={"env_vars": self._env},
            )
            .remote(self._function, self._place)
        )
        return RayWorker(slot, actor, list(self._folders), self._load, self._hang_timeout)

    def _load(self, content_hash: str) -> list[FolderFile]:
        """Put a folder into Ray's store, once, when the first node asks for it."""
        if content_hash not in self._files:
            self._files[content_hash] = read_folder(self._folders[content_hash], ray.put)
        return self._files[content_hash]


def _check_folders(folders: Mapping[str, Path], place: str | None) -> None:
    if folders and place is None:
        raise ExecutorError("folders without place=, which says where on a node they belong")
    for content_hash, folder in folders.items():
        if not Path(folder).is_dir():
            raise ExecutorError(f"folder {content_hash} is to be at {folder}, where there is none")


def check_share(n_workers: int, num_cpus: float, num_gpus: float) -> None:
    """Raise ExecutorError for numbers that no cluster could serve."""
    if n_workers < 1:
        raise ExecutorError(f"n_workers={n_workers}: write a number of at least 1")
    if not num_cpus > 0:
        raise ExecutorError(f"num_cpus={num_cpus:g}: write a number above 0")
    if num_gpus < 0 or (num_gpus > 1 and num_gpus != int(num_gpus)):
        raise ExecutorError(
            f"num_gpus={num_gpus:g}: write whole GPUs, or a fraction of one, per worker"
        )


def connect_to_ray(address: str | None) -> bool:
    """Connect to Ray unless it is connected; return whether to disconnect at the end.

    Raises
    ------
    ExecutorError
        If there is no Ray at the address.
    """
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
    if address == "local":
        options |= {"num_cpus": count_cores(), "include_dashboard": False}
    in_main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _check_listening(address)
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


def _check_listening(address: str) -> None:
    """Raise OSError if nothing listens at the address: Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "/" not in host:
        with socket.create_connection((host.strip("[]"), int(port)), _CONNECT_TIMEOUT):
            pass


def check_room(n_workers: int, num_cpus: float, num_gpus: float) -> None:
    """Raise DeviceError if the cluster could never hold so many workers at once."""
    nodes: list[dict[str, Any]] = cast(Any, ray).nodes()  # which has no types
    found = [node["Resources"] for node in nodes if node["Alive"]]
    room = sum(_count_room(node, num_cpus, num_gpus) for node in found)
    if room < n_workers:
        shown = "; ".join(
            f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs" for node in found
        )
        raise DeviceError(
            f"{n_workers} workers with {num_cpus:g} CPUs and {num_gpus:g} GPUs each were asked "
            f"for, and the Ray cluster has room for {room}; its nodes have {shown}. Take fewer "
            "workers or smaller shares, or add nodes"
        )


def _count_room(node: Mapping[str, float], num_cpus: float, num_gpus: float) -> int:
    room = int(node.get("CPU", 0) / num_cpus + 1e-9)
    gpus = int(node.get("GPU", 0))
    if num_gpus >= 1:
        room = min(room, gpus // int(num_gpus))
    elif num_gpus > 0:
        room = min(room, gpus * int(1 / num_gpus + 1e-9))
    return room
