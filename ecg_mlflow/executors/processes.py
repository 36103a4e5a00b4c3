"""Run jobs in worker processes, one per slot, which are reused."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait

from ecg_mlflow.executors.base import ExecutorError, Job, Outcome, Report
from ecg_mlflow.executors.devices import Slot, build_env
from ecg_mlflow.executors.pool import Pool, Worker

_LOG_TAIL = 8000  # characters; the stacks of a dozen threads
_ABORT_GRACE = 1.5  # seconds for a hanging worker to write its stacks
_POLL = 0.1  # seconds between looks at a worker that is ending, or is behind with its messages
_LOOK = 1.0  # seconds between looks at workers whose end the connection may not show


class ProcessWorker(Worker):
    """One process, its connection and its output.

    Parameters
    ----------
    slot
        Number of the slot whose jobs it executes.
    function
        The job function's import path.
    env
        The process's whole environment.

    Raises
    ------
    OSError
        The process can't be started.
    """

    def __init__(self, slot: int, function: str, env: Mapping[str, str]) -> None:
        super().__init__(slot)
        self.hung_up = False
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - open until `close`
        self._log_start = 0
        self._output = ""
        ours, theirs = socket.socketpair()
        self.connection = Connection(ours.detach())
        # A worker imports from the current directory only if this process does.
        flags = [] if {"", os.getcwd()}.intersection(sys.path) else ["-P"]
        command = [sys.executable, *flags, "-m", "ecg_mlflow.executors.worker_main"]
        with theirs:
            try:
                self._process = subprocess.Popen(
                    [*command, str(theirs.fileno()), str(os.getpid()), function],
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=self._log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # a Ctrl-C in the terminal is for the driver alone
                )
            except OSError:
                self.connection.close()
                self._log.close()
                raise

    @property
    def name(self) -> str:
        """The worker's name in messages."""
        return f"worker {self.slot} (pid {self._process.pid})"

    @property
    def is_behind(self) -> bool:
        """Whether messages to its job wait for room in the connection."""
        return self.job is not None and bool(self._inbox)

    def _begin(self, job: Job) -> None:
        self._has_shown_life()
        self._send(job)
        self.forward_inbox()

    def forward_inbox(self) -> None:
        """Write messages to its job, as far as the connection takes them without waiting.

        A hanging job reads none, and the driver would wait for it.
        """
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLOUT)
        while self.is_behind and poll.poll(0):  # Linux: the socket is mostly empty
            self._send(self._inbox.popleft())

    def _send(self, message: Job | bytes | None) -> None:
        # The end of a process shows in `has_ended`.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def reports(self) -> Iterator[Report]:
        """Yield the reports that have arrived."""
        while not self.hung_up and self.connection.poll():
            try:
                report = self.connection.recv_bytes()
            except (EOFError, OSError):  # OSError: it died in the middle of a report
                self.hung_up = True
                return
            self._has_shown_life()
            yield pickle.loads(report)

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def finish(self) -> None:
        """Record that its job has its outcome; later output counts for the next job."""
        super().finish()
        self._log_start = os.fstat(self._log.fileno()).st_size

    def close(self) -> None:
        """Kill it if it still runs, and whatever its jobs have left running."""
        self._kill()
        self._process.wait()
        self.connection.close()
        with self._log:
            descriptor = self._log.fileno()
            start = max(self._log_start, os.fstat(descriptor).st_size - _LOG_TAIL)
            self._output = os.pread(descriptor, _LOG_TAIL, start).decode(errors="replace").strip()

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, with the exit code and the end of the output."""
        return replace(super().death(job), exitcode=self._process.returncode)

    def _request_stop(self) -> None:
        if self.job:
            self._process.terminate()
        else:
            self._send(None)

    def _abort(self) -> None:
        # The worker's faulthandler writes the stacks of its threads into its output.
        self._process.send_signal(signal.SIGABRT)
        self._end_within(_ABORT_GRACE)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def _describe_end(self) -> str:
        code = self._process.returncode
        if code >= 0:
            return f"exited with code {code}"
        known = {one.value: one.name for one in signal.Signals}
        how = f"was killed by {known.get(-code, f'signal {-code}')}"
        is_foreign = -code == signal.SIGKILL and not self.stopping
        return f"{how}, perhaps for lack of memory" if is_foreign else how

    def _details(self) -> str:
        return f"The end of its output:\n{self._output or '(empty)'}"


class ProcessExecutor(Pool[ProcessWorker]):
    """Executes jobs in one worker process per slot, which is reused for the next job.

    1. A worker is started for its slot's first job, in a complete environment and a session of its
       own, with its output in a temporary file.
    2. Jobs and messages go to it, and reports come back, over a socket pair that nothing else
       writes to.
    3. When it ends during a job, the job is DIED, and the slot's next job gets a new process.
    4. `shutdown` sends SIGTERM, which raises `Terminated` in the job. A process that still runs
       after its grace is killed, with all that it has started.
    5. A worker whose job gives no sign of life for `hang_timeout` writes its stacks into its
       output and is killed. Its job is DIED.
    6. An idle worker ends when an exclusive job needs its device.
    7. When this process dies, killed or not, its workers get SIGTERM and, later, SIGKILL.

    It needs Linux or macOS.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``.
    slots
        One worker each, see `ecg_mlflow.executors.devices.plan_slots`.
    hang_timeout
        See `Pool`.

    Raises
    ------
    ExecutorError
        On an unsupported system.
    """

    def __init__(
        self, function: str, slots: Sequence[Slot], *, hang_timeout: float | None = None
    ) -> None:
        if os.name != "posix":
            raise ExecutorError(
                f"worker processes need Linux or macOS, this is {os.name!r}: take workers=0, "
                "which runs the jobs in this process"
            )
        super().__init__(len(slots), hang_timeout=hang_timeout, fresh=True)
        self._function = function
        self._devices = [slot.device for slot in slots]
        self._envs = [build_env(slot, os.environ) for slot in slots]

    def _device(self, slot: int) -> str:
        return self._devices[slot]

    def _wait(self, timeout: float) -> None:
        workers = self._present()
        is_urgent = any(worker.hung_up or worker.is_behind for worker in workers)
        connections = [worker.connection for worker in workers if not worker.hung_up]
        wait(connections, min(timeout, _POLL if is_urgent else _LOOK))

    def _spawn(self, slot: int) -> ProcessWorker:
        return ProcessWorker(slot, self._function, self._envs[slot])
