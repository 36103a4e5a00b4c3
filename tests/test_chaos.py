"""Studies whose processes are killed at all moments, and are gone on with as if nothing had been.

Their drivers and workers are processes of their own; what they leave in the store is compared,
value by value, with a study that nobody has disturbed.
"""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter

import pytest
from chaos import FEW, FINISHED, KERAS_GRID, SEED, Fault, Lab, assert_same, commands
from mlflow import MlflowClient

from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.runs import reopen_run
from ecg_mlflow.training.checkpoint import save_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

#: Of the whole grid, with three repetitions.
N_RUNS = 18


def deaths(branches):
    """List deaths at moments that chance would hardly find, one session after the other.

    Of the driver, where it has created a child without params, reopened one, not yet closed a run
    whose worker was done with it, closed one; of workers with a checkpoint half written, and with
    one just written.
    """
    # Two workers had no more in hand than this, so the next run that ends has begun in the same
    # session, and the worker has died by then.
    in_hand = 2 * branches
    return (
        [Fault("driver", MlflowClient.create_run, 4, after=True)],
        [Fault("driver", reopen_run, 2, after=True)],  # the first one is the parent
        [
            Fault("worker", os.fsync, 3),
            Fault("driver", MlflowClient.set_terminated, 1, only=FINISHED),
        ],
        [
            Fault("worker", save_checkpoint, 3, after=True),
            Fault("driver", MlflowClient.set_terminated, in_hand + 1, only=FINISHED, after=True),
        ],
    )


#: Deaths of workers while a model is made, between two models, before the store has everything,
#: and after. The driver follows a little later.
WORKERS_DEATHS = (
    Fault("worker", MlflowClient.create_logged_model, 1, after=True),
    Fault("worker", MlflowClient.finalize_logged_model, 1, after=True),
    Fault("worker", RunLog.complete, 1),
    Fault("worker", RunLog.complete, 1, after=True),
)


@pytest.fixture
def lab(tmp_path_factory, beats):
    with Lab(tmp_path_factory, beats) as lab:
        yield lab


@pytest.mark.nightly
@pytest.mark.parametrize("branches", [1, 3])
def test_a_study_whose_processes_are_killed_again_and_again_ends_the_same(lab, branches):
    expected = lab.undisturbed("--reps", "3")
    assert len(expected) == N_RUNS
    # Three runs that share a process take no longer than one.
    lab.environment["UNHURRIED_S"] = str(0.004 * branches)
    chance = random.Random(SEED + branches)
    more = ("--branches", str(branches), "--reps", "3")
    kills = Counter()

    def go_on(*faults):
        """Go on at once, or, every other time, by the command that `reap` tells."""
        if kills["driver"] % 2:
            status, said = lab.call("reap")
            assert status == 0
            assert commands(said) in ([["run", "--resume", parent]], []), said
        return lab.run("--resume", parent, *more, faults=faults)

    first, *others = deaths(branches)
    driver, parent = lab.run(*more, faults=first), None
    for faults in (*others, []):
        assert driver.end() == -signal.SIGKILL, driver.said
        parent = parent or driver.parent
        kills["driver"] += 1
        driver = go_on(*faults)
    happened = [death for faults in (first, *others) for death in faults]
    assert lab.happened() == {death.name for death in happened}
    kills["worker"] += sum(death.role == "worker" for death in happened)
    # Or too many runs end before the next deaths.
    lab.environment["UNHURRIED_S"] = str(0.01 * branches)
    time.sleep(chance.uniform(0.3, 4))
    driver.kill()
    kills["driver"] += 1

    # No more than two workers in a session: a run is given up after three deaths on the spot.
    for death in WORKERS_DEATHS:
        if lab.statuses(parent)["FINISHED"] > N_RUNS - 3:
            break  # what is left may end before this session does
        driver = go_on(death)
        worker = chance.choice(driver.wait_for(lab.workers))
        time.sleep(chance.uniform(0, 6))
        if worker.is_running():
            worker.kill()
        driver.wait_for(lambda name=death.name: name in lab.happened())
        time.sleep(chance.uniform(0, 2))
        driver.kill()
        kills.update(driver=1, worker=2)

    assert min(kills.values()) >= 3
    assert kills.total() >= 10
    lab.environment["UNHURRIED_S"] = "0"
    driver = go_on()
    assert driver.end() == 0, driver.said
    assert "Traceback" not in driver.said
    assert_same(lab, parent, expected)


