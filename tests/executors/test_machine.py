import os
import stat

import pytest

from ecg_mlflow.errors import DeviceError
from ecg_mlflow.executors import count_cores, find_gpus, machine

LISTING = """\
GPU 0: NVIDIA A100-SXM4-40GB (UUID: GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f)
  MIG 3g.20gb     Device  0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
GPU 10: Tesla V100 (UUID: GPU-b)
"""


@pytest.fixture
def nvidia_smi(tmp_path, monkeypatch):
    def install(script):
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    return install


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        (
            {},
            [
                "0",
                "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f",
                "MIG-c7384736-a75d-5afc-978f-d2f1294409fd",
                "10",
                "GPU-b",
            ],
        ),
        ({"CUDA_VISIBLE_DEVICES": "10"}, ["10", "GPU-b"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-b, 7"}, ["10", "GPU-b"]),
        (
            {"CUDA_VISIBLE_DEVICES": "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"},
            ["MIG-c7384736-a75d-5afc-978f-d2f1294409fd"],
        ),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists_and_cuda_may_see(nvidia_smi, environ, found):
    nvidia_smi(f"test \"$1\" = -L && cat <<'END'\n{LISTING}END")
    assert find_gpus(environ) == found


def test_no_nvidia_smi_means_no_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus({}) == []


@pytest.mark.parametrize(
    ("script", "timeout", "said"),
    [
        ("echo 'Failed to initialize NVML'; exit 9", 100, "Failed to initialize NVML"),
        ("exec sleep 3600", 0.3, "timed out"),
    ],
)
def test_an_nvidia_smi_that_fails_is_an_error(nvidia_smi, script, timeout, said):
    nvidia_smi(script)
    with pytest.raises(DeviceError, match=said):
        find_gpus({}, timeout=timeout)


@pytest.mark.parametrize(
    ("content", "cores"),
    [
        ("max 100000", None),
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("1000 100000", 1),
        ("", None),
    ],
)
def test_the_quota_of_a_container(tmp_path, content, cores):
    file = tmp_path / "cpu.max"
    file.write_text(content)
    assert machine._quota(file) == cores


def test_cores_are_those_of_the_affinity_within_the_quota(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(machine, "_CPU_QUOTA", tmp_path / "none")
    assert count_cores() == 6
    (tmp_path / "none").write_text("400000 100000")
    assert count_cores() == 4
