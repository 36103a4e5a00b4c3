"""Run jobs in worker processes, one per slot, which are reused."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ecg_mlflow.executors.base import ExecutorError, Job, Outcome, OutcomeState, Report
from ecg_mlflow.executors.devices import Slot, build_env
from ecg_mlflow.executors.messages import check_import_path
from ecg_mlflow.executors.pool import Pool, Worker, check_hang_timeout

_LOG_TAIL = 8000  # characters; the stacks of a dozen threads
_ABORT_GRACE = 1.5  # seconds for a hanging worker to write its stacks
_POLL = 0.1  # seconds between looks at a worker that is ending, or is behind with its messages
_LOOK = 1.0  # seconds between looks at workers whose end the connection may not show


class ProcessWorker(Worker):
    """One process, its connection and its log.

    Parameters
    ----------
    slot
        Number of the slot whose jobs it executes.
    command
        Command line of the process; the descriptor of its connection is inserted in place of None.
    env
        The process's whole environment.
    log
        File to which its output is appended.
    grace
        Seconds in which it ends after an interrupted job.
    hang_timeout
        See `Worker`.

    Raises
    ------
    OSError
        The process can't be started.
    """

    def __init__(
        self,
        slot: int,
        command: Sequence[str | None],
        env: Mapping[str, str],
        log: Path,
        grace: float,
        hang_timeout: float | None,
    ) -> None:
        super().__init__(slot, hang_timeout)
        self.hung_up = False
        self._default_grace = grace
        self._log = log
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self._log_start = output.tell()
            descriptor = theirs.fileno()
            try:
                self._process = subprocess.Popen(
                    [str(descriptor) if part is None else part for part in command],
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[descriptor],
                    start_new_session=True,  # a Ctrl-C in the terminal is for the driver alone
                )
            except OSError:
                ours.close()
                raise
        self.connection = Connection(ours.detach())

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def is_behind(self) -> bool:
        """Whether messages to its job wait for room in the connection."""
        return self.has_begun and bool(self._inbox)

    def _begin(self, job: Job) -> None:
        self.has_begun = True
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
                report: Report = pickle.loads(self.connection.recv_bytes())
            except (EOFError, OSError):  # OSError: it died in the middle of a report
                self.hung_up = True
                return
            self._has_shown_life()
            yield report
            if isinstance(report, Outcome) and report.state is OutcomeState.CANCELLED:
                self.stop(self._default_grace)  # the process ends after an interrupted job

    def has_ended(self) -> bool:
        """Whether the process has ended."""
        return self._process.poll() is not None

    def finish(self) -> None:
        """Record that its job has its outcome; later output counts for the next job."""
        super().finish()
        self._log_start = self._log.stat().st_size

    def close(self) -> None:
        """Kill it if it still runs, and whatever its jobs have left running."""
        self._kill()
        self._process.wait()
        self.connection.close()

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, with the exit code and the end of the log."""
        return replace(super().death(job), exitcode=self._process.returncode)

    def _request_stop(self) -> None:
        if self.job:
            self._process.terminate()
        else:
            self._send(None)

    def _abort(self) -> None:
        # The worker's faulthandler writes the stacks of its threads into the log.
        self._process.send_signal(signal.SIGABRT)
        self._end_within(_ABORT_GRACE)

    def _kill(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def _describe_end(self) -> str:
        code = self._process.returncode
        if code >= 0:
            return f"exited with code {code}"
        known = {one.value: one.name for one in signal.Signals}
        how = f"was killed by {known.get(-code, f'signal {-code}')}"
        is_foreign = -code == signal.SIGKILL and not self.stopping
        return f"{how}, perhaps for lack of memory" if is_foreign else how

    def _details(self) -> str:
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - _LOG_TAIL))
            tail = file.read().decode(errors="replace").strip()
        return f"The end of its log:\n{tail or '(empty)'}"


class ProcessExecutor(Pool[ProcessWorker]):
    """Executes jobs in one worker process per slot, which is reused for the next job.

    1. A worker is started for its slot's first job, in a complete environment and a session of its
       own, with its output in a log file.
    2. Jobs and messages go to it, and reports come back, over a socket pair that nothing else
       writes to.
    3. When it ends during a job, the job is DIED, and the slot's next job gets a new process.
    4. `cancel` sends SIGTERM, which raises `Terminated` in the job. The process then exits: state
       left by an interrupted job is not reused. A process that still runs after its grace is
       killed, with all that it has started.
    5. A worker whose job gives no sign of life for `hang_timeout` writes its stacks into the log
       and is killed. Its job is DIED.
    6. An idle worker ends when an exclusive job needs its device.
    7. When this process dies, killed or not, its workers get SIGTERM and, later, SIGKILL.

    It needs Linux or macOS.

    Parameters
    ----------
    function
        The job function's import path, ``"package.module:function"``.
    slots
        One worker each, see `ecg_mlflow.executors.plan_slots`.
    base_env
        Environment that the workers' environments extend; ``os.environ`` if None.
    log_dir
        Folder of the ``worker-<slot>.log`` files; existing files are appended to. None for a
        temporary folder that is removed with the executor.
    grace
        Seconds to flush, for a cancelled job and at the end of a ``with`` block.
    orphan_grace
        Seconds to flush, for jobs whose driver has died; 0 kills them immediately.
    hang_timeout
        Seconds that a job may take from its start to its first report, and from each report to
        the next or to its end; None for any time.

    Raises
    ------
    ExecutorError
        Without slots, with an invalid import path or `hang_timeout`, or on an unsupported system.
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
        self._hang_timeout = check_hang_timeout(hang_timeout)
        self._devices = [slot.device for slot in slots]
        base = os.environ if base_env is None else base_env
        self._envs = [build_env(slot, base) for slot in slots]
        self._log_dir = log_dir
        self._own_log_dir: Path | None = None
        self._arguments = (None, str(os.getpid()), str(orphan_grace), check_import_path(function))

    def _device(self, slot: int) -> str:
        return self._devices[slot]

    def _is_ending(self) -> bool:
        return bool(self._present())

    def _release(self) -> None:
        if self._own_log_dir:
            shutil.rmtree(self._own_log_dir, ignore_errors=True)
            self._own_log_dir = None

    def _wait(self, timeout: float) -> None:
        workers = self._present()
        is_urgent = any(worker.hung_up or worker.is_behind for worker in workers)
        connections = [worker.connection for worker in workers if not worker.hung_up]
        wait(connections, min(timeout, _POLL if is_urgent else _LOOK))

    def _spawn(self, slot: int) -> ProcessWorker:
        folder = self._log_dir or self._own_log_dir
        if folder is None:
            folder = self._own_log_dir = Path(tempfile.mkdtemp(prefix="ecg_mlflow-workers-"))
        folder.mkdir(parents=True, exist_ok=True)
        # A worker imports from the current directory only if this process does.
        flags = [] if {"", os.getcwd()}.intersection(sys.path) else ["-P"]
        command = [sys.executable, *flags, "-m", "ecg_mlflow.executors.worker_main"]
        return ProcessWorker(
            slot,
            [*command, *self._arguments],
            self._envs[slot],
            folder / f"worker-{slot}.log",
            self._grace,
            self._hang_timeout,
        )
