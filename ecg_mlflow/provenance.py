"""Describe where a run's numbers come from, as tags: its process, machine and package versions.

This module loads the standard library alone: MLflow asks for these tags in each of its processes.
"""

from __future__ import annotations

import math
import os
import platform
import re
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ecg_mlflow.errors import ModelError

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


def living_process(tags: Mapping[str, str]) -> ProcessMark | None:
    """Return the process that the tags of a run or a model version name, if it is alive."""
    mark = ProcessMark.from_tags(tags)
    if mark is None:
        return None
    return mark if mark.is_alive(seconds_since(tags.get(HEARTBEAT_TAG, ""))) else None


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


#: What trains: ``cpu`` or ``gpu:<id>`` in a study's runs; in others what the process could use.
DEVICE_TAG = "ecg_mlflow.device"
DEVICE_NAME_TAG = "ecg_mlflow.device_name"
DEVICE_MEMORY_TAG = "ecg_mlflow.device_memory"
DEVICE_TAGS = frozenset({DEVICE_TAG, DEVICE_NAME_TAG, DEVICE_MEMORY_TAG})

#: Tags of batch systems by the variables that hold them.
_SLURM = {
    "ecg_mlflow.slurm_job_id": "SLURM_JOB_ID",
    "ecg_mlflow.slurm_job_name": "SLURM_JOB_NAME",
    "ecg_mlflow.slurm_array_job_id": "SLURM_ARRAY_JOB_ID",
    "ecg_mlflow.slurm_array_task_id": "SLURM_ARRAY_TASK_ID",
}
_POD_TAG = "ecg_mlflow.kubernetes_pod"
_NAMESPACE_TAG = "ecg_mlflow.kubernetes_namespace"
_NAMESPACE_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")

#: Tags that hold for one process, and not for another one that works in its name elsewhere.
MACHINE_TAGS = DEVICE_TAGS | {HOST_TAG, *_SLURM, _POD_TAG, _NAMESPACE_TAG}

#: A driver that has fallen asleep answers in a second; one that hangs must not hold up a run.
_TIMEOUT_S = 3.0
_GPU_LINE = re.compile(r"^GPU (?P<index>\d+): (?P<name>.*) \(UUID: (?P<uuid>GPU-[^)]+)\)")
_MIG_LINE = re.compile(r"^\s+MIG (?P<profile>\S+)\s.*\(UUID: (?P<uuid>MIG-[^)]+)\)")
_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")


