"""Small labelled waves, networks for them, and a store and an experiment for each test."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from ecg_mlflow import autolog
from ecg_mlflow.tracking.client import connect


class Store:
    """What the tests of one experiment read back."""

    def __init__(self, client: MlflowClient, experiment: str) -> None:
        self.client, self.experiment = client, experiment

    def runs(self) -> list[Run]:
        found = self.client.get_experiment_by_name(self.experiment)
        order = ["attributes.start_time ASC"]
        return self.client.search_runs([found.experiment_id], "", 1, 99, order)

    def run(self) -> Run:
        (run,) = self.runs()
        return run

    def history(self, name: str, run_id: str | None = None) -> list[tuple[int, float]]:
        found = self.client.get_metric_history(run_id or self.run().info.run_id, name)
        return [(metric.step, metric.value) for metric in found]

    def files(self, folder: str = "", run_id: str | None = None) -> set[str]:
        found = self.client.list_artifacts(run_id or self.run().info.run_id, folder)
        return {item.path for item in found}

    def table(self, name: str) -> list[dict[str, str]]:
        path = self.client.download_artifacts(self.run().info.run_id, name)
        return list(csv.DictReader(Path(path).read_text().splitlines()))

    def probabilities(self, name: str) -> list[list[float]]:
        rows = self.table(f"predictions/{name}.csv")
        return [[float(row["p_A"]), float(row["p_N"])] for row in rows]

    def models(self) -> dict[str, Any]:
        experiment_id = self.run().info.experiment_id
        found = self.client.search_logged_models([experiment_id])
        return {model.name: model for model in found}


@pytest.fixture(autouse=True)
def unwatched() -> Iterator[None]:
    """Whoever makes a `RunLogger` stands in front of `fit`, and steps aside again."""
    yield
    autolog(disable=True)


@pytest.fixture
def store(
    tracking_store: str, experiment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Store]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    monkeypatch.setenv("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
    monkeypatch.delenv("MLFLOW_RUN_ID", raising=False)
    client = connect(tracking_store)
    folder = (tmp_path / "artifacts").as_uri()
    client.create_experiment(experiment, artifact_location=folder)
    yield Store(client, experiment)
    while mlflow.active_run():
        mlflow.end_run()


class Waves:
    """Slow (class N, index 1) and fast (class A, index 0) waves; two windows of each record."""

    classes = ("A", "N")

    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.labels = np.repeat(np.arange(20) % 2, 2)
        times = np.arange(32) / 32
        waves = np.sin(2 * np.pi * np.where(self.labels, 2, 6)[:, None] * times)
        noise = rng.normal(0, 0.1, waves.shape)
        self.windows = (waves + noise)[..., None].astype(np.float32)
        self.records = [f"R{i // 2:02d}" for i in range(40)]

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray, list[str]]:
        return self.windows[24:], self.labels[24:], self.records[24:]


@pytest.fixture(scope="session")
def waves() -> Waves:
    return Waves()


@pytest.fixture
def network() -> Callable[..., Any]:
    """Make a compiled network: ``network(n_outputs=2, activation="softmax", loss=...)``."""
    import keras

    def make(
        n_outputs: int = 2,
        activation: str | None = "softmax",
        loss: Any = "sparse_categorical_crossentropy",
        **compiling: Any,
    ) -> Any:
        keras.utils.set_random_seed(1)
        hidden = keras.layers.Conv1D(4, 5, activation="relu", kernel_regularizer="l2")
        last = keras.layers.Dense(n_outputs, activation=activation)
        pool = keras.layers.GlobalMaxPooling1D()
        model = keras.Sequential([keras.Input((32, 1)), hidden, pool, last])
        model.compile(keras.optimizers.Adam(0.05), loss, **compiling)
        return model

    return make


@pytest.fixture
def fit(waves: Waves, network: Callable[..., Any]) -> Callable[..., Any]:
    """Train a network on 24 windows in batches of 8: ``fit(model=None, **more)``."""

    def train(model: Any = None, **more: Any) -> Any:
        told = {"batch_size": 8, "verbose": 0} | more
        labels = waves.labels[:24].astype(np.float32)
        return (model or network()).fit(waves.windows[:24], labels, **told)

    return train
