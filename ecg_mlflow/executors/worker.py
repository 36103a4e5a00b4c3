"""Control a worker process from the driver."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from multiprocessing.connection import Connection, wait
from pathlib import Path

from ecg_mlflow.executors.base import Job, Outcome, OutcomeState
from ecg_mlflow.executors.messages import WorkerMessage

_LOG_TAIL = 8000  # characters; the stacks of a dozen threads
_ABORT_GRACE = 1.5  # seconds to write down where it hangs


class Worker:
    """One process, its connection, its log and the job that it has in hand.

    Parameters
    ----------
    slot
        Number of the slot whose jobs it executes.
    function
        The job function's import path.
    env
        The process's whole environment.
    log
        Where its standard output and error go, behind what is there already.
    orphan_grace
        Seconds that it may live on after this process's death.
    hang_timeout
        Seconds that its job may go without a sign of life; None for any time.

    Raises
    ------
    OSError
        The process can't be started.
    """

    def __init__(
        self,
        slot: int,
        function: str,
        env: Mapping[str, str],
        log: Path,
        *,
        orphan_grace: float,
        hang_timeout: float | None = None,
    ) -> None:
        self.slot = slot
        self.job: Job | None = None
        self.stopping = False
        self.alone = False
        self._hanging = False
        self._overdue = False
        self._hang_timeout = hang_timeout
        self._last_sign = 0.0
        self._grace = 0.0
        self._deadline: float | None = None
        self._hung_up = False
        self._n_jobs = 0
        self._inbox: deque[bytes] = deque()
        self._log = log
        ours, theirs = socket.socketpair()
        with theirs, log.open("ab") as output:
            self._log_start = output.tell()
            try:
                self._process = subprocess.Popen(
                    [
                        *(sys.executable, *_path_flags(), "-m", "ecg_mlflow.executors.worker_main"),
                        *(str(theirs.fileno()), str(os.getpid()), str(orphan_grace), function),
                    ],
                    env=dict(env),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,  # a Ctrl-C in the terminal is for the driver alone
                )
            except OSError:
                ours.close()
                raise
        self.connection = Connection(ours.detach())
        self.sentinel = _open_sentinel(self._process.pid)

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def seconds_left(self) -> float | None:
        """Until `enforce_limits` has something to do, as far as can be known; None for never."""
        limit = self._deadline
        in_hand = self.job is not None and not self.stopping and not self._hanging
        if in_hand and self._hang_timeout is not None:
            limit = self._last_sign + self._hang_timeout
        return None if limit is None else max(0.0, limit - time.monotonic())

    @property
    def is_idle(self) -> bool:
        """Whether it can be given a job."""
        return self.job is None and not self.stopping and not self._hanging

    @property
    def is_behind(self) -> bool:
        """Whether messages to its job wait for room in the connection."""
        return self.job is not None and bool(self._inbox)

    @property
    def waitables(self) -> list[Connection | int]:
        """What `multiprocessing.connection.wait` should watch."""
        sentinel = [] if self.sentinel is None else [self.sentinel]
        return [*([] if self._hung_up else [self.connection]), *sentinel]

    def start(self, job: Job, inbox: deque[bytes]) -> None:
        """Hand over a job. That the process has died meanwhile shows in `has_ended` later.

        What is sent to the job is taken from `inbox`, now and by `forward_inbox`.
        """
        if self._n_jobs:
            self._log_start = self._log.stat().st_size
        self._n_jobs += 1
        self.job = job
        self._inbox = inbox
        self.alone = job.exclusive
        self._last_sign = time.monotonic()
        self._send(job)
        self.forward_inbox()

    def forward_inbox(self) -> None:
        """Write what is sent to its job, as far as the connection takes it without waiting.

        For a job that hangs reads none, and the driver would hang with it.
        """
        while self.is_behind and self._has_room():
            self._send(self._inbox.popleft())

    def _has_room(self) -> bool:
        """Whether a message can be written at once: Linux says so of a socket mostly empty."""
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLOUT)
        return bool(poll.poll(0))

    def _send(self, message: Job | bytes | None) -> None:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.connection.send_bytes(pickle.dumps(message, pickle.HIGHEST_PROTOCOL))

    def messages(self) -> Iterator[WorkerMessage]:
        """Yield what it has sent, without waiting for more."""
        while not self._hung_up and self.connection.poll():
            try:
                message: WorkerMessage = pickle.loads(self.connection.recv_bytes())
            except (EOFError, OSError):  # OSError: it died in the middle of a message
                self._hung_up = True
                return
            self._last_sign = time.monotonic()
            yield message

    def has_ended(self) -> bool:
        """Whether the process is over. What it had sent can still be read."""
        if self.sentinel is None:
            return self._process.poll() is not None
        return bool(wait([self.sentinel], 0))

    def stop(self, grace: float) -> None:
        """Tell it to end within `grace` seconds; a later call can only shorten that."""
        deadline = time.monotonic() + grace
        first = not self.stopping
        if first:
            self.stopping = True
            if self.job:
                self._process.terminate()
            else:
                self._send(None)
        limit = self._deadline
        if (first and limit is None) or (limit is not None and deadline < limit):
            self._grace, self._deadline = grace, deadline

    def finish(self) -> None:
        """Note that its job has its outcome."""
        self.job = None

    def kill(self) -> None:
        """End it, and what its jobs have left running, at once."""
        self._deadline = None
        # Between its end and `close` it is a zombie, so that its number can't be another's.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def enforce_limits(self) -> None:
        """Kill it if the grace of `stop` is over, or if its job hangs, once it has said where."""
        if self.seconds_left != 0:
            return
        if self._deadline is None:
            self._hanging = True
            self._deadline = time.monotonic() + _ABORT_GRACE
            # The worker's faulthandler writes the stacks of its threads into the log.
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(signal.SIGABRT)
        else:
            self._overdue = True
            self.kill()

    def close(self) -> None:
        """Kill it if need be, reap it and close what belongs to it."""
        self.kill()
        self._process.wait()
        self.connection.close()
        if self.sentinel is not None:
            os.close(self.sentinel)
            self.sentinel = None

    def death(self, job: Job) -> Outcome:
        """Return the outcome of `job`, under which the process has died. Call after `close`."""
        code = self._process.returncode
        if self._hanging:
            how = f"gave no sign of life for {self._hang_timeout:g} s and was killed"
        elif self._overdue:
            how = f"did not stop within {self._grace:g} s and was killed"
        elif code < 0:
            how = f"was killed by {_signal_name(-code)}"
        else:
            how = f"exited with code {code}"
        if -code == signal.SIGKILL and not self.stopping and not self._hanging:
            how += ", perhaps for lack of memory"
        reason = f"worker {self.slot} (pid {self.pid}) {how}"
        state = OutcomeState.CANCELLED if self.stopping else OutcomeState.DIED
        error = f"{reason}\nThe end of its log:\n{self._log_tail()}"
        return Outcome(job.key, state, error=error, reason=reason, exitcode=code)

    def _log_tail(self) -> str:
        """Return the last lines that the process has written since its job began."""
        with self._log.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(self._log_start, size - _LOG_TAIL))
            return file.read().decode(errors="replace").strip() or "(empty)"


def _path_flags() -> list[str]:
    """Let a worker import from the current directory only if this process does."""
    return [] if {"", os.getcwd()}.intersection(sys.path) else ["-P"]


def _open_sentinel(pid: int) -> int | None:
    """Return a descriptor that becomes readable when the process ends, None where there is none.

    Linux has it since 5.3. Elsewhere ends are found by polling, a little later.
    """
    if sys.platform == "linux":
        with contextlib.suppress(OSError):
            return os.pidfd_open(pid)
    return None


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
