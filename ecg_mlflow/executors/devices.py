"""Find this machine's cores and GPUs, and divide them into slots for jobs."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

from ecg_mlflow.errors import DeviceError
from ecg_mlflow.files import CHECKPOINT_VARIABLE
from ecg_mlflow.provenance import visible_gpus

DEVICE_VARIABLE = "ECG_MLFLOW_DEVICE"
"""Variable with the slot's device, ``"cpu"`` or ``"gpu:0"``, in every worker's environment."""

_THREAD_VARIABLES = (
    "TF_NUM_INTRAOP_THREADS",
    "TF_NUM_INTEROP_THREADS",
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMBA_NUM_THREADS",
)

# A child that inherits the id of its parent's run would reopen and end that run (mlflow#15713).
REMOVED_VARIABLES = ("MLFLOW_RUN_ID",)

_DEFAULTS = {
    "KERAS_BACKEND": "tensorflow",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "TF_CPP_MIN_LOG_LEVEL": "2",
    # Without oneDNN a step on the CPU takes three times as long.
    "TF_ENABLE_ONEDNN_OPTS": "1",
    # Keep oneDNN's operations between steps: about 10 % of a small net's step, for 20 MB.
    "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "false",
    # Two heaps for all threads of a process, instead of eight half-empty ones per core.
    "MALLOC_ARENA_MAX": "2",
}

_VM_COUNTERS = Path("/proc/vmstat")
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
NO_GPU_ENV = {"CUDA_VISIBLE_DEVICES": ""}
GPU_ENV = {
    # The ids come from nvidia-smi, which counts by bus; CUDA's default order is by speed.
    "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
}

_ALWAYS = {
    "PYTHONHASHSEED": "0",  # gives the same order of sets in every worker
    "PYTHONUNBUFFERED": "1",  # keeps the last lines of the output in a crash
}


@dataclass(frozen=True)
class Slot:
    """A device share where one job runs at a time.

    Attributes
    ----------
    index
        0 to the number of slots - 1.
    device
        ``"cpu"`` or ``"gpu:<id>"``.
    env
        The environment variables in which this slot differs from the driver.
    """

    index: int
    device: str
    env: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True)
class RayShare:
    """The share of a Ray cluster that a study uses.

    Attributes
    ----------
    workers
        How many jobs run at once.
    address
        Address of the cluster; None for RAY_ADDRESS, or else a new cluster on this machine, which
        ends with the executor.
    cpus, gpus
        Each worker's share of a node; whole GPUs or a fraction of one. Workers compute with as many
        threads as they have whole CPUs, at least one.
    visible_devices
        The user's CUDA_VISIBLE_DEVICES, for a cluster that is started here; this process hides all
        GPUs from itself.
    """

    workers: int
    address: str | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    visible_devices: str | None = None


def plan_slots(
    workers: int | None,
    gpus: str | None,
    n_cores: int,
    visible: Sequence[str] = (),
    threads: int | None = None,
) -> list[Slot]:
    """Divide cores and GPUs among worker processes.

    Parameters
    ----------
    workers
        Number of workers, at least 1; None for one per core, or for the number that `gpus` gives.
    gpus
        None or empty for the CPU alone; else comma-separated ids: indices of ``nvidia-smi -L``,
        or UUIDs of GPUs and MIG instances. ``0:2,1`` puts two workers on GPU 0 and one on GPU 1;
        without ``:n``, `workers` are divided equally.
    n_cores
        Cores that this process may use.
    visible
        Ids of the GPUs that `find_gpus` returns: an index comes before its UUID.
    threads
        Per worker; None divides the cores among the workers, at least one each.

    Returns
    -------
    list of Slot
        Neighbouring slots have different GPUs, so that the first jobs spread over all of them.

    Raises
    ------
    DeviceError
        If an id occurs twice, a GPU is missing, or the workers can't be divided equally.
    """
    ids = _share_gpus(workers, gpus, visible) if gpus and gpus.strip() else []
    n_workers = len(ids) or workers or n_cores
    n_threads = threads or max(1, n_cores // n_workers)
    env = thread_env(n_threads)
    if not ids:
        return [Slot(index, "cpu", {**env, **NO_GPU_ENV}) for index in range(n_workers)]
    return [
        Slot(index, f"gpu:{gpu}", {**env, **GPU_ENV, "CUDA_VISIBLE_DEVICES": gpu})
        for index, gpu in enumerate(ids)
    ]


def thread_env(n_threads: int) -> dict[str, str]:
    """Return the variables that limit a process to `n_threads` compute threads."""
    return dict.fromkeys(_THREAD_VARIABLES, str(n_threads))


def _share_gpus(workers: int | None, gpus: str, visible: Sequence[str]) -> list[str]:
    """Return one GPU id per worker, alternating between the GPUs."""
    shares: dict[str, int] = {}
    for part in gpus.split(","):
        gpu, colon, share = (text.strip() for text in part.partition(":"))
        if not gpu or (colon and (not share.isdecimal() or int(share) < 1)):
            raise DeviceError(
                f"gpus={gpus!r}: can't read {part.strip()!r}; write ids, each with its number of "
                "workers if need be, as in gpus=0,1 or gpus=0:2,1"
            )
        if gpu in shares:
            raise DeviceError(
                f"gpus={gpus!r} names GPU {gpu} twice; for two workers on it write {gpu}:2"
            )
        shares[gpu] = int(share or 1)
    if missing := [gpu for gpu in shares if gpu not in visible]:
        raise DeviceError(
            f"gpus={gpus!r} asks for {', '.join(missing)}, which this machine does not show; "
            f"GPUs found: {', '.join(visible) or 'none'}. Leave gpus out to run on the CPU"
        )
    for index, uuid in pairwise(visible):
        if index.isdecimal() and {index, uuid} <= shares.keys() and not uuid.isdecimal():
            raise DeviceError(f"gpus={gpus!r} names one GPU twice: {index} is {uuid}")
    n_workers = workers or sum(shares.values())
    if ":" not in gpus:
        if n_workers % len(shares):
            raise DeviceError(
                f"{n_workers} workers can't be shared out equally among {len(shares)} GPUs "
                f"(gpus={gpus!r}): take a multiple of {len(shares)} workers, or write each "
                "GPU's share, as in gpus=0:2,1"
            )
        shares = dict.fromkeys(shares, n_workers // len(shares))
    elif n_workers != sum(shares.values()):
        raise DeviceError(
            f"gpus={gpus!r} makes {sum(shares.values())} workers, but workers={workers}: "
            "leave one of the two out"
        )
    rounds = range(max(shares.values()))
    return [gpu for turn in rounds for gpu, share in shares.items() if turn < share]


def build_env(slot: Slot, base: Mapping[str, str]) -> dict[str, str]:
    """Return the whole environment of a slot's worker process.

    It sets devices, threads and hashing before Python and CUDA start. `base` (usually
    ``os.environ``) overrides the defaults, and the slot overrides `base`. `DEVICE_VARIABLE` tells
    the job its device.
    """
    inherited = {name: value for name, value in base.items() if name not in REMOVED_VARIABLES}
    return {**_DEFAULTS, **inherited, **_ALWAYS, DEVICE_VARIABLE: slot.device, **slot.env}


def build_travelling_env(slot: Slot, base: Mapping[str, str]) -> dict[str, str]:
    """Return the part of `build_env` for a worker on another machine.

    It is added to that machine's own environment, and includes the user's values in `base` for the
    variables with defaults, for MLflow and for the folder of checkpoints, which are the same on
    every machine.
    """
    names = {*_DEFAULTS, CHECKPOINT_VARIABLE}
    travels = (name for name in base if name in names or name.startswith("MLFLOW_"))
    return build_env(slot, {name: base[name] for name in travels})


def count_cores() -> int:
    """Return how many cores this process may use: its affinity and its container's quota."""
    if hasattr(os, "sched_getaffinity"):
        cores = len(os.sched_getaffinity(0))
    else:
        cores = os.cpu_count() or 1
    with suppress(OSError, ValueError):  # no cgroup (version 2), or its quota is "max"
        quota, period = map(int, _CPU_QUOTA.read_text().split())
        cores = min(cores, max(1, math.ceil(quota / period)))
    return cores


