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
from ecg_mlflow import provenance as module
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
    visible_gpus,
    worker_tags,
)

TABLE = """\
0, GPU-aaaa1111-0000, NVIDIA A100-SXM4-40GB, 40960 MiB
1, GPU-bbbb2222-0000, NVIDIA A100-SXM4-40GB, 40960 MiB
2, GPU-cccc3333-0000, NVIDIA H100 80GB HBM3, 81559 MiB
"""
LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-aaaa1111-0000)
  MIG 3g.20gb     Device  0: (UUID: MIG-11111111-aaaa)
  MIG 1g.5gb      Device  1: (UUID: MIG-22222222-aaaa)
GPU 2: NVIDIA H100 80GB HBM3 (UUID: GPU-cccc3333-0000)
"""
A100 = ("NVIDIA A100-SXM4-40GB", "40960 MiB")
H100 = ("NVIDIA H100 80GB HBM3", "81559 MiB")


@pytest.fixture(autouse=True)
def _asked_anew():
    module._gpus.cache_clear()
    yield
    module._gpus.cache_clear()


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    """Put a program of that name on the path, which notes that it was called."""

    def install(body: str) -> Path:
        calls = tmp_path / "calls"
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!{sys.executable}\nopen({str(calls)!r}, 'a').write('x')\n{body}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return calls

    return install


@pytest.mark.parametrize(
    ("mask", "gpus"),
    [
        (None, [A100, A100, H100]),
        ("0,1,2", [A100, A100, H100]),
        ("2", [H100]),
        ("GPU-cccc3333-0000", [H100]),
        ("GPU-cccc", [H100]),
        ("2,0", [H100, A100]),
        ("0,-1,2", [A100]),
        ("-1", []),
        ("7", []),
        ("NoDevFiles", []),
        ("MIG-22222222-aaaa", [("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "5 GB")]),
    ],
)
def test_visible_gpus(mask, gpus):
    assert visible_gpus(TABLE, LISTING, mask) == gpus


def test_gpus_are_counted_by_name(nvidia_smi):
    nvidia_smi(f"print({TABLE!r}, end='')")
    tags = machine_tags({})
    assert tags["ecg_mlflow.device"] == "2 x NVIDIA A100-SXM4-40GB, NVIDIA H100 80GB HBM3"
    assert tags["ecg_mlflow.device_memory"] == "40960 MiB, 81559 MiB"
    assert tags["ecg_mlflow.host"] == socket.gethostname()


def test_the_program_is_asked_once(nvidia_smi):
    calls = nvidia_smi(f"print({TABLE!r}, end='')")
    for _ in range(3):
        machine_tags({"CUDA_VISIBLE_DEVICES": "2"})
    assert calls.read_text() == "x"


def test_hidden_gpus_are_not_asked_for(nvidia_smi):
    calls = nvidia_smi(f"print({TABLE!r}, end='')")
    tags = machine_tags({"CUDA_VISIBLE_DEVICES": ""})
    assert tags["ecg_mlflow.device"].startswith("cpu: ")
    assert tags["ecg_mlflow.device_memory"].endswith(" GiB RAM")
    assert not calls.exists()


def test_without_the_program_it_is_the_processor(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert machine_tags({})["ecg_mlflow.device"].startswith("cpu: ")


@pytest.mark.parametrize("body", ["import sys; sys.exit(9)", "import time; time.sleep(60)"])
def test_a_program_that_fails_or_hangs_is_no_error(nvidia_smi, body, monkeypatch):
    monkeypatch.setattr(module, "_TIMEOUT_S", 0.5)
    nvidia_smi(body)
    tags = machine_tags({})
    assert tags["ecg_mlflow.device"].startswith("unknown: nvidia-smi failed (")
    assert "ecg_mlflow.device_memory" not in tags


def test_memory_is_at_most_the_containers(tmp_path, monkeypatch):
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(module, "_MEMORY_LIMIT", limit)
    limit.write_text(f"{3 * 2**29}\n")
    assert module._memory.__wrapped__() == "1.5 GiB RAM"
    limit.write_text("max\n")
    assert module._memory.__wrapped__() != "1.5 GiB RAM"


def test_slurm_ids():
    environ = {"SLURM_JOB_ID": "12", "SLURM_ARRAY_JOB_ID": "10", "SLURM_ARRAY_TASK_ID": "2"}
    assert cluster_tags({**environ, "SLURM_JOB_NAME": "af"}) == {
        "ecg_mlflow.slurm_job_id": "12",
        "ecg_mlflow.slurm_array_job_id": "10",
        "ecg_mlflow.slurm_array_task_id": "2",
        "ecg_mlflow.slurm_job_name": "af",
    }


def test_kubernetes_pod(tmp_path, monkeypatch):
    file = tmp_path / "namespace"
    file.write_text("research\n")
    monkeypatch.setattr(module, "_NAMESPACE_FILE", file)
    inside = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "HOSTNAME": "train-x7f"}
    pod, namespace = "ecg_mlflow.kubernetes_pod", "ecg_mlflow.kubernetes_namespace"
    assert cluster_tags(inside) == {pod: "train-x7f", namespace: "research"}
    named = {**inside, "POD_NAME": "train-0", "POD_NAMESPACE": "ecg"}
    assert cluster_tags(named) == {pod: "train-0", namespace: "ecg"}


def test_outside_of_clusters_there_are_no_ids():
    assert cluster_tags({"HOSTNAME": "laptop"}) == {}


def test_a_worker_says_its_place_and_the_devices_name(nvidia_smi, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2")
    nvidia_smi(f"print({TABLE!r}, end='')")
    tags = worker_tags("gpu:2")
    assert tags["ecg_mlflow.device"] == "gpu:2"
    assert tags["ecg_mlflow.device_name"] == "NVIDIA H100 80GB HBM3"
    assert tags["ecg_mlflow.device_memory"] == "81559 MiB"


def test_all_tags_are_those_of_a_machine(nvidia_smi):
    nvidia_smi(f"print({TABLE!r}, end='')")
    environ = {"SLURM_JOB_ID": "1", "KUBERNETES_SERVICE_HOST": "h", "POD_NAME": "p"}
    assert machine_tags(environ).keys() | worker_tags("cpu").keys() <= MACHINE_TAGS


# --- Processes ---


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def mark_of(pid: int) -> ProcessMark:
    return replace(ProcessMark.own(), pid=pid, birth=_birth(pid))


def test_a_mark_survives_its_way_through_tags():
    mark = ProcessMark.own()
    assert mark.pid == os.getpid()
    assert ProcessMark.from_tags(mark.tags()) == mark


@pytest.mark.parametrize("lacking", ["ecg_mlflow.pid", "ecg_mlflow.host"])
def test_a_run_without_a_mark_has_none(lacking):
    tags = ProcessMark.own().tags()
    del tags[lacking]
    assert ProcessMark.from_tags(tags) is None


def test_a_process_of_this_machine_is_alive_until_it_ends(sleeper):
    mark = mark_of(sleeper.pid)
    assert mark.is_alive(silent_s=float("inf"))
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)
    assert not mark.is_alive(silent_s=0), "a zombie does nothing any more"
    sleeper.wait()
    assert not mark.is_alive(silent_s=0)


def test_another_process_with_the_same_number_is_another_process(sleeper):
    mark = replace(mark_of(sleeper.pid), birth="1")
    assert not mark.is_alive(silent_s=0)


@pytest.mark.parametrize("change", [{"host": "elsewhere"}, {"world": "another boot"}])
def test_elsewhere_heartbeats_decide(change):
    mark = replace(ProcessMark.own(), **change)
    assert mark.is_alive(silent_s=SILENCE_S - 1)
    assert not mark.is_alive(silent_s=SILENCE_S + 1)


@pytest.mark.parametrize("beat", ["ended", "", "1795538125", "2026-11-24T16:35:25"])
def test_what_is_no_heartbeat_was_never_one(beat):
    assert seconds_since(beat) == float("inf")


def test_a_heartbeat_is_a_time_that_people_can_read():
    (beat,) = heartbeat().values()
    assert beat.endswith("+00:00")
    assert 0 <= seconds_since(beat) < 5


# --- Versions ---


def test_versions_are_one_short_line():
    (found,) = version_tags().values()
    names = [part.split(" ")[0] for part in found.split(", ")]
    assert names == ["ecg_mlflow", "keras", "mlflow", "numba", "numpy", "tensorflow", "python"]
    assert found.endswith(f"python {'.'.join(map(str, sys.version_info[:3]))}")


def test_a_package_that_is_not_there_is_left_out(monkeypatch):
    monkeypatch.setitem(provenance._PACKAGES, "numba", ("no-such-distribution",))
    (found,) = version_tags.__wrapped__().values()
    assert "numba" not in found


def test_the_first_name_that_is_installed_counts():
    assert pinned("no-such-package", "numpy", "keras") == f"numpy=={version('numpy')}"


def test_a_package_that_is_not_there():
    with pytest.raises(ModelError, match=r"called no-such-package or nor-this, so .* be pinned"):
        pinned("no-such-package", "nor-this")
