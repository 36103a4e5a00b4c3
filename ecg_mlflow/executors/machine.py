"""Look at the machine: cores that this process may use, GPUs that it shows."""

from __future__ import annotations

import math
import os
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

from ecg_mlflow.errors import DeviceError

_GPU_LINE = re.compile(r"^GPU (?P<index>\d+): .*\(UUID: (?P<uuid>GPU-[^)]+)\)")
_MIG_LINE = re.compile(r"^\s+MIG .*\(UUID: (?P<uuid>MIG-[^)]+)\)")
_VM_COUNTERS = Path("/proc/vmstat")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")


def count_cores() -> int:
    """Return how many cores this process may use: its affinity and its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    return min(cores, _quota(_CPU_QUOTA) or cores)


def _quota(path: Path) -> int | None:
    """Return the cores that a cgroup (version 2) allows, None if it sets no limit."""
    try:
        quota, period = path.read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, math.ceil(int(quota) / int(period)))


def count_oom_kills() -> int | None:
    """Return how many processes this machine has killed for want of memory since it started.

    None where the system doesn't say (outside Linux).
    """
    try:
        lines = _VM_COUNTERS.read_text().splitlines()
    except OSError:
        return None
    counters = dict(line.split(maxsplit=1) for line in lines)
    return int(counters["oom_kill"]) if "oom_kill" in counters else None


def find_gpus(environ: Mapping[str, str] = os.environ, timeout: float = 20.0) -> list[str]:
    """Return the ids of the GPUs found, each by index and by UUID; MIG instances by UUID.

    Asks ``nvidia-smi -L``; without that program there are none. Where CUDA_VISIBLE_DEVICES is
    set, as batch systems do, only what it names is returned.

    Raises
    ------
    DeviceError
        The program is there, but fails or hangs.
    """
    try:
        listing = subprocess.run(
            ["nvidia-smi", "-L"], capture_output=True, text=True, timeout=timeout, check=True
        ).stdout
    except FileNotFoundError:
        return []
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stdout", None) or getattr(error, "stderr", None) or ""
        raise DeviceError(
            f"nvidia-smi -L, which lists the GPUs, failed: {error} {said}".strip()
            + ". Repair the driver, or leave gpus out to run on the CPU"
        ) from error
    return _allowed(parse_listing(listing), environ.get("CUDA_VISIBLE_DEVICES"))


def parse_listing(listing: str) -> list[tuple[str, ...]]:
    """Read ``nvidia-smi -L``: one tuple of names per device, index and UUID or UUID alone."""
    devices: list[tuple[str, ...]] = []
    for line in listing.splitlines():
        if match := _GPU_LINE.match(line):
            devices.append((match["index"], match["uuid"]))
        elif match := _MIG_LINE.match(line):
            devices.append((match["uuid"],))
    return devices


def _allowed(devices: list[tuple[str, ...]], mask: str | None) -> list[str]:
    if mask is not None:
        named = {name.strip() for name in mask.split(",")}
        devices = [device for device in devices if named.intersection(device)]
    return [name for device in devices for name in device]
