"""Jobs in warm Ray actors, one per slot, on any node of a cluster. Needs the package `ray`."""

from __future__ import annotations

import os
import pickle
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import ray
from ray.exceptions import RayError, RayTaskError

from ecg_mlflow.executors.base import (
    Event,
    ExecutorError,
    Job,
    Outcome,
    Report,
    Started,
    cancelled_in_queue,
    check_hang_timeout,
    check_submission,
)
from ecg_mlflow.executors.devices import (
    GPU_ENV,
    NO_GPU_ENV,
    Slot,
    build_travelling_env,
    thread_env,
)
from ecg_mlflow.executors.folders import FolderFile, read_folder
from ecg_mlflow.executors.mailbox import encode_letter
from ecg_mlflow.executors.messages import Answer, Message, check_import_path, to_outcome
from ecg_mlflow.executors.pool import UNKNOWN, EndIdle, JobQueue, SlotState
from ecg_mlflow.executors.ray_actor import JobActor
from ecg_mlflow.executors.ray_connection import check_room, check_share, connect
from ecg_mlflow.executors.ray_worker import Began, RayWorker, refusal

_END = 10.0  # seconds to wait for actors that were killed
_CALLS = 8  # at once in one actor: two that wait, and some to spare for short ones


class RayExecutor:
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
        ends with the executor. Of no account where this process is connected to Ray already.
    num_cpus, num_gpus
        A worker's share of a node. GPUs are whole ones or a fraction of one. Workers compute with
        as many threads as they have whole CPUs, at least one.
    folders
        What has to be on a node before a job runs there: folders on this machine by their
        content's hash.
    place
        Import path of the function that says where on a node a folder belongs, called there as
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
        Something of the above is not as described, or there is no cluster at the address.
    DeviceError
        The cluster's nodes, as they are now, have no room for so many workers.
    """

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
        self._folders = dict(folders or {})
        self._place = check_import_path(place) if place is not None else None
        _check_folders(self._folders, self._place)
        self._files: dict[str, list[FolderFile]] = {}
        self._share = {"num_cpus": num_cpus, "num_gpus": num_gpus}
        own = {**thread_env(max(1, int(num_cpus))), **(GPU_ENV if num_gpus else NO_GPU_ENV)}
        self._env = {**build_travelling_env(Slot(0, "cpu", own), os.environ), **(env or {})}
        self._has_whole_gpus = num_gpus >= 1
        self._workers: list[RayWorker | None] = [None] * n_workers
        self._grace = grace
        self._queue = JobQueue(fresh=False)
        self._pending: dict[str, deque[bytes]] = {}  # letters that have yet to be sent
        self._ready: deque[Report] = deque()
        self._closed = False
        self._owns_ray = connect(address)
        try:
            check_room(n_workers, num_cpus, num_gpus)
        except BaseException:
            self._disconnect()
            raise

    @property
    def n_slots(self) -> int:
        """How many jobs can run at once."""
        return len(self._workers)

    @property
    def free_slots(self) -> int:
        """How many more jobs would start at once; see `Executor.free_slots`.

        Free is also a slot whose actor Ray has yet to find a place for.
        """
        return self._queue.count_free(self._slot_states())

    @property
    def n_pending(self) -> int:
        """How many submitted jobs have an outcome that `events` has not yielded yet."""
        return len(self._pending)

    def submit(self, job: Job) -> None:
        """Queue `job`, and start it if a slot is free; see `Executor.submit`."""
        check_submission(job, self._pending, self._closed)
        self._pending[job.key] = deque()
        self._queue.put(job)
        self._assign()

    def events(self, timeout: float) -> Iterator[Report]:
        """Yield what has been reported; see `Executor.events`."""
        deadline = time.monotonic() + timeout
        if not self._closed:
            self._attend(0.0)
        while self._pending and not self._ready and (left := deadline - time.monotonic()) > 0:
            self._attend(left)
        while self._ready:
            report = self._ready.popleft()
            if isinstance(report, Outcome):
                del self._pending[report.key]
            yield report

    def send(self, key: str, data: dict[str, Any]) -> None:
        """Send `data` to the job's actor, once the job is there; see `Executor.send`."""
        letter = encode_letter(data)
        if key in self._pending:
            self._pending[key].append(letter)
        for worker in self._present():
            worker.hand_letters_on()

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Take a job from the queue, or tell it to stop; see `Executor.cancel`."""
        if self._queue.remove(key):
            self._ready.append(cancelled_in_queue(key))
        for worker in self._present():
            if worker.job and worker.job.key == key:
                self._stop(worker, key, self._grace if grace is None else grace)

    def _stop(self, worker: RayWorker, key: str, grace: float) -> None:
        if worker.withdraw():
            self._ready.append(cancelled_in_queue(key))
        else:
            worker.stop(grace)

    def shutdown(self, grace: float) -> None:
        """Cancel every job, end every actor, and a Ray that this executor has started."""
        self._closed = True
        self._ready.extend(map(cancelled_in_queue, self._queue.clear()))
        try:
            for worker in self._present():
                if worker.job:
                    self._stop(worker, worker.job.key, grace)
            while any(worker.job for worker in self._present()):
                self._attend(grace)
        finally:  # a second Ctrl-C comes this way
            self._end_all()
            self._files.clear()
            self._disconnect()

    def _end_all(self) -> None:
        workers = self._present()
        for worker in workers:
            worker.stopping = True
            worker.kill("was killed at the shutdown")
        if ends := [worker.end for worker in workers]:
            ray.wait(ends, num_returns=len(ends), timeout=_END)
        for worker in workers:
            self._retire(worker)

    def _disconnect(self) -> None:
        if self._owns_ray:
            self._owns_ray = False
            ray.shutdown()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(self._grace)

    def _present(self) -> list[RayWorker]:
        return [worker for worker in self._workers if worker]

    def _attend(self, timeout: float) -> None:
        """Wait until a worker answers, ends or is overdue, and take note."""
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
            if self._workers[worker.slot] is not worker:  # a signal's handler has shut down
                continue
            if worker.call in ready:
                self._listen_to(worker)
            if worker.is_lost or worker.end in ready:
                self._retire(worker)
            else:
                worker.enforce_limits()
        self._assign()

    def _listen_to(self, worker: RayWorker) -> None:
        try:
            for said in worker.answers():
                self._note(worker, said)
        except (RayTaskError, OSError) as error:
            if worker.job:
                self._ready.append(refusal(worker.job, worker, error))
                worker.finish()
            worker.kill("could not be made ready")
        except RayError as error:
            worker.lose(error)

    def _note(self, worker: RayWorker, said: Began | Message | Outcome) -> None:
        if isinstance(said, Began):
            if worker.job:
                self._ready.append(Started(worker.job.key, worker.slot, worker.pid))
        elif isinstance(said, Outcome):
            self._ready.append(said)
            worker.finish()
            worker.kill("was asked to end by its job")
        elif worker.job is None or said.key != worker.job.key:
            return  # a thread that an earlier job has left behind
        elif isinstance(said.content, Answer):
            self._ready.append(to_outcome(said.key, said.content, worker.stopping))
            worker.finish()
        else:
            self._ready.append(Event(said.key, pickle.loads(said.content)))

    def _retire(self, worker: RayWorker) -> None:
        self._workers[worker.slot] = None
        if worker.job:
            self._ready.append(worker.death(worker.job))

    def _slot_states(self) -> list[SlotState]:
        return [
            SlotState(
                f"worker {slot}" if self._has_whole_gpus else worker.device if worker else UNKNOWN,
                busy=worker is not None and not worker.is_idle,
                alone=worker is not None and not worker.is_idle and worker.alone,
                warm=worker is not None and worker.is_idle,
            )
            for slot, worker in enumerate(self._workers)
        ]

    def _assign(self) -> None:
        self._retire_idle_ones_that_ended()
        while step := self._queue.next_step(self._slot_states()):
            worker = self._workers[step.slot]
            if isinstance(step, EndIdle):
                if worker:
                    worker.kill("made room for an exclusive job")
                continue
            if worker is None:
                worker = self._workers[step.slot] = self._spawn(step.slot)
            worker.start(step.job, self._pending[step.job.key])
        self._let_ready_ones_take_over()

    def _retire_idle_ones_that_ended(self) -> None:
        idle = {worker.end: worker for worker in self._present() if worker.is_idle}
        if idle and self._queue:
            for end in ray.wait(list(idle), num_returns=len(idle), timeout=0)[0]:
                self._retire(idle[end])

    def _let_ready_ones_take_over(self) -> None:
        """Give idle workers the jobs of those that have yet to start.

        These may wait for the very share of a node that the idle ones hold, above all after
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