def count_oom_kills() -> int | None:
    """Return how many processes this machine has killed for lack of memory since it started.

    None if the system doesn't count them (outside Linux).
    """
    with suppress(OSError):
        for name, number in map(str.split, _VM_COUNTERS.read_text().splitlines()):
            if name == "oom_kill":
                return int(number)
    return None


def find_gpus(environ: Mapping[str, str] = os.environ, timeout: float = 20.0) -> list[str]:
    """Return the ids of the GPUs found, each by index and by UUID; MIG instances by UUID.

    It runs ``nvidia-smi -L``; without that program the list is empty. If CUDA_VISIBLE_DEVICES is
    set, as batch systems do, only the devices that it names are returned.

    Raises
    ------
    DeviceError
        If the program exists, but fails or hangs.
    """
    try:
        gpus = visible_gpus(environ.get("CUDA_VISIBLE_DEVICES"), timeout)
    except (OSError, subprocess.SubprocessError) as error:
        said = getattr(error, "stdout", None) or getattr(error, "stderr", None) or ""
        raise DeviceError(
            f"nvidia-smi -L, which lists the GPUs, failed: {error} {said}".strip()
            + ". Repair the driver, or leave gpus out to run on the CPU"
        ) from error
    return [name for gpu in gpus for name in (gpu.index, gpu.uuid) if name]
