"""Where a run's numbers come from, as tags: its process, its machine, the versions installed there.

Nothing but the standard library is loaded: MLflow asks for these tags in each of its processes.
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
_QUERY = "--query-gpu=index,uuid,name,memory.total"
_GPU_LINE = re.compile(r"^GPU (?P<index>\d+): (?P<name>.*) \(UUID: (?P<uuid>GPU-[^)]+)\)")
_MIG_LINE = re.compile(r"^\s+MIG (?P<profile>\S+)\s.*\(UUID: (?P<uuid>MIG-[^)]+)\)")
_CPU_INFO = Path("/proc/cpuinfo")
_MEMORY_LIMIT = Path("/sys/fs/cgroup/memory.max")

#: Name and memory of one device.
Device = tuple[str, str]


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


def device(environ: Mapping[str, str] = os.environ) -> Device:
    """Return name and memory of what this process could train on.

    Several equal GPUs are ``2 x NVIDIA A100-SXM4-40GB``, with the memory of each.
    """
    mask = environ.get("CUDA_VISIBLE_DEVICES")
    try:
        gpus = _gpus(mask)
    except (OSError, subprocess.SubprocessError) as error:
        return f"unknown: nvidia-smi failed ({type(error).__name__})", ""
    if not gpus:
        return f"cpu: {_cpu_name()}", _memory()
    counts = Counter(gpus)
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
def _gpus(mask: str | None) -> tuple[Device, ...]:
    """Ask ``nvidia-smi`` once; without that program, or with all GPUs hidden, there are none.

    Raises
    ------
    OSError, subprocess.SubprocessError
        The program is there, but fails or hangs.
    """
    if mask is not None and not mask.strip():
        return ()
    try:
        table = ask_nvidia_smi(_QUERY, "--format=csv,noheader")
        listing = ask_nvidia_smi("-L") if mask and "MIG-" in mask else ""
    except FileNotFoundError:
        return ()
    return tuple(visible_gpus(table, listing, mask))


def ask_nvidia_smi(*arguments: str, timeout_s: float = _TIMEOUT_S) -> str:
    """Return what ``nvidia-smi`` prints.

    Raises
    ------
    OSError, subprocess.SubprocessError
        The program is not there, fails or hangs.
    """
    # The C locale: a number's decimal point and the table's commas must not be one sign.
    return subprocess.run(
        ["nvidia-smi", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=True,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C"},
    ).stdout


def visible_gpus(table: str, listing: str, mask: str | None) -> list[Device]:
    """Read what ``nvidia-smi`` says, and keep what CUDA_VISIBLE_DEVICES leaves.

    Parameters
    ----------
    table
        Of index, UUID, name and total memory, comma-separated, one GPU a line.
    listing
        What ``nvidia-smi -L`` prints; needed for MIG instances only.
    mask
        CUDA_VISIBLE_DEVICES: indices, or UUIDs of GPUs (their beginnings do) and MIG instances;
        what follows a name that is not there doesn't count, as CUDA has it. None leaves all.
    """
    rows = [[cell.strip() for cell in line.split(",")] for line in table.splitlines()]
    rows = [row for row in rows if len(row) == 4]
    if mask is None:
        return [(name, memory) for _, _, name, memory in rows]
    instances = {gpu.uuid: (gpu.name, gpu.memory) for gpu in listed_gpus(listing)}
    found: list[Device] = []
    for wanted in (part.strip() for part in mask.split(",")):
        gpus = [
            (name, memory)
            for index, uuid, name, memory in rows
            if wanted == index or (wanted.startswith("GPU-") and uuid.startswith(wanted))
        ]
        if not gpus and wanted in instances:
            gpus = [instances[wanted]]
        if not gpus:
            break
        found += gpus[:1]
    return found


@dataclass(frozen=True)
class ListedGpu:
    """A GPU, or an instance of one, as ``nvidia-smi -L`` lists it.

    Attributes
    ----------
    index
        Its number; None for an instance, which has none of its own.
    uuid
        Begins with ``GPU-`` or ``MIG-``.
    name
        Its model; for an instance with its profile, such as ``NVIDIA A100 MIG 1g.5gb``.
    """

    index: str | None
    uuid: str
    name: str

    @property
    def memory(self) -> str:
        """An instance's memory, which its profile names; '' where it names none."""
        found = re.search(r" MIG \S*?(\d+)gb", self.name)
        return f"{found[1]} GB" if found else ""


def listed_gpus(listing: str) -> list[ListedGpu]:
    """Read what ``nvidia-smi -L`` prints."""
    found: list[ListedGpu] = []
    name = ""
    for line in listing.splitlines():
        if match := _GPU_LINE.match(line):
            name = match["name"]
            found.append(ListedGpu(match["index"], match["uuid"], name))
        elif match := _MIG_LINE.match(line):
            found.append(ListedGpu(None, match["uuid"], f"{name} MIG {match['profile']}"))
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
