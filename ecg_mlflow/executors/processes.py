"""Run jobs in worker processes, one per slot, which are reused."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path

from ecg_mlflow.executors.base import ExecutorError, check_hang_timeout
from ecg_mlflow.executors.devices import Slot, build_env
from ecg_mlflow.executors.messages import CallResult, WorkerMessage, check_import_path
from ecg_mlflow.executors.pool import Pool
from ecg_mlflow.executors.worker import Worker

_POLL = 0.1  # seconds between looks at a process without a sentinel, or for room for messages


class ProcessExecutor(Pool[Worker]):
    """Executes jobs in one worker process per slot, which stays for the next job.

    1. A worker is started for its slot's first job, with an environment that was built before,
       in a session of its own, and its output in a log file.
    2. Jobs and what is sent to them go to it, and reports come back, over a socket pair that
       nothing else writes to.
    3. Its end is seen at once. A job that it had in hand is DIED, and the slot's next job gets a
       new process.
    4. `cancel` sends SIGTERM, which raises `Terminated` in the job. The process then exits: state
       left by an interrupted job is not reused. A process that is still there after its grace is
       killed, with all that it has started.
    5. A worker whose job gives no sign of life for `hang_timeout` is made to write its stack
       into the log, and killed. Its job is DIED.
    6. An idle worker ends when an exclusive job wants its device.
    7. When this process dies, killed or not, its workers get SIGTERM and, later, SIGKILL.

    Needs Linux, or macOS, where a driver's death is noticed by the closed connection alone and
    a worker's death by polling.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``.
    slots
        One worker each, see `ecg_mlflow.executors.plan_slots`.
    base_env
        What the workers' environments are built on; ``os.environ`` if None.
    log_dir
        Where ``worker-<slot>.log`` files are written, appended to where they exist. None for a
        temporary folder that goes with the executor.
    grace
        Seconds to flush, for a cancelled job and at the end of a ``with`` block.
    orphan_grace
        Seconds to flush, for jobs whose driver has died; 0 kills them with it.
    hang_timeout
        Seconds that a job may take from its start to its first report, and from each report to
        the next or to its end; None for any time.

    Raises
    ------
    ExecutorError
        No slots, a function that is no import path, a `hang_timeout` that no job could keep, or
        a system without these processes.
    """

    def __init__(
        self,
        function: str,
        slots: Sequence[Slot],
        *,
        base_env: Mapping[str, str] | None = None,
        log_dir: Path | None = None,
        grace: float = 30.0,
        orphan_grace: float = 10.0,
        hang_timeout: float | None = None,
    ) -> None:
        if os.name != "posix":
            raise ExecutorError(
                f"worker processes need Linux or macOS, this is {os.name!r}: take workers=0, "
                "which runs the jobs in this process"
            )
        if not slots:
            raise ExecutorError("no slots: an executor of processes needs at least one")
        super().__init__(len(slots), grace=grace)
        self._function = check_import_path(function)
        self._hang_timeout = check_hang_timeout(hang_timeout)
        self._devices = [slot.device for slot in slots]
        base = os.environ if base_env is None else base_env
        self._envs = [build_env(slot, base) for slot in slots]
        self._log_dir = log_dir
        self._own_log_dir: Path | None = None
        self._orphan_grace = orphan_grace

    def _device(self, slot: int) -> str:
        return self._devices[slot]

    def _is_ending(self) -> bool:
        return bool(self._present())

    def _end_all(self) -> None:
        for worker in self._present():
            worker.kill()
            self._retire(worker)
        if self._own_log_dir:
            shutil.rmtree(self._own_log_dir, ignore_errors=True)
            self._own_log_dir = None

    def _attend(self, timeout: float) -> None:
        workers = self._present()
        limits = [worker.seconds_left for worker in workers if worker.seconds_left is not None]
        if any(worker.sentinel is None or worker.is_behind for worker in workers):
            limits.append(_POLL)
        wait([item for worker in workers for item in worker.waitables], min([timeout, *limits]))
        for worker in workers:
            if not self._is_current(worker):
                continue
            ended = worker.has_ended()  # asked first, so that its last words are read below
            for message in worker.messages():
                self._note(worker, message)
            if ended:
                self._retire(worker)
            else:
                worker.forward_inbox()
                worker.enforce_limits()
        self._assign()

    def _note(self, worker: Worker, message: WorkerMessage) -> None:
        super()._note(worker, message)
        if isinstance(message.content, CallResult) and message.content.interrupted:
            worker.stop(self._grace)

    def _retire_ended(self) -> None:
        for worker in self._present():
            if worker.is_idle and worker.has_ended():
                self._retire(worker)

    def _spawn(self, slot: int) -> Worker:
        folder = self._log_dir or self._own_log_dir
        if folder is None:
            folder = self._own_log_dir = Path(tempfile.mkdtemp(prefix="ecg_mlflow-workers-"))
        folder.mkdir(parents=True, exist_ok=True)
        log = folder / f"worker-{slot}.log"
        return Worker(
            slot,
            self._function,
            self._envs[slot],
            log,
            orphan_grace=self._orphan_grace,
            hang_timeout=self._hang_timeout,
        )
