"""Which process a run belongs to, and whether that process is still there."""

from __future__ import annotations

import math
import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

HOST_TAG = "ecg_mlflow.host"
PID_TAG = "ecg_mlflow.pid"
PROCESS_TAG = "ecg_mlflow.process"
HEARTBEAT_TAG = "ecg_mlflow.heartbeat"

#: Seconds between two heartbeats, and after how many of silence a process elsewhere counts as dead.
HEARTBEAT_S = 30.0
SILENCE_S = 180.0


def heartbeat() -> dict[str, str]:
    """Return the tag that says that a run's process lives now."""
    return {HEARTBEAT_TAG: datetime.now(UTC).isoformat(timespec="seconds")}


def seconds_since(beat: str) -> float:
    """Return the seconds since a heartbeat; infinity for what is none."""
    try:
        return (datetime.now(UTC) - datetime.fromisoformat(beat)).total_seconds()
    except (ValueError, TypeError):  # no time, or one without its zone
        return math.inf


@dataclass(frozen=True)
class ProcessMark:
    """A process, told from all others that had or will have its number.

    Attributes
    ----------
    host
        The machine's name.
    pid
        The process's number there.
    world
        Where that number counts: one boot of the machine and one space of process numbers
        (containers of one name have several).
    birth
        When the process started, in the system's own form; None once it has ended.
    """

    host: str
    pid: int
    world: str
    birth: str | None

    @classmethod
    def own(cls) -> ProcessMark:
        """Return the mark of this process."""
        return cls(socket.gethostname(), os.getpid(), _world(), _birth(os.getpid()))

    @classmethod
    def from_tags(cls, tags: Mapping[str, str]) -> ProcessMark | None:
        """Read the mark that a run carries, if it carries one."""
        world, _, birth = tags.get(PROCESS_TAG, "").partition(" ")
        pid = tags.get(PID_TAG, "")
        if not pid.isdecimal() or HOST_TAG not in tags:
            return None
        return cls(tags[HOST_TAG], int(pid), world, birth or None)

    def tags(self) -> dict[str, str]:
        """Return the mark as tags of a run."""
        return {
            HOST_TAG: self.host,
            PID_TAG: str(self.pid),
            PROCESS_TAG: f"{self.world} {self.birth or ''}".strip(),
        }

    def is_alive(self, silent_s: float) -> bool:
        """Say whether the process is still there.

        In this world the system knows. Of another one, or another machine, only heartbeats
        arrive: the process counts as dead when they have been missing for `SILENCE_S`.

        Parameters
        ----------
        silent_s
            Seconds since its last heartbeat.
        """
        if (self.host, self.world) == (socket.gethostname(), _world()):
            return self.birth is not None and _birth(self.pid) == self.birth
        return silent_s < SILENCE_S

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@cache
def _world() -> str:
    if sys.platform != "linux":
        return sys.platform
    boot = namespace = ""
    with suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8]
    with suppress(OSError):
        namespace = str(os.stat("/proc/self/ns/pid").st_ino)
    return f"{boot}-{namespace}"


def _birth(pid: int) -> str | None:
    """Return when a process started; None if there is none, or only the shell of a dead one."""
    if sys.platform == "linux":
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            return None
        return None if fields[0] in "ZX" else fields[19]  # state; starttime, in ticks since boot
    told = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return told.stdout.strip() or None
