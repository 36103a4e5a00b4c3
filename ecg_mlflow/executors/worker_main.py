"""Run a worker process: ``python -m ecg_mlflow.executors.worker_main``.

It imports only light modules before its first job, so that it starts fast. The imports of a job
function are kept for later jobs.
"""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import os
import pickle
import select
import signal
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from typing import Any

from ecg_mlflow.executors.base import Job
from ecg_mlflow.executors.messages import (
    CallResult,
    WorkerMessage,
    call,
    encode_report,
    reading,
)
from ecg_mlflow.executors.stopping import TERM_SIGNAL, Terminated, shielded

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
_LOOK = 1000  # milliseconds


class _Driver:
    """The worker's connection to its driver, and the watch over the driver's process.

    Parameters
    ----------
    descriptor
        The worker's end of a socket pair.
    pid
        The driver's process id.
    orphan_grace
        Seconds that a job may go on after the driver's death.
    """

    def __init__(self, descriptor: int, pid: int, orphan_grace: float) -> None:
        # A program that a job starts must not hold the connection open.
        os.set_inheritable(descriptor, False)
        self.connection = Connection(descriptor)
        self._pid = pid
        self._orphan_grace = orphan_grace
        self._sending = threading.Lock()
        self._incoming = select.poll()
        self._incoming.register(descriptor, select.POLLIN)

    @property
    def is_gone(self) -> bool:
        """Whether the driver is dead, or dying: its connections close before its process ends."""
        return self._is_dead() or self._has_hung_up(0)

    def _is_dead(self) -> bool:
        return os.getppid() != self._pid

    def _has_hung_up(self, timeout: int) -> bool:
        """Wait up to `timeout` milliseconds for the end of the connection."""
        poll = select.poll()
        poll.register(self.connection.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
        return bool(poll.poll(timeout))

    def send(self, key: str, content: bytes | CallResult) -> None:
        """Send one message; from any thread, and never half of one because of a SIGTERM."""
        message = pickle.dumps(WorkerMessage(key, content), pickle.HIGHEST_PROTOCOL)
        # A broken pipe means that the driver is gone, and `watch` ends this process for that:
        # a job on its way out should not fail over a last report as well.
        with (
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
            shielded(),
            self._sending,
        ):
            self.connection.send_bytes(message)

    def receive(self) -> Job | bytes | None:
        """Wait for a job, for a message to the one that runs or ran last, or for None, the end.

        Raises
        ------
        EOFError, OSError
            The driver is gone.
        """
        message: Job | bytes | None = pickle.loads(self.connection.recv_bytes())
        return message

    def take_messages(self) -> list[bytes]:
        """Return what was sent to the job that runs, without waiting; for the main thread alone."""
        found: list[bytes] = []
        if self._incoming.poll(0):
            with shielded(), contextlib.suppress(EOFError, OSError):
                while self._incoming.poll(0):
                    message = self.receive()
                    # The driver sends neither a job nor the end before it has this job's result.
                    assert isinstance(message, bytes)
                    found.append(message)
        return found

    def watch(self) -> None:
        """Tie this process's life to the driver's.

        The kernel sends SIGTERM at the driver's death where it can (Linux only). Everywhere, a
        thread notices that the driver is gone, sends SIGTERM and, when the grace is over,
        SIGKILL. Only a job that never lets go of the interpreter's lock could keep it from
        that; without a grace the kernel sends SIGKILL, which nothing withstands.
        """
        _ask_for_signal_at_parents_death(
            signal.SIGTERM if self._orphan_grace else signal.SIGKILL,
        )
        if self.is_gone:  # it died before the line above
            os.kill(os.getpid(), signal.SIGTERM)
        threading.Thread(target=self._end_as_orphan, name="watch-driver", daemon=True).start()

    def _end_as_orphan(self) -> None:
        # A process that the driver has forked may hold the connection open after its death.
        while not self._has_hung_up(_LOOK) and not self._is_dead():
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(self._orphan_grace)
        kill_own_session()


def _ask_for_signal_at_parents_death(number: signal.Signals) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0):
            code = ctypes.get_errno()
            raise OSError(code, f"prctl(PR_SET_PDEATHSIG): {os.strerror(code)}")


def kill_own_session() -> None:
    """End this process and whatever its jobs left running, at once."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def serve(driver: _Driver, function: str) -> None:
    """Execute jobs until the driver says that there are no more, or is gone, or SIGTERM came."""
    while not TERM_SIGNAL.raised:
        try:
            message = driver.receive()
        except (EOFError, ConnectionResetError):
            return
        if message is None:
            return
        if isinstance(message, Job):  # else a message that its job did not read
            _execute(driver, function, message)


def _execute(driver: _Driver, function: str, job: Job) -> None:
    def report(data: dict[str, Any]) -> None:
        driver.send(job.key, encode_report(data))

    with reading(driver.take_messages):
        result = call(function, job.payload, report)
    # A job may have caught `Terminated` and returned, or have failed while it flushed.
    result = replace(result, interrupted=TERM_SIGNAL.raised)
    sys.stdout.flush()
    driver.send(job.key, result)


def run_process(arguments: list[str]) -> int:
    """Run a worker; `arguments`: descriptor, driver's process id, orphan grace, job function."""
    faulthandler.enable()
    descriptor, pid, orphan_grace, function = arguments
    driver = _Driver(int(descriptor), int(pid), float(orphan_grace))
    try:
        TERM_SIGNAL.install()
        driver.watch()
        serve(driver, function)
    except Terminated:  # it came between two jobs
        pass
    if driver.is_gone:
        kill_own_session()
    return 128 + signal.SIGTERM if TERM_SIGNAL.raised else 0


if __name__ == "__main__":
    sys.exit(run_process(sys.argv[1:]))
