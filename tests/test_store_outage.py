"""Studies against a tracking server that is killed under them, and whose database restarts."""

from __future__ import annotations

import signal
import time

import mlflow
import numpy as np
import pytest
from chaos import FEW, FINISHED, GRID, KERAS_GRID, Fault, Lab, assert_same, commands
from mlflow import MlflowClient
from servers import MlflowServer, Postgres

pytestmark = [
    pytest.mark.server,
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    # requests and its client leave idle keep-alive sockets to the garbage collector.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
    # About MLflow's own agent classes, when mlflow.pyfunc is first imported.
    pytest.mark.filterwarnings("ignore:.*Any type hint is inferred as AnyType:UserWarning"),
]

AWAY_S = 3.0


@pytest.fixture(scope="module")
def postgres():
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="module")
def server(postgres, tmp_path_factory):
    with MlflowServer(postgres.uri, tmp_path_factory.mktemp("server")).running() as server:
        yield server


@pytest.fixture
def lab(server, tmp_path_factory, beats, request):
    with Lab(tmp_path_factory, beats, getattr(request, "param", GRID), server.uri) as lab:
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
            ("worker", MlflowClient.log_model_artifact, 2, False, {}),
            ("worker", MlflowClient.finalize_logged_model, 3, True, {}),
        )
    ]


@pytest.mark.parametrize(
    ("lab", "every"),
    [
        pytest.param(GRID, 4, id="numpy, three moments"),
        pytest.param(GRID, 1, id="numpy, all moments", marks=pytest.mark.nightly),
        pytest.param(KERAS_GRID, 1, id="keras, all moments", marks=pytest.mark.nightly),
    ],
    indirect=["lab"],
)
def test_a_study_ends_by_itself_though_its_server_is_killed_and_its_database_restarts(
    lab, server, postgres, every, monkeypatch
):
    started = server.n_starts
    moments = outages(server)[::every]
    with server.kept_up(AWAY_S):
        driver = lab.run(*FEW, faults=moments)
        driver.wait_for(lambda: lab.left_over() and lab.happened())
        postgres.stop()
        time.sleep(AWAY_S)
        postgres.start()
        assert driver.end() == 0, driver.said
        server.wait_until_up()
    assert {moment.name for moment in moments} == lab.happened()
    assert server.n_starts - started > len(moments) // 2
    words = driver.said.count("the store is away, waiting for it")
    assert len(moments) // 2 <= words <= 2 * len(moments) + 2, (
        "once for each time that the driver waits"
    )
    assert "Traceback" not in driver.said
    assert_same(lab, driver.parent, lab.undisturbed(*FEW))
    assert all(run.data.tags["ecg_mlflow.attempt"] == "1" for run in lab.children(driver.parent))
    if lab.grid == KERAS_GRID:
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


@pytest.mark.nightly
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_study_that_is_ended_while_the_server_is_away_is_gone_on_with(lab, server, number):
    lab.environment["UNHURRIED_S"] = "0.01"
    driver = lab.run_until_it_trains(*FEW)
    parent = driver.parent
    server.kill()
    time.sleep(AWAY_S)
    assert driver.poll() is None
    driver.send_signal(number)
    assert driver.end() == {signal.SIGKILL: -9, signal.SIGINT: 130}[number], driver.said
    assert "Traceback" not in driver.said
    lab.wait_until_all_have_ended()
    server.start()
    server.wait_until_up()
    said = driver.said if number == signal.SIGINT else lab.call("reap")[1]
    assert commands(said) == [["run", "--resume", parent]]
    lab.finish(parent)
    assert_same(lab, parent, lab.undisturbed(*FEW))
