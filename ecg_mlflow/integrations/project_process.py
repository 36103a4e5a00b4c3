"""The process of a project's command: started, sent what signals arrive, waited for to its end."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

#: Signals that are passed on to the command.
PASSED_ON = (signal.SIGINT, signal.SIGTERM)
#: Seconds for what the command has started itself to follow it into its end.
_GRACE_S = 20.0


class ProjectProcess:
    """A shell command in a process group of its own.

    A signal that this process gets, be it of a terminal's Ctrl-C or of a batch system, is passed on
    to the command, once: in the same group the command would have a terminal's Ctrl-C twice, and
    take that for impatience. To decide how to end is the command's.

    Attributes
    ----------
    process
        Once it has started.
    stopped_by
        The first signal that was passed on.
    """

    def __init__(self) -> None:
        self.process: subprocess.Popen[bytes] | None = None
        self.stopped_by: signal.Signals | None = None

    def run(self, command: str, work_dir: str | Path, env: Mapping[str, str]) -> int:
        """Run a command for bash to its end; return its exit status, negative for a signal."""
        with _handlers(self._pass_on):
            self.process = subprocess.Popen(
                ["bash", "-c", command], cwd=work_dir, env=dict(env), process_group=0
            )
            if self.stopped_by is not None:  # it came while the command was started
                self.process.send_signal(self.stopped_by)
            status = self.process.wait()
            _empty_group(self.process.pid)
        return status

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        self.stopped_by = self.stopped_by or signal.Signals(number)
        if self.process is not None:
            self.process.send_signal(number)


@contextmanager
def _handlers(handler: object) -> Iterator[None]:
    # Only the main thread may set handlers; in another one signals are its caller's to deal with.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in PASSED_ON}  # type: ignore[arg-type]
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


def _empty_group(group: int) -> None:
    """Wait until a process group is empty; end by force what doesn't end by itself.

    Where a shell stands between, a signal ends it before what it has started.
    """
    deadline = time.monotonic() + _GRACE_S
    with suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(group, 0)
            time.sleep(0.05)
        os.killpg(group, signal.SIGKILL)
