"""What a run says of its machine, by what ``nvidia-smi``, Slurm and Kubernetes say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import pytest

from ecg_mlflow import provenance
from ecg_mlflow.errors import ModelError
from ecg_mlflow.provenance import (
    MACHINE_TAGS,
    SILENCE_S,
    ProcessMark,
    _birth,
    cluster_tags,
    heartbeat,
    machine_tags,
    pinned,
    seconds_since,
    version_tags,
    worker_tags,
)

LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000)
  MIG 3g.20gb     Device  0: (UUID: MIG-11111111-aaaa)
  MIG 1g.5gb      Device  1: (UUID: MIG-22222222-aaaa)
GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-bbbb2222-0000)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-cccc3333-0000)
"""
MEMORY = """\
GPU-aaaa1111-0000, 40960 MiB
GPU-bbbb2222-0000, 40960 MiB
GPU-cccc3333-0000, 81559 MiB
"""
ANSWER = f"print({LISTING!r} if sys.argv[1] == '-L' else {MEMORY!r}, end='')"
A100, H100 = "NVIDIA A100-SXM4-40GB", "NVIDIA H100 80GB HBM3"


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of that name on the path, which notes that it was called."""

    def install(body: str = ANSWER) -> Path:
        calls = tmp_path / "calls"
        program = tmp_path / "nvidia-smi"
        note = f"open({str(calls)!r}, 'a').write('x')"
        program.write_text(f"#!{sys.executable}\nimport sys, time\n{note}\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return calls

    provenance._named_gpus.cache_clear()
    yield install
    provenance._named_gpus.cache_clear()


@pytest.mark.parametrize(
    ("mask", "device", "memory"),
    [
        (None, f"2 x {A100}, {H100}", "40960 MiB, 81559 MiB"),
        ("GPU-cccc3333-0000", H100, "81559 MiB"),
        ("GPU-cccc", H100, "81559 MiB"),
        ("2", H100, "81559 MiB"),
        ("2,0", f"{H100}, {A100}", "81559 MiB, 40960 MiB"),
        ("0,-1,2", A100, "40960 MiB"),
        ("-1", "cpu: ", " GiB RAM"),
        ("7", "cpu: ", " GiB RAM"),
        ("NoDevFiles", "cpu: ", " GiB RAM"),
        ("MIG-22222222-aaaa", f"{A100} MIG 1g.5gb", "5 GB"),
    ],
)
def test_the_device_is_what_cuda_may_use(nvidia_smi, mask, device, memory):
    nvidia_smi()
    tags = machine_tags({} if mask is None else {"CUDA_VISIBLE_DEVICES": mask})
    assert tags["ecg_mlflow.host"] == socket.gethostname()
    assert tags["ecg_mlflow.device"].startswith(device)
    assert tags["ecg_mlflow.device_memory"].endswith(memory)


def test_the_program_is_asked_once_and_not_for_hidden_gpus(nvidia_smi):
    calls = nvidia_smi()
    assert machine_tags({"CUDA_VISIBLE_DEVICES": ""})["ecg_mlflow.device"].startswith("cpu: ")
    assert not calls.exists()
    for _ in range(3):
        machine_tags({"CUDA_VISIBLE_DEVICES": "2"})
    assert calls.read_text() == "xx"  # for names, and for memory


@pytest.mark.parametrize(
    ("body", "device"),
    [
        (None, "cpu: "),
        ("sys.exit(9)", "unknown: nvidia-smi failed (CalledProcessError)"),
        ("time.sleep(60)", "unknown: nvidia-smi failed (TimeoutExpired)"),
    ],
)
def test_a_program_that_is_missing_fails_or_hangs_is_no_error(
    nvidia_smi, tmp_path, monkeypatch, body, device
):
    monkeypatch.setattr(provenance, "_TIMEOUT_S", 0.5)
    monkeypatch.setenv("PATH", str(tmp_path))
    if body:
        nvidia_smi(body)
    tags = machine_tags({})
    assert tags["ecg_mlflow.device"].startswith(device)
    assert ("ecg_mlflow.device_memory" in tags) is (body is None)


def test_memory_is_at_most_the_containers(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(provenance, "_MEMORY_LIMIT", limit)
    limit.write_text(f"{3 * 2**29}\n")
    assert provenance._memory.__wrapped__() == "1.5 GiB RAM"
    limit.write_text("max\n")
    assert provenance._memory.__wrapped__() != "1.5 GiB RAM"


SLURM = ("job_id", "job_name", "array_job_id", "array_task_id")
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-x7f"}


@pytest.mark.parametrize(
    ("environ", "tags"),
    [
        ({f"SLURM_{one.upper()}": one for one in SLURM}, {f"slurm_{one}": one for one in SLURM}),
        (POD, {"kubernetes_pod": "train-x7f", "kubernetes_namespace": "research"}),
        (
            {**POD, "POD_NAME": "train-0", "POD_NAMESPACE": "ecg"},
            {"kubernetes_pod": "train-0", "kubernetes_namespace": "ecg"},
        ),
        ({"HOSTNAME": "laptop"}, {}),
    ],
)
def test_what_slurm_and_kubernetes_call_the_job(tmp_path, monkeypatch, environ, tags):
    file = tmp_path / "namespace"
    file.write_text("research\n")
    monkeypatch.setattr(provenance, "_NAMESPACE_FILE", file)
    found = cluster_tags(environ)
    assert found == {f"ecg_mlflow.{key}": value for key, value in tags.items()}
    assert found.keys() <= MACHINE_TAGS


def test_a_worker_says_its_place_and_the_devices_name(nvidia_smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    nvidia_smi()
    tags = worker_tags("gpu:2")
    assert (tags["ecg_mlflow.device"], tags["ecg_mlflow.device_name"]) == ("gpu:2", H100)
    assert tags.keys() <= MACHINE_TAGS


# --- Processes ---


def test_a_mark_survives_its_way_through_tags():
    mark = ProcessMark.own()
    assert mark.pid == os.getpid()
    assert ProcessMark.from_tags(mark.tags()) == mark
    for lacking in ("ecg_mlflow.pid", "ecg_mlflow.host"):
        tags = {key: text for key, text in mark.tags().items() if key != lacking}
        assert ProcessMark.from_tags(tags) is None


def test_a_process_of_this_machine_is_alive_until_it_ends():
    command = [sys.executable, "-c", "input()"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as sleeper:
        mark = replace(ProcessMark.own(), pid=sleeper.pid, birth=_birth(sleeper.pid))
        assert mark.is_alive(silent_s=float("inf"))
        assert not replace(mark, birth="1").is_alive(silent_s=0), "another one with its number"
        sleeper.kill()
        os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
        assert not mark.is_alive(silent_s=0), "a zombie does nothing any more"
    assert not mark.is_alive(silent_s=0)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"world": "another boot"}])
def test_elsewhere_heartbeats_decide(change):
    mark = replace(ProcessMark.own(), **change)
    assert mark.is_alive(silent_s=SILENCE_S - 1)
    assert not mark.is_alive(silent_s=SILENCE_S + 1)


def test_a_heartbeat_is_a_time_that_people_can_read():
    (beat,) = heartbeat().values()
    assert beat.endswith("+00:00")
    assert 0 <= seconds_since(beat) < 5
    for other in ("ended", "", "1795538125", "2026-11-24T16:35:25"):
        assert seconds_since(other) == float("inf")


# --- Versions ---


def test_versions_are_one_short_line_of_the_packages_that_are_there(monkeypatch):
    monkeypatch.setitem(provenance._PACKAGES, "numba", ("no-such-distribution",))
    (found,) = version_tags.__wrapped__().values()
    names = [part.split(" ")[0] for part in found.split(", ")]
    assert names == ["ecg_mlflow", "keras", "mlflow", "numpy", "tensorflow", "python"]
    assert found.endswith(f"python {'.'.join(map(str, sys.version_info[:3]))}")


def test_a_requirement_is_the_first_name_that_is_installed():
    assert pinned("no-such-package", "numpy", "keras") == f"numpy=={version('numpy')}"
    with pytest.raises(ModelError, match=r"called no-such-package or nor-this, so .* be pinned"):
        pinned("no-such-package", "nor-this")
