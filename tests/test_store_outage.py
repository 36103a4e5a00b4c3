"""Studies against a tracking server that is killed under them, and whose database restarts."""

from __future__ import annotations

import os
import random
import signal
import time

import mlflow
import numpy as np
import pytest
from chaos import (
    GRID,
    KERAS_GRID,
    Fault,
    assert_same,
    commands,
    first_repetition,
    opened_lab,
    undisturbed,
)
from mlflow import MlflowClient
from servers import MlflowServer, Postgres
from waiting import wait_for

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # requests and its client leave idle keep-alive sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    # About MLflow's own agent classes, when mlflow.pyfunc is first imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

FINISHED = {"status": "FINISHED"}
AWAY_S = 3.0
SEED = int(os.environ.get("CHAOS_SEED", "0"))


@pytest.fixture(scope="module")
def postgres():
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    with MlflowServer(postgres.uri, tmp_path_factory.mktemp("server")).running() as server:
        yield server


@pytest.fixture(params=[GRID])
def grid(request):
    return request.param


@pytest.fixture
def expected(tmp_path_factory, beats, grid):
    return first_repetition(undisturbed(tmp_path_factory, beats, grid=grid))


@pytest.fixture
def lab(server, tmp_path, beats, grid):
    with opened_lab(tmp_path, beats, uri=server.uri, grid=grid) as lab:
        yield lab


def outages(server):
    """List moments to kill the server at; those after a call lose its answer."""
    return [
        Fault(role, call, number, after, str(server.group_file), only)
        for role, call, number, after, only in (
            ("driver", MlflowClient.create_run, 2, True, {}),
            ("driver", MlflowClient.create_run, 4, False, {}),
            ("driver", MlflowClient.log_inputs, 3, True, {}),
            ("driver", MlflowClient.set_terminated, 1, False, FINISHED),
            ("driver", MlflowClient.set_terminated, 3, True, FINISHED),
            ("worker", MlflowClient.log_batch, 4, True, {}),
            ("worker", MlflowClient.create_logged_model, 1, True, {}),
            ("worker", MlflowClient.log_model_artifacts, 2, False, {}),
            ("worker", MlflowClient.finalize_logged_model, 3, True, {}),
        )
    ]


@pytest.mark.parametrize(
    ("grid", "every"),
    [
        pytest.param(GRID, 4, id="numpy, three moments"),
        pytest.param(GRID, 1, id="numpy, all moments", marks=pytest.mark.nightly),
        pytest.param(KERAS_GRID, 1, id="keras, all moments", marks=pytest.mark.nightly),
    ],
    indirect=["grid"],
)
def test_a_study_ends_by_itself_while_its_server_is_killed_again_and_again(
    lab, server, grid, every, expected, monkeypatch
):
    started = server.n_starts
    moments = outages(server)[::every]
    with server.kept_up(AWAY_S):
        driver = lab.run("--reps", "1", faults=moments)
        status = driver.wait()
        assert status == 0, driver.said
        server.wait_until_up()
    assert {moment.name for moment in moments} == lab.happened()
    assert server.n_starts - started > len(moments) // 2
    words = driver.said.count("the store is away, waiting for it")
    assert len(moments) // 2 <= words <= 2 * len(moments), (
        "once for each time that the driver waits"
    )
    assert "Traceback" not in driver.said
    assert_same(lab, driver.parent, expected)
    assert all(run.data.tags["ecg_mlflow.attempt"] == "1" for run in lab.children(driver.parent))
    if grid == KERAS_GRID:
        check_models_load(lab, driver.parent, monkeypatch)


def check_models_load(lab, parent, monkeypatch):
    run = lab.children(parent)[0]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", lab.uri)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    query = f"source_run_id = '{run.info.run_id}'"
    for model in lab.client.search_logged_models([run.info.experiment_id], filter_string=query):
        loaded = mlflow.pyfunc.load_model(f"models:/{model.model_id}")
        predicted = loaded.predict(np.zeros((2, 128, 1), np.float32))
        assert predicted.sum(axis=1) == pytest.approx([1, 1])


def test_a_study_outlives_restarts_of_the_database(lab, postgres, expected):
    chance = random.Random(SEED)
    driver = lab.run("--reps", "1")
    parent = driver.wait_for(lambda: driver.parent)
    driver.wait_for(lambda: lab.is_training(parent))
    for _ in range(2):
        time.sleep(chance.uniform(0, 3))
        assert driver.process.poll() is None
        postgres.stop()
        time.sleep(AWAY_S)
        postgres.start()
    assert driver.wait() == 0, driver.said
    assert "Traceback" not in driver.said
    assert_same(lab, parent, expected)
    assert all(run.data.tags["ecg_mlflow.attempt"] == "1" for run in lab.children(parent))


@pytest.mark.nightly
def test_a_study_whose_driver_dies_while_the_server_is_away_is_gone_on_with(lab, server, expected):
    driver = lab.run("--reps", "1")
    parent = driver.wait_for(lambda: driver.parent)
    driver.wait_for(lambda: lab.is_training(parent))
    server.kill()
    time.sleep(AWAY_S)
    assert driver.process.poll() is None
    driver.kill()
    wait_for(lambda: not lab.processes())
    server.start()
    server.wait_until_up()
    status, said = lab.call("reap")
    assert status == 0, said
    assert commands(said) == [["run", "--resume", parent]]
    lab.environment["UNHURRIED_S"] = "0"
    resumed = lab.run("--resume", parent)
    assert resumed.wait() == 0, resumed.said
    assert_same(lab, parent, expected)


@pytest.mark.nightly
def test_ctrl_c_while_the_server_is_away_ends_the_study_and_tells_how_to_go_on(
    lab, server, expected
):
    driver = lab.run("--reps", "1")
    parent = driver.wait_for(lambda: driver.parent)
    driver.wait_for(lambda: lab.is_training(parent))
    server.kill()
    time.sleep(AWAY_S)
    driver.process.send_signal(signal.SIGINT)
    assert driver.wait() == 130, driver.said
    assert driver.resumes_by == ["run", "--resume", parent]
    assert "Traceback" not in driver.said
    wait_for(lambda: not lab.processes())
    server.start()
    server.wait_until_up()
    lab.environment["UNHURRIED_S"] = "0"
    resumed = lab.run(*driver.resumes_by[1:])
    assert resumed.wait() == 0, resumed.said
    assert_same(lab, parent, expected)
