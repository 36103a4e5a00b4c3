import os
import stat

import pytest

from ecg_mlflow.errors import DeviceError
from ecg_mlflow.executors import devices
from ecg_mlflow.executors.devices import (
    Slot,
    build_env,
    build_travelling_env,
    count_cores,
    find_gpus,
    plan_slots,
)

FOUR = ["0", "GPU-a", "1", "GPU-b", "2", "GPU-c", "3", "GPU-d", "MIG-x"]


@pytest.mark.parametrize(
    ("workers", "n_cores", "n_slots", "threads"),
    [(None, 4, 4, 1), (2, 4, 2, 2), (1, 4, 1, 4), (3, 4, 3, 1), (8, 4, 8, 1), (None, 1, 1, 1)],
)
@pytest.mark.parametrize("gpus", [None, " "])
def test_cpu_workers_share_the_cores(workers, n_cores, n_slots, threads, gpus):
    slots = plan_slots(workers, gpus, n_cores, visible=FOUR)
    assert plan_slots(1, gpus, 8, threads=3)[0].env["OMP_NUM_THREADS"] == "3"
    assert [(slot.index, slot.device) for slot in slots] == [(i, "cpu") for i in range(n_slots)]
    for slot in slots:
        assert slot.env["CUDA_VISIBLE_DEVICES"] == ""
        assert slot.env["TF_NUM_INTRAOP_THREADS"] == slot.env["OMP_NUM_THREADS"] == str(threads)


@pytest.mark.parametrize(
    ("workers", "gpus", "devices"),
    [
        (None, "1,2,3", "1 2 3"),
        (3, "1,2,3", "1 2 3"),
        (None, " 2 , 0 ", "2 0"),
        (6, "0,1,2", "0 1 2 0 1 2"),
        (4, "1", "1 1 1 1"),
        (None, "0:2,1", "0 1 0"),
        (3, "0:2,1", "0 1 0"),
        (None, "GPU-c,MIG-x:2", "GPU-c MIG-x MIG-x"),
        (None, "MIG-x:2,GPU-a", "MIG-x GPU-a MIG-x"),
        (3, "GPU-a", "GPU-a GPU-a GPU-a"),
        (4, "MIG-x,GPU-a", "MIG-x GPU-a MIG-x GPU-a"),
        (None, "0,GPU-b", "0 GPU-b"),
    ],
)
def test_gpu_workers(workers, gpus, devices):
    slots = plan_slots(workers, gpus, n_cores=12, visible=FOUR)
    assert [slot.device for slot in slots] == [f"gpu:{gpu}" for gpu in devices.split()]
    assert [slot.env["CUDA_VISIBLE_DEVICES"] for slot in slots] == devices.split()
    assert all(slot.env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID" for slot in slots)
    assert all(slot.env["TF_FORCE_GPU_ALLOW_GROWTH"] == "true" for slot in slots)
    assert {slot.env["NUMBA_NUM_THREADS"] for slot in slots} == {str(12 // len(slots))}


@pytest.mark.parametrize(
    ("workers", "gpus", "said"),
    [
        (4, "0,1,2", "4 workers can't be shared out equally among 3 GPUs"),
        (4, "0:2,1", "makes 3 workers, but workers=4"),
        (None, "0,7,9", "asks for 7, 9, .* GPUs found: 0, GPU-a, 1"),
        (None, "0,0", "names GPU 0 twice; for two workers on it write 0:2"),
        (None, "0,GPU-a", "names one GPU twice: 0 is GPU-a"),
        (None, "GPU-c:2,2", "names one GPU twice: 2 is GPU-c"),
        (None, "MIG-y:2,GPU-a", "asks for MIG-y, .* GPUs found: .*MIG-x"),
        (None, "MIG-x:2:1", "can't read 'MIG-x:2:1'"),
        (None, "0,,1", "can't read ''"),
        (None, "0:", "can't read '0:'"),
        (None, "0:0", "can't read '0:0'"),
        (None, "0:x", "can't read '0:x'"),
        (None, ":2", "can't read ':2'"),
    ],
)
def test_what_cannot_be_shared_out_is_an_error(workers, gpus, said):
    with pytest.raises(DeviceError, match=said):
        plan_slots(workers, gpus, n_cores=4, visible=FOUR)
    with pytest.raises(DeviceError, match=r"GPUs found: none\. Leave gpus out to run on the CPU"):
        plan_slots(None, "MIG-x:2", n_cores=4)


def test_the_environment_of_a_worker():
    base = {"MLFLOW_RUN_ID": "r", "HOME": "/h", "KERAS_BACKEND": "jax", "OMP_NUM_THREADS": "9"}
    env = build_env(Slot(0, "gpu:MIG-x", {"OMP_NUM_THREADS": "1"}), base)
    assert "MLFLOW_RUN_ID" not in env
    assert (
        env.items()
        >= {
            "HOME": "/h",
            "KERAS_BACKEND": "jax",  # the user's choice wins over a default
            "OMP_NUM_THREADS": "1",  # the slot wins over the user's choice
            "PYTHONHASHSEED": "0",
            "TF_CPP_MIN_LOG_LEVEL": "2",
            "TF_MKL_OPTIMIZE_PRIMITIVE_MEMUSE": "false",
            "ECG_MLFLOW_DEVICE": "gpu:MIG-x",
        }.items()
    )
    base = {**base, "MLFLOW_TRACKING_URI": "http://store", "ECG_MLFLOW_CHECKPOINTS": "/shared"}
    own = {"ECG_MLFLOW_CACHE": "/mine", "KERAS_BACKEND_NOTE": "mine"}
    travelling = build_travelling_env(Slot(0, "cpu"), base | own)
    assert travelling == build_env(Slot(0, "cpu"), {}) | {
        name: base[name]
        for name in ("KERAS_BACKEND", "MLFLOW_TRACKING_URI", "ECG_MLFLOW_CHECKPOINTS")
    }


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


MIG = "MIG-c7384736-a75d-5afc-978f-d2f1294409fd"


@pytest.mark.parametrize(
    ("environ", "found"),
    [
        ({}, ["0", "GPU-5c89852c-d268-c3f3-1b07-005d5ae1dc3f", MIG, "10", "GPU-b"]),
        ({"CUDA_VISIBLE_DEVICES": "10"}, ["10", "GPU-b"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-b, 7"}, ["10", "GPU-b"]),
        ({"CUDA_VISIBLE_DEVICES": MIG}, [MIG]),
        ({"CUDA_VISIBLE_DEVICES": ""}, []),
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists_and_cuda_may_see(
    nvidia_smi, monkeypatch, tmp_path, environ, found
):
    nvidia_smi(f"test \"$1\" = -L && cat <<'END'\n{LISTING}END")
    assert find_gpus(environ) == found
    monkeypatch.setenv("PATH", str(tmp_path / "none"))
    assert find_gpus(environ) == []


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
    ("quota", "cores"),
    [(None, 6), ("max 100000", 6), ("", 6), ("200000 100000", 2), ("150000 100000", 2), ("1 9", 1)],
)
def test_cores_are_those_of_the_affinity_within_the_quota(monkeypatch, tmp_path, quota, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(6)), raising=False)
    monkeypatch.setattr(devices, "_CPU_QUOTA", tmp_path / "cpu.max")
    if quota is not None:
        (tmp_path / "cpu.max").write_text(quota)
    assert count_cores() == cores
