"""Run a worker process: ``python -m ecg_mlflow.executors.worker_main``.

It imports only light modules before its first job, so that it starts fast. The imports of a job
function are kept for later jobs.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import pickle
import select
import signal
import sys
import threading
import time
from multiprocessing.connection import Connection

from ecg_mlflow.executors.base import Job
from ecg_mlflow.executors.execution import DriverLink, Terminated, execute, shielded

_LOOK = 1000  # milliseconds
_ORPHAN_GRACE = 10.0  # seconds to flush, for a job whose driver has died


class _ProcessLink(DriverLink):
    """The worker's connection to its driver, and the watch over the driver's process.

    Parameters
    ----------
    descriptor
        The worker's end of a socket pair.
    pid
        The driver's process id.
    """

    def __init__(self, descriptor: int, pid: int) -> None:
        super().__init__()
        # A program that a job starts must not hold the connection open.
        os.set_inheritable(descriptor, False)
        self._connection = Connection(descriptor)
        self._pid = pid
        self._sending = threading.Lock()
        self._incoming = select.poll()
        self._incoming.register(descriptor, select.POLLIN)

    def is_gone(self, timeout: int = 0) -> bool:
        """Wait up to `timeout` milliseconds for the driver's death.

        Its connections close before its process ends. A process that the driver has forked may
        hold a connection open, so the parent's process id counts, too.
        """
        end = select.poll()
        end.register(self._connection.fileno(), getattr(select, "POLLRDHUP", select.POLLHUP))
        return bool(end.poll(timeout)) or os.getppid() != self._pid

    def send(self, report: bytes) -> None:
        """Send a report; from any thread, and never half of one because of a SIGTERM."""
        # If the driver is gone, `watch` ends this process; the job may flush until then.
        with (
            contextlib.suppress(BrokenPipeError, ConnectionResetError),
            shielded(),
            self._sending,
        ):
            self._connection.send_bytes(report)

    def receive(self) -> Job | bytes | None:
        """Wait for a job, for a message to the current or last job, or for None, the end.

        Raises
        ------
        EOFError, OSError
            The driver is gone.
        """
        message: Job | bytes | None = pickle.loads(self._connection.recv_bytes())
        return message

    def take_messages(self) -> list[bytes]:
        """Return the messages to the current job, without waiting; for the main thread alone."""
        found: list[bytes] = []
        with shielded(), contextlib.suppress(EOFError, OSError):
            while self._incoming.poll(0):
                message = self.receive()
                # The driver sends neither a job nor the end before it has this job's outcome.
                assert isinstance(message, bytes)
                found.append(message)
        return found

    def watch(self) -> None:
        """End this process some seconds after the driver's death, after a SIGTERM."""
        while not self.is_gone(_LOOK):
            pass
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(_ORPHAN_GRACE)
        _kill_own_session()


def _kill_own_session() -> None:
    """End this process and whatever its jobs left running, immediately."""
    os.killpg(os.getpgrp(), signal.SIGKILL)


def _serve(driver: _ProcessLink, function: str) -> None:
    """Execute jobs until the driver ends the worker or is gone, or a job was interrupted."""
    while not driver.told:
        try:
            message = driver.receive()
        except (EOFError, ConnectionResetError):
            return
        if message is None:
            return
        if isinstance(message, Job):  # otherwise a message that its job did not read
            execute(function, message, driver)
            sys.stdout.flush()


def run_process(descriptor: str, pid: str, function: str) -> int:
    """Run a worker with the descriptor of its connection, its driver's process id, and function."""
    faulthandler.enable()
    driver = _ProcessLink(int(descriptor), int(pid))
    threading.Thread(target=driver.watch, daemon=True).start()
    with contextlib.suppress(Terminated), driver.serving_this_thread():
        driver.follow_sigterm()
        _serve(driver, function)
    if driver.is_gone():
        _kill_own_session()
    return 128 + signal.SIGTERM if driver.told else 0


if __name__ == "__main__":
    sys.exit(run_process(*sys.argv[1:]))
