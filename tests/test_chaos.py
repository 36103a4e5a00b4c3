"""Studies whose processes are killed at all moments, and are gone on with as if nothing had been.

Their drivers and workers are processes of their own; what they leave in the store is compared,
value by value, with a study that nobody has disturbed.
"""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from chaos import FEW, FINISHED, KERAS_GRID, SEED, Fault, Lab, assert_same, commands
from mlflow import MlflowClient

from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.runs import reopen_run
from ecg_mlflow.training.checkpoint import save_checkpoint

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
nightly = pytest.mark.nightly


#: Of the whole grid, with three repetitions.
N_RUNS = 18


def closing(number, after=False):
    """The driver dies where it closes so many finished runs in a session, before or after."""
    return Fault("driver", MlflowClient.set_terminated, number, after, only=FINISHED)


def deaths(branches):
    """List deaths at moments that chance would hardly find, one session after the other.

    Of the driver, where it has created a child without params and where it has reopened one; of
    workers with a checkpoint half written and one just written, while a model is made, between two
    models, before the store has everything, and after. Where none is the driver's, a worker dies
    at any moment too, and the driver a little later than both.
    """
    # Two workers had no more in hand than this, so the next run that ends has begun in the same
    # session, and the worker has died by then.
    in_hand = 2 * branches
    return (
        [Fault("driver", MlflowClient.create_run, 4, after=True)],
        [Fault("driver", reopen_run, 2, after=True)],  # the first one is the parent
        [Fault("worker", os.fsync, 3), closing(1)],
        [Fault("worker", save_checkpoint, 3, after=True), closing(in_hand + 1, after=True)],
        [Fault("worker", MlflowClient.create_logged_model, after=True)],
        [Fault("worker", MlflowClient.finalize_logged_model, after=True)],
        [Fault("worker", RunLog.complete)],
        [Fault("worker", RunLog.complete, after=True)],
    )


@pytest.fixture
def lab(tmp_path_factory, beats):
    with Lab(tmp_path_factory, beats) as lab:
        yield lab


@nightly
@pytest.mark.parametrize("branches", [1, 3])
def test_a_study_whose_processes_are_killed_again_and_again_ends_the_same(lab, branches):
    more = ("--branches", str(branches), "--reps", "3")
    # Three runs that share a process take no longer than one.
    lab.environment["UNHURRIED_S"] = str(0.006 * branches)
    chance = random.Random(SEED + branches)
    parent = None
    for number, faults in enumerate(deaths(branches)):
        if parent and lab.n_finished(parent) > N_RUNS - 3:
            break  # what is left may end before this session does
        if number % 2:  # go on by the command that `reap` tells
            status, said = lab.call("reap")
            assert (status, commands(said)) == (0, [["run", "--resume", parent]])
        driver = lab.run(*(("--resume", parent) if parent else ()), *more, faults=faults)
        names = {fault.name for fault in faults}
        if faults[-1].role == "worker":
            time.sleep(chance.uniform(0, 4))
            chance.choice(driver.wait_for(lab.workers)).kill()
            driver.wait_for(lambda names=names: names <= lab.happened())
            time.sleep(chance.uniform(0, 2))
            driver.kill()
        assert driver.end() == -signal.SIGKILL, driver.said
        assert names <= lab.happened()
        parent = driver.parent
    assert number >= 5
    lab.environment["UNHURRIED_S"] = "0"
    driver = lab.run("--resume", parent, *more)
    assert driver.end() == 0, driver.said
    assert "Traceback" not in driver.said
    assert_same(lab, parent, lab.undisturbed("--reps", "3"))


def test_a_study_of_keras_whose_processes_are_killed_ends_the_same(tmp_path_factory, beats):
    one = ("--configs", "0", "--reps", "1")
    with Lab(tmp_path_factory, beats, KERAS_GRID) as lab:
        expected = lab.undisturbed(*one)
        faults = [Fault("worker", os.fsync, 3), closing(1)]  # its second checkpoint half written
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
    assert f"ecg-mlflow: error: study {parent} is being run by process {driver.pid}" in second.said

    assert len(lab.processes()) > 1
    driver.kill()
    lab.wait_until_all_have_ended()
    assert lab.running() != []
    saved, n_losses = lab.left_over(), lab.n_losses(parent)
    assert saved
    status, said = lab.call("reap")
    assert (status, commands(said)) == (0, [["run", "--resume", parent]])
    assert lab.running() == []
    assert lab.status(parent) == "KILLED"
    assert lab.left_over() == saved, "what the study goes on from is still there"

    driver = lab.run("--resume", parent)
    driver.wait_for(lambda: lab.n_losses(parent) > n_losses)
    driver.send_signal(signal.SIGINT)
    assert driver.end() == 130
    assert commands(driver.said) == [["run", "--resume", parent]]
    assert "Traceback" not in second.said + driver.said
    assert not lab.processes()
    assert lab.running() == []
    killed = [run.info.run_id for run in lab.children(parent) if run.info.status == "KILLED"]
    assert killed
    assert {f"{run_id}.npz" for run_id in killed} <= {*lab.left_over()}, "they were saved"

    lab.finish(parent)
    assert_same(lab, parent, lab.undisturbed(*FEW))


@nightly
def test_another_study_ends_what_a_dead_driver_left_and_one_of_two_resumes_it(lab):
    lab.environment["UNHURRIED_S"] = "0.01"
    driver = lab.run_until_it_trains(*FEW)
    parent = driver.parent
    driver.kill()
    lab.wait_until_all_have_ended()
    lab.environment["UNHURRIED_S"] = "0"
    other = lab.run("--configs", "0", "--reps", "1", "--epochs", "1", "--experiment", "other")
    assert other.end() == 0, other.said
    assert lab.running() == []
    assert lab.status(parent) == "KILLED"
    assert commands(other.said) == [["run", "--resume", parent]]

    both = [lab.run("--resume", parent) for _ in range(2)]
    statuses = [one.end() for one in both]
    assert sorted(statuses) == [0, 1], [one.said for one in both]
    assert f"error: study {parent} is being run by " in both[statuses.index(1)].said
    assert_same(lab, parent, lab.undisturbed(*FEW))


@nightly
def test_a_second_ctrl_c_ends_it_at_once_and_it_can_be_gone_on_with(lab):
    # An iteration takes 40 s now, longer than a worker is given, and a worker can't stop before
    # it has done its own.
    lab.environment["UNHURRIED_S"] = "4"
    driver = lab.run(*FEW)
    parent = driver.wait_for(lambda: driver.parent)
    driver.wait_for(lambda: len(lab.processes()) > 1 and lab.left_over())
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
    assert_same(lab, parent, lab.undisturbed(*FEW))