def test_a_study_of_keras_whose_processes_are_killed_ends_the_same(tmp_path_factory, beats):
    one = ("--configs", "0", "--reps", "1")
    with Lab(tmp_path_factory, beats, KERAS_GRID) as lab:
        expected = lab.undisturbed(*one)
        faults = [
            Fault("worker", os.fsync, 3),  # with its second checkpoint half written
            Fault("driver", MlflowClient.set_terminated, 1, only=FINISHED),
        ]
        driver = lab.run(*one, "--workers", "1", faults=faults)
        assert driver.end() == -signal.SIGKILL, driver.said
        assert lab.happened() == {fault.name for fault in faults}
        lab.finish(driver.parent)
        assert_same(lab, driver.parent, expected)


def test_a_study_goes_on_exactly_after_the_death_of_its_driver_and_after_ctrl_c(lab):
    # A run takes 24 s: none is over before the commands below are, however slow the machine is.
    lab.environment["UNHURRIED_S"] = "0.03"
    driver = lab.run_until_it_trains(*FEW)
    parent = driver.parent

    # While it runs it is neither reaped, nor can it be run twice.
    reap, second = lab.start("reap"), lab.run("--resume", parent)
    assert (reap.end(), second.end()) == (0, 1)
    assert reap.said.strip() == "nothing to do: no study is without its driver"
    error = f"ecg-mlflow: error: study {parent} is being run by process {driver.pid}"
    assert error in second.said
    assert "Traceback" not in second.said
    assert driver.poll() is None

    assert lab.workers()
    driver.kill()
    lab.wait_until_all_have_ended()
    assert lab.running() != []
    saved, n_losses = lab.left_over(), lab.n_losses(parent)
    assert saved

    status, said = lab.call("reap")
    assert status == 0
    assert commands(said) == [["run", "--resume", parent]]
    assert lab.running() == []
    assert lab.status(parent) == "KILLED"
    assert lab.statuses(parent)["KILLED"] >= 1
    assert lab.left_over() == saved, "what the study goes on from is still there"

    driver = lab.run("--resume", parent)
    driver.wait_for(lambda: lab.n_losses(parent) > n_losses)
    driver.send_signal(signal.SIGINT)
    assert driver.end() == 130
    assert commands(driver.said) == [["run", "--resume", parent]]
    assert "Traceback" not in driver.said
    assert not lab.processes()
    assert lab.running() == []
    assert lab.status(parent) == "KILLED"
    killed = [run for run in lab.children(parent) if run.info.status == "KILLED"]
    assert killed
    for run in killed:
        assert f"{run.info.run_id}.npz" in lab.left_over(), "it has trained, and was saved"

    lab.finish(parent)
    assert_same(lab, parent, lab.undisturbed(*FEW))


@pytest.mark.nightly
def test_another_study_ends_what_a_dead_driver_left_and_of_two_that_resume_it_one_does(
    lab,
):
    lab.environment["UNHURRIED_S"] = "0.01"
    driver = lab.run_until_it_trains(*FEW)
    parent = driver.parent
    driver.kill()
    lab.wait_until_all_have_ended()
    lab.environment["UNHURRIED_S"] = "0"
    other = lab.run("--configs", "0", "--reps", "1", "--epochs", "1", "--experiment", "other")
    assert other.end() == 0, other.said
    assert other.parent != parent
    assert lab.running() == []
    assert lab.status(parent) == "KILLED"
    assert set(lab.statuses(parent)) <= {"KILLED", "FINISHED"}
    assert parent in other.said
    assert commands(other.said) == [["run", "--resume", parent]]

    both = [lab.run("--resume", parent) for _ in range(2)]
    statuses = [one.end() for one in both]
    assert sorted(statuses) == [0, 1], [one.said for one in both]
    assert f"error: study {parent} is being run by " in both[statuses.index(1)].said
    assert_same(lab, parent, lab.undisturbed(*FEW))


@pytest.mark.nightly
def test_a_second_ctrl_c_ends_it_at_once_and_it_can_be_gone_on_with(lab):
    # An iteration takes 40 s now, longer than a worker is given, and a worker can't stop before
    # it has done its own.
    lab.environment["UNHURRIED_S"] = "4"
    driver = lab.run(*FEW)
    parent = driver.wait_for(lambda: driver.parent)
    driver.wait_for(lambda: lab.workers() and lab.left_over())
    time.sleep(5)
    driver.send_signal(signal.SIGINT)
    time.sleep(1)
    assert driver.poll() is None, "it waits for the workers"
    driver.send_signal(signal.SIGINT)
    assert driver.wait(20) == 130, "it waits no longer"
    assert commands(driver.said) == [["run", "--resume", parent]]
    assert "Traceback" not in driver.said
    lab.wait_until_all_have_ended()
    assert lab.running() == []

    lab.finish(parent)
    assert len(lab.children(parent)) == 3
    assert_same(lab, parent, lab.undisturbed(*FEW))
