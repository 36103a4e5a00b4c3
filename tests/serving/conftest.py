"""A small network of stock layers, manifests for it, recordings, and a saved model."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from saved_models import Saved, save_example

from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.pipeline.spec import stages_to_json
from ecg_mlflow.records import DigitalRecord
from ecg_mlflow.serving.manifest import Manifest

LENGTH = 120
PLAIN = Pipeline().center_flip().split_signals(LENGTH, LENGTH)

MakeManifest = Callable[..., Manifest]
MakeRecord = Callable[..., DigitalRecord]


@pytest.fixture(scope="session")
def network(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Path]:
    """Return the ``.keras`` file of a network for windows ``(120, n_leads)`` and two classes."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    folder, made = tmp_path_factory.mktemp("networks"), {}

    def file(n_leads: int = 1) -> Path:
        if n_leads not in made:
            made[n_leads] = folder / f"network{n_leads}.keras"
            build(made[n_leads], n_leads)
        return made[n_leads]

    return file


def build(path: Path, n_leads: int) -> None:
    import keras
    from keras import layers

    keras.utils.set_random_seed(n_leads)
    x = inputs = keras.Input((LENGTH, n_leads))
    x = layers.ReLU()(layers.BatchNormalization()(layers.Conv1D(4, 9, padding="same")(x)))
    # Large weights, so that windows don't all get the same answer.
    scale = keras.initializers.RandomNormal(stddev=4.0)
    outputs = layers.Dense(2, kernel_initializer=scale)(layers.GlobalMaxPooling1D()(x))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Keras's own, about NumPy
        keras.Model(inputs, outputs).save(path)


@pytest.fixture(scope="session")
def make_manifest() -> MakeManifest:
    """Describe a model of recordings of 250 Hz and at least 1 s; keywords replace fields."""

    def make(pipeline: Pipeline = PLAIN, n_leads: int = 1, **fields: Any) -> Manifest:
        manifest = Manifest(
            ("A", "NO"),
            "A",
            (LENGTH, n_leads),
            tuple(stages_to_json(pipeline.stages())),
            tuple(f"L{i + 1}" for i in range(n_leads)),
            (250.0,),
            1.0,
        )
        return replace(manifest, **fields)

    return make


@pytest.fixture(scope="session")
def saved(tmp_path_factory, network, make_manifest, write_record) -> Saved:
    """Save the network with a pipeline of which a function stands in a grid file."""
    return save_example(tmp_path_factory.mktemp("saved"), network(1), make_manifest, write_record)


@pytest.fixture(scope="session")
def make_record() -> MakeRecord:
    """Make a recording of waves in mV, or of given samples; int16 ones are digital, 1000 per mV."""

    def make(
        samples: np.ndarray | None = None,
        *,
        fs: float = 250,
        leads: tuple[str, ...] = ("L1",),
        n_samples: int = 500,
        name: str = "R1",
    ) -> DigitalRecord:
        if samples is None:
            rng = np.random.default_rng(0)
            waves = np.sin(np.arange(n_samples) / fs * 2 * np.pi * 1.3)[:, None]
            samples = (waves + rng.normal(0, 0.1, (n_samples, len(leads)))).astype(np.float32)
        record = DigitalRecord.from_millivolts(name, samples, float(fs), leads)
        if samples.dtype == np.int16:
            record = replace(record, gain=record.gain * 1000)
        return record

    return make