def machine_tags(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the tags of this process's machine: host, devices, ids of the cluster's job.

    Parameters
    ----------
    environ
        Where CUDA_VISIBLE_DEVICES and the cluster's variables are read.

    Returns
    -------
    dict
        ``ecg_mlflow.host``, ``.device`` and ``.device_memory``: the GPUs that the process may use
        by ``nvidia-smi``'s words, or ``cpu`` with the model of the processor and the memory that
        the process may fill. Ids of Slurm and Kubernetes only where there are any.
    """
    name, memory = device(environ)
    found = {HOST_TAG: socket.gethostname(), DEVICE_TAG: name, DEVICE_MEMORY_TAG: memory}
    return {key: text for key, text in {**found, **cluster_tags(environ)}.items() if text}


def worker_tags(place: str) -> dict[str, str]:
    """Return the tags of a process that trains at a place that its driver has a word for.

    Parameters
    ----------
    place
        ``cpu`` or ``gpu:<id>``: the device; its model is another tag, ``.device_name``.
    """
    found = machine_tags()
    return {**found, DEVICE_TAG: place, DEVICE_NAME_TAG: found[DEVICE_TAG]}


def device(environ: Mapping[str, str] = os.environ) -> tuple[str, str]:
    """Return name and memory of what this process could train on.

    Several equal GPUs are ``2 x NVIDIA A100-SXM4-40GB``, with the memory of each.
    """
    try:
        counts = Counter(_named_gpus(environ.get("CUDA_VISIBLE_DEVICES")))
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: nvidia-smi failed ({type(error).__name__})", ""
    if not counts:
        return f"cpu: {_cpu_name()}", _memory()
    names = [f"{n} x {name}" if n > 1 else name for (name, _), n in counts.items()]
    return ", ".join(names), ", ".join(memory for _, memory in counts)


def cluster_tags(environ: Mapping[str, str]) -> dict[str, str]:
    """Return what Slurm or Kubernetes call this process's job; nothing outside of them."""
    found = {tag: environ[name] for tag, name in _SLURM.items() if environ.get(name)}
    if environ.get("KUBERNETES_SERVICE_HOST"):
        found[_POD_TAG] = environ.get("POD_NAME") or environ.get("HOSTNAME", "")
        found[_NAMESPACE_TAG] = environ.get("POD_NAMESPACE", "")
        if not found[_NAMESPACE_TAG]:
            with suppress(OSError):
                found[_NAMESPACE_TAG] = _NAMESPACE_FILE.read_text().strip()
    return {tag: text for tag, text in found.items() if text}


@cache
def _named_gpus(mask: str | None) -> tuple[tuple[str, str], ...]:
    """Return name and memory of the visible GPUs, without instances that no mask names."""
    gpus = [gpu for gpu in visible_gpus(mask) if gpu.index or mask]
    table = ask_nvidia_smi("--query-gpu=uuid,memory.total", "--format=csv,noheader") if gpus else ""
    memory = dict(line.split(", ", 1) for line in table.splitlines())
    return tuple((gpu.name, memory.get(gpu.uuid, gpu.memory)) for gpu in gpus)


def ask_nvidia_smi(*arguments: str, timeout_s: float | None = None) -> str:
    """Return the output of ``nvidia-smi``, nothing where the program is missing.

    Raises
    ------
    OSError, subprocess.SubprocessError
        The program fails or hangs.
    """
    try:
        return subprocess.run(
            ["nvidia-smi", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout_s or _TIMEOUT_S,
            check=True,
            stdin=subprocess.DEVNULL,
            # Commas separate the table's cells, so they must not be decimal points.
            env={**os.environ, "LC_ALL": "C"},
        ).stdout
    except FileNotFoundError:
        return ""


@dataclass(frozen=True)
class Gpu:
    """A GPU, or an instance of one (MIG), as ``nvidia-smi -L`` lists it.

    Attributes
    ----------
    index
        Its number; empty for an instance.
    uuid
        Begins with ``GPU-`` or ``MIG-``.
    name
        Its model; for an instance with its profile, such as ``NVIDIA A100 MIG 1g.5gb``.
    """

    index: str
    uuid: str
    name: str

    @property
    def memory(self) -> str:
        """An instance's memory, as its profile states it; otherwise empty."""
        found = re.search(r" MIG \S*?(\d+)gb", self.name)
        return f"{found[1]} GB" if found else ""


def visible_gpus(mask: str | None, timeout_s: float | None = None) -> list[Gpu]:
    """Return the GPUs and instances of this machine that CUDA_VISIBLE_DEVICES leaves.

    Parameters
    ----------
    mask
        CUDA_VISIBLE_DEVICES: indices, or UUIDs of instances and (also abbreviated) of GPUs. As in
        CUDA, what follows an unknown name doesn't count. None leaves all.
    timeout_s
        Seconds for ``nvidia-smi``.

    Raises
    ------
    OSError, subprocess.SubprocessError
        ``nvidia-smi`` fails or hangs.
    """
    if mask is not None and not mask.strip():
        return []
    gpus: list[Gpu] = []
    model = ""
    for line in ask_nvidia_smi("-L", timeout_s=timeout_s).splitlines():
        if match := _GPU_LINE.match(line):
            model = match["name"]
            gpus.append(Gpu(match["index"], match["uuid"], model))
        elif match := _MIG_LINE.match(line):
            gpus.append(Gpu("", match["uuid"], f"{model} MIG {match['profile']}"))
    if mask is None:
        return gpus
    found: list[Gpu] = []
    for name in (part.strip() for part in mask.split(",")):
        for gpu in gpus:
            if name in (gpu.index, gpu.uuid) or (name[:4] == "GPU-" and gpu.uuid.startswith(name)):
                found.append(gpu)
                break
        else:
            break
    return found


@cache
def _cpu_name() -> str:
    with suppress(OSError), _CPU_INFO.open() as lines:
        for line in lines:
            name, _, text = line.partition(":")
            if name.strip() == "model name":
                return text.strip()
    return platform.machine()


@cache
def _memory() -> str:
    """Return the memory that the process may fill: the machine's, or its container's limit."""
    limits = []
    with suppress(OSError, ValueError, AttributeError):  # no such names, or no such function
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    with suppress(OSError, ValueError):  # no cgroup (version 2), or "max"
        limits.append(int(_MEMORY_LIMIT.read_text()))
    return f"{min(limits) / 2**30:.1f} GiB RAM" if limits else ""


VERSIONS_TAG = "ecg_mlflow.versions"

#: Packages that decide on results, and the distributions that bring them; the first one counts.
_PACKAGES = {
    "ecg_mlflow": ("ecg_mlflow",),
    "keras": ("keras",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "numba": ("numba",),
    "numpy": ("numpy",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
}


@cache
def version_tags() -> dict[str, str]:
    """Return the tag of versions, such as ``keras 3.15.1, numpy 2.4.6, python 3.11.7``.

    A package that is not installed is left out: in an environment of ``mlflow run`` this one runs
    from its project's folder.
    """
    found = package_versions(*_PACKAGES)
    found["python"] = platform.python_version()
    return {VERSIONS_TAG: ", ".join(f"{name} {number}" for name, number in found.items())}


def package_versions(*names: str) -> dict[str, str]:
    """Return the versions of packages that are installed, whichever distribution brings them."""
    found = {name: installed_version(*_PACKAGES.get(name, (name,))) for name in names}
    return {name: number for name, number in found.items() if number}


def installed_version(*distributions: str) -> str | None:
    """Return the version of the first of some distributions that is installed, if one is."""
    for distribution in distributions:
        with suppress(PackageNotFoundError):
            return version(distribution)
    return None


def pinned(*distributions: str) -> str:
    """Return ``name==version`` of a package that a model needs.

    Parameters
    ----------
    *distributions
        Names that the package may have; the first that is installed counts.

    Raises
    ------
    ModelError
        If it is installed under none of them.
    """
    for name in distributions:
        if number := installed_version(name):
            return f"{name}=={number}"
    raise ModelError(
        f"no installed package is called {' or '.join(distributions)}, so the model's requirements "
        "can't be pinned; state them yourself"
    )
