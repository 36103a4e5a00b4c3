"""Jobs in warm worker processes, one per slot."""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing.connection import wait
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from ecg_mlflow.executors.base import (
    Event,
    ExecutorError,
    Job,
    Outcome,
    OutcomeState,
    Report,
    Started,
    cancelled_in_queue,
    check_hang_timeout,
    check_submission,
)
from ecg_mlflow.executors.devices import Slot, build_env
from ecg_mlflow.executors.mailbox import encode_letter
from ecg_mlflow.executors.messages import Answer, Message, check_import_path, to_outcome
from ecg_mlflow.executors.pool import EndIdle, JobQueue, SlotState
from ecg_mlflow.executors.worker import Worker

_POLL = 0.1  # seconds between looks at a process without a sentinel, or for room for letters


class ProcessExecutor:
    """Executes jobs in one worker process per slot, which stays for the next job.

    1. A worker is started for its slot's first job, with an environment that was built before,
       in a session of its own, and its output in a log file.
    2. Jobs and what is sent to them go to it, and reports come back, over a socket pair that
       nothing else writes to.
    3. Its end is seen at once. A job that it had in hand is DIED, and the slot's next job gets a
       new process.
    4. `cancel` sends SIGTERM, which raises `Terminated` in the job. The process ends afterwards,
       for what a job interrupted anywhere leaves behind is no ground for another one. A process
       that is still there after its grace is killed, with all that it has started.
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
        self._function = check_import_path(function)
        self._hang_timeout = check_hang_timeout(hang_timeout)
        self._devices = [slot.device for slot in slots]
        base = os.environ if base_env is None else base_env
        self._envs = [build_env(slot, base) for slot in slots]
        self._workers: list[Worker | None] = [None] * len(slots)
        self._log_dir = log_dir
        self._own_log_dir: Path | None = None
        self._grace = grace
        self._orphan_grace = orphan_grace
        self._queue = JobQueue()
        self._pending: dict[str, deque[bytes]] = {}  # letters that have yet to be handed on
        self._ready: deque[Report] = deque()
        self._closed = False

    @property
    def n_slots(self) -> int:
        """How many jobs can run at once."""
        return len(self._workers)

    @property
    def free_slots(self) -> int:
        """How many more jobs would start at once; see `Executor.free_slots`.

        Not free is a slot whose worker is ending, or whose device an exclusive job has or awaits.
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
        self._attend(0.0)
        while self._pending and not self._ready and (left := deadline - time.monotonic()) > 0:
            self._attend(left)
        while self._ready:
            report = self._ready.popleft()
            if isinstance(report, Outcome):
                del self._pending[report.key]
            yield report

    def send(self, key: str, data: dict[str, Any]) -> None:
        """Write `data` to the job's worker, once it has one; see `Executor.send`."""
        letter = encode_letter(data)
        if key in self._pending:
            self._pending[key].append(letter)
        for worker in self._present():
            worker.hand_letters_on()

    def cancel(self, key: str, grace: float | None = None) -> None:
        """Take a job from the queue, or send SIGTERM to its worker; see `Executor.cancel`."""
        if self._queue.remove(key):
            self._ready.append(cancelled_in_queue(key))
        for worker in self._present():
            if worker.job and worker.job.key == key:
                worker.stop(self._grace if grace is None else grace)

    def shutdown(self, grace: float) -> None:
        """Cancel every job, end every worker, and kill those that take over `grace` seconds."""
        self._closed = True
        self._ready.extend(map(cancelled_in_queue, self._queue.clear()))
        try:
            for worker in self._present():
                worker.stop(grace)
            while self._present():
                self._attend(grace)
        finally:  # a second Ctrl-C comes this way
            for worker in self._present():
                worker.kill()
                self._retire(worker)
            if self._own_log_dir:
                shutil.rmtree(self._own_log_dir, ignore_errors=True)
                self._own_log_dir = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.shutdown(self._grace)

    def _present(self) -> list[Worker]:
        return [worker for worker in self._workers if worker]

    def _attend(self, timeout: float) -> None:
        """Wait until a worker speaks, ends or is overdue, and take note."""
        workers = self._present()
        limits = [worker.seconds_left for worker in workers if worker.seconds_left is not None]
        if any(worker.sentinel is None or worker.has_letters for worker in workers):
            limits.append(_POLL)
        wait([item for worker in workers for item in worker.waitables], min([timeout, *limits]))
        for worker in workers:
            if self._workers[worker.slot] is not worker:  # a signal's handler has shut down
                continue
            ended = worker.has_ended()  # asked first, so that its last words are read below
            for message in worker.messages():
                self._note(worker, message)
            if ended:
                self._retire(worker)
            else:
                worker.hand_letters_on()
                worker.enforce_limits()
        self._assign()

    def _note(self, worker: Worker, message: Message) -> None:
        if worker.job is None or message.key != worker.job.key:
            return  # a thread that an earlier job has left behind
        if not isinstance(message.content, Answer):
            self._ready.append(Event(message.key, pickle.loads(message.content)))
            return
        self._ready.append(to_outcome(message.key, message.content, worker.stopping))
        worker.job = None
        if message.content.interrupted:
            worker.stop(self._grace)

    def _retire(self, worker: Worker) -> None:
        self._workers[worker.slot] = None
        worker.close()
        if worker.job:
            self._ready.append(worker.death(worker.job))

    def _slot_states(self) -> list[SlotState]:
        return [
            SlotState(
                device,
                busy=worker is not None and not worker.is_idle,
                alone=worker is not None and not worker.is_idle and worker.alone,
                warm=worker is not None and worker.is_idle,
            )
            for device, worker in zip(self._devices, self._workers, strict=True)
        ]

    def _assign(self) -> None:
        if not self._queue:
            return
        for worker in self._present():
            if worker.is_idle and worker.has_ended():
                self._retire(worker)
        while step := self._queue.next_step(self._slot_states()):
            if isinstance(step, EndIdle):
                for idle in self._present():
                    if idle.slot == step.slot:
                        idle.stop(self._grace)
            else:
                self._start(step.job, step.slot)

    def _start(self, job: Job, slot: int) -> None:
        worker = self._workers[slot]
        if worker is None:
            try:
                worker = self._spawn(slot)
            except OSError as error:
                reason = f"no worker could be started: {error}"
                outcome = Outcome(job.key, OutcomeState.DIED, error=reason, reason=reason)
                self._ready.append(outcome)
                return
            self._workers[slot] = worker
        self._ready.append(Started(job.key, slot, worker.pid))
        worker.start(job, self._pending[job.key])

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
