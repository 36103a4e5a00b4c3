"""What only Ray gives: nodes, shares of GPUs, folders that travel."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("ray")

import ray
from waiting import ends

from ecg_mlflow.errors import DeviceError
from ecg_mlflow.executors import ray_actor, ray_worker
from ecg_mlflow.executors.base import Event, ExecutorError, Job, OutcomeState
from ecg_mlflow.executors.ray_cluster import RayExecutor, RayShare
from ecg_mlflow.files import cache_root

pytestmark = [pytest.mark.slow, pytest.mark.server]
nightly = pytest.mark.nightly

HERE = Path(__file__).parent


@pytest.mark.parametrize("share", [0.5, pytest.param(1, marks=nightly)])
def test_each_worker_sees_its_gpu_alone(on_ray, share):
    n_workers = int(2 / share)
    executor = on_ray.open(n_workers, gpus=share)
    jobs = {f"{i}": "stay never" for i in range(n_workers)}
    found = on_ray.first_events(executor, **jobs).values()
    gpus = [(data["node"], data["env"]["CUDA_VISIBLE_DEVICES"]) for data in found]
    assert sorted(gpus) == [(node, "0") for node in "01" for _ in range(n_workers // 2)]
    assert len({data["pid"] for data in found}) == n_workers
    for data in found:
        assert data["env"]["ECG_MLFLOW_DEVICE"] == "gpu:0"
        assert data["env"]["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_a_worker_without_a_gpu_sees_none(on_ray, monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    monkeypatch.setenv("HOME", "/home/of/the/driver")
    env = on_ray.begin("stay here", cpus=2)[1]["env"]
    assert env["CUDA_VISIBLE_DEVICES"] == ""
    assert env["ECG_MLFLOW_DEVICE"] == "cpu"
    assert env["TF_NUM_INTRAOP_THREADS"] == env["OMP_NUM_THREADS"] == "2"
    assert env["PYTHONHASHSEED"] == "0"
    assert env["KERAS_BACKEND"] == "jax", "the user's choice travels"
    assert env["HOME"] != "/home/of/the/driver", "the driver's own does not"
    assert "MLFLOW_RUN_ID" not in env


def test_a_worker_stays_until_it_dies_and_its_death_is_told(on_ray, capfd):
    executor = on_ray.open()
    pid = on_ray.run(executor, "pid").value
    assert on_ray.first_events(executor, a="sleep")["a"]["pid"] == pid
    os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    for _ in range(2):
        executor.send("a", {"i": 1})  # is ignored, and not logged
        time.sleep(1)
    outcome = on_ray.drain(executor)[-1]
    assert outcome.state is OutcomeState.DIED
    assert f"worker 0 (pid {pid} on " in outcome.reason
    assert "its worker process has died" in outcome.reason
    assert "Ray says:" in outcome.error
    assert on_ray.run(executor, "read_what_is_there 0.2").value == []
    assert "nhandled" not in "".join(capfd.readouterr())


@nightly
@pytest.mark.parametrize(("how", "exitcode"), [("leave 3", 3), ("segfault", None), ("", None)])
def test_a_process_that_ends_is_replaced_whether_its_job_asks_for_that_or_not(
    on_ray, how, exitcode
):
    executor = on_ray.open()
    pid = on_ray.run(executor, "pid").value
    if how:
        outcome = on_ray.run(executor, how)
        assert (outcome.state, outcome.exitcode) == (OutcomeState.DIED, exitcode)
    else:  # while it is idle
        os.kill(pid, signal.SIGKILL)
    assert ends(pid)
    time.sleep(1)
    outcome = on_ray.run(executor, "pid")
    assert outcome.state is OutcomeState.DONE
    assert outcome.value != pid
    executor.shutdown(60)
    assert ends(outcome.value)
    assert ray.is_initialized(), "a Ray of the user's own is left alone"


def test_a_worker_that_no_kill_reaches_is_given_up(on_ray, monkeypatch):
    executor = on_ray.open()
    on_ray.run(executor, "echo")
    (worker,) = executor._workers
    with monkeypatch.context() as patch:
        patch.setattr(ray_worker, "_END", 1)
        patch.setattr(ray, "kill", lambda actor: None)
        executor.shutdown(3600)
    ray.kill(worker._actor)


def test_a_job_without_a_sign_of_life_is_killed_and_its_place_told(on_ray):
    executor, data = on_ray.begin("hang", hang_timeout=3)
    outcome = on_ray.outcome(executor, "a")
    assert outcome.state is OutcomeState.DIED
    assert outcome.reason.startswith(f"worker 0 (pid {data['pid']} on ")
    assert outcome.reason.endswith("gave no sign of life for 3 s and was killed")
    assert "in hang" in outcome.error
    assert ends(data["pid"])
    assert on_ray.run(executor, "report_slowly 0.6").value == "slow"
    on_ray.first_events(executor, b="tick")
    time.sleep(3.5)  # the driver was busy: what it finds now are signs of life
    assert list(executor.events(60))
    executor.shutdown(60)
    assert on_ray.drain(executor)[-1].reason == "stopped as asked"


def test_an_exclusive_job_has_a_gpu_of_its_own_and_the_other_one_goes_on(on_ray, tmp_path):
    executor = on_ray.open(4, gpus=0.5)
    files = {key: tmp_path / key for key in ("a", "b", "c", "d", "alone", "behind")}
    jobs = {key: f"stay {file}" for key, file in files.items()}
    found = on_ray.first_events(executor, **{key: jobs[key] for key in "abcd"})
    pids = {node: [one["pid"] for one in found.values() if one["node"] == node] for node in "01"}
    keys = {node: [key for key, one in found.items() if one["node"] == node] for node in "01"}
    executor.submit(Job("alone", jobs["alone"].encode(), exclusive=True))
    for node in "01":  # one of them is to be vacated, the other one has an idle worker
        files[keys[node][0]].touch()
        on_ray.outcome(executor, keys[node][0])
    behind = on_ray.first_events(executor, behind=jobs["behind"])["behind"]["node"]
    (vacated,) = {"0", "1"} - {behind}
    assert executor.free_slots == 0
    assert list(executor.events(1)) == []
    files[keys[vacated][1]].touch()
    event = on_ray.wait_for(executor, lambda r: isinstance(r, Event) and r.key == "alone")
    assert event.data["node"] == vacated
    (other,) = set(pids[vacated]) - {event.data["pid"]}
    assert ends(other)
    files[keys[behind][1]].touch()
    on_ray.outcome(executor, keys[behind][1])
    assert executor.free_slots == 1  # on the other GPU
    files["alone"].touch()
    files["behind"].touch()
    on_ray.drain(executor)
    assert executor.free_slots == 4


@nightly
def test_a_job_waits_for_room_without_being_taken_for_hung(on_ray):
    holder = on_ray.open(2, gpus=1)
    on_ray.first_events(holder, a="tick", b="tick")
    executor = on_ray.open(1, gpus=0.5, hang_timeout=3)
    on_ray.submit(executor, waits="pid", behind="pid")
    given_up = on_ray.open(1, gpus=0.5)
    on_ray.submit(given_up, never="pid")
    assert list(executor.events(4)) == []
    given_up.shutdown(60)
    assert [one.reason for one in on_ray.drain(given_up)] == ["cancelled before it started"]
    holder.shutdown(60)
    assert [one.state for one in on_ray.drain(executor)] == [OutcomeState.DONE] * 2


def test_messages_go_along_when_another_worker_takes_a_job_over(on_ray):
    holder = on_ray.open(1, gpus=1)
    on_ray.first_events(holder, holds="tick")
    executor = on_ray.open(2, gpus=1)
    pid = on_ray.first_events(executor, a="read")["a"]["pid"]
    on_ray.submit(executor, b="read")
    executor.send("b", {"i": 0})
    assert list(executor.events(0.5)) == []
    executor.send("b", {"i": 1, "last": True})
    executor.send("a", {"last": True})
    *_, event, outcome = on_ray.drain(executor)
    assert (event.key, event.data["pid"]) == ("b", pid), "its first worker found no room"
    assert outcome.value == [{"i": 0}, {"i": 1, "last": True}]


def test_a_lost_node_is_told_and_its_job_can_run_on_the_other(on_ray, two_nodes, tmp_path):
    executor = on_ray.open(2, gpus=1)
    files = {key: tmp_path / key for key in "ab"}
    jobs = {key: f"stay {file}" for key, file in files.items()}
    found = on_ray.first_events(executor, **jobs)
    (lost,) = [key for key, data in found.items() if data["node"] == "1"]
    (kept,) = found.keys() - {lost}
    try:
        two_nodes.remove_second()
        outcome = on_ray.outcome(executor, lost)
        assert outcome.state is OutcomeState.DIED
        assert "node" in outcome.reason
        on_ray.submit(executor, **{lost: jobs[lost]})
        files[kept].touch()
        on_ray.outcome(executor, kept)
        # The worker that is idle by now holds the only GPU left, and takes the job over.
        event = on_ray.wait_for(executor, lambda r: isinstance(r, Event) and r.key == lost)
        assert event.data["node"] == "0"
    finally:
        executor.shutdown(0)
        two_nodes.add_second()


@pytest.fixture
def folder(cache, tmp_path, monkeypatch):
    monkeypatch.setattr(ray_actor, "CHUNK", 1000)
    folder = cache / tmp_path.name / "hash"
    (folder / "deep").mkdir(parents=True)
    (folder / "signals").write_bytes(os.urandom(5500))
    (folder / "deep" / "labels").write_bytes(b"AF")
    return folder


def test_a_folder_reaches_every_node_that_lacks_it(on_ray, two_nodes, folder):
    expected = {"signals": (folder / "signals").read_bytes(), "deep/labels": b"AF"}
    name = folder.relative_to(cache_root())
    there = two_nodes.caches[0] / name
    there.mkdir(parents=True)
    (there / "signals").write_bytes(b"as it was")
    executor = on_ray.open(2, gpus=1, folder=folder)
    found = on_ray.first_events(executor, a=f"read_files {name}", b=f"read_files {name}")
    files = {data["node"]: data["files"] for data in found.values()}
    assert files == {"0": {"signals": b"as it was"}, "1": expected}
    assert {path.name for path in (two_nodes.caches[1] / name).parent.iterdir()} <= {
        folder.name,
        f".{folder.name}.lock",
    }


def test_a_folder_that_is_missing_or_has_no_room_fails_the_job_and_says_why(
    on_ray, two_nodes, folder
):
    places = [cache / folder.parent.name for cache in two_nodes.caches]
    executor = on_ray.open(folder=folder)
    folder.rename(folder.with_name("moved"))
    outcome = on_ray.run(executor, "pid")
    assert outcome.state is OutcomeState.FAILED
    assert f"FileNotFoundError: the folder {folder} is missing" in outcome.reason
    folder.with_name("moved").rename(folder)
    for place in places:
        place.parent.mkdir(exist_ok=True)
        place.touch()
    outcome = on_ray.run(executor, "pid")
    assert outcome.state is OutcomeState.FAILED
    assert re.search(f"could not be made ready: .*/{folder.parent.name}", outcome.reason)
    for place in places:
        place.unlink()
    assert on_ray.run(executor, "echo on").value == "on"


@pytest.mark.parametrize(
    ("n_workers", "options", "said"),
    [
        (1, {"gpus": 1.5}, "gpus_per_worker=1.5: write whole GPUs, or a fraction of one"),
        (3, {"gpus": 1}, "3 workers with 1 CPUs and 1 GPUs each .* has room for 2; its nodes"),
        (1, {"gpus": 2}, "room for 0; its nodes have 4 CPUs and 1 GPUs; 4 CPUs and 1 GPUs"),
        (5, {"gpus": 0.5, "cpus": 0.5}, "5 workers with 0.5 CPUs .* room for 4"),
        (3, {"cpus": 3}, "room for 2"),
    ],
)
def test_more_than_the_cluster_could_ever_hold_is_an_error(on_ray, n_workers, options, said):
    with pytest.raises(DeviceError, match=said):
        on_ray.open(n_workers, **options)
    assert ray.is_initialized()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no.such.host.invalid:6379", "auto"])
def test_no_cluster_at_the_address_is_an_error_at_once(address, monkeypatch):
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "init", refuse)
    with pytest.raises(ExecutorError, match=f"can't connect to Ray at {address}: .*`ray start"):
        RayExecutor("jobs:do", RayShare(1, address))


def refuse(address, **options):
    if address != "auto":
        pytest.fail("it would try for minutes")
    raise ConnectionError("Could not find any running Ray instance")


DRIVER = """
import os, signal, sys, time
from ecg_mlflow.executors.base import Event, Job
from ecg_mlflow.executors.factory import make_executor
assert "ray" not in sys.modules
handler = lambda *_: None
signal.signal(signal.SIGTERM, handler)
from ecg_mlflow.executors.ray_cluster import RayExecutor, RayShare, ray
executor = RayExecutor("jobs:do", RayShare(1, cpus=0.5))
assert signal.getsignal(signal.SIGTERM) is handler
executor.submit(Job("a", b"tick"))
while executor.n_pending:
    for report in executor.events(1):
        if isinstance(report, Event):
            print(report.data.get("pid"), flush=True)
            if "once" in sys.argv:
                executor.shutdown(60)
assert not ray.is_initialized()
print("over", flush=True)
"""


def a_driver(*arguments, address=""):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        cwd=HERE.parents[1],
        env={**os.environ, "PYTHONPATH": str(HERE), "RAY_ADDRESS": address},
    )


def test_a_ray_that_the_executor_started_ends_with_it():
    with a_driver("once") as driver:
        pid = int(driver.stdout.readline())
        assert driver.stdout.read().endswith("over\n")
        assert driver.wait() == 0
        assert ends(pid)


@pytest.mark.parametrize("kind", ["cluster", pytest.param("own", marks=nightly)])
def test_a_killed_drivers_jobs_end(two_nodes, kind):
    with a_driver(address=two_nodes.cluster.address if kind == "cluster" else "") as driver:
        pid = int(driver.stdout.readline())
        driver.kill()
        driver.wait()
        assert ends(pid)
