"""Small networks and data for the compiled step."""

from __future__ import annotations

from collections.abc import Callable

import keras
import numpy as np
import pytest

from ecg_mlflow.models import ResNet

Batches = list[tuple[np.ndarray, np.ndarray]]
MakeModel = Callable[[], keras.Model]


@pytest.fixture(scope="session")
def small_resnet() -> MakeModel:
    """Build a network for windows ``(64, 2)`` and two classes; the same weights each time."""

    def make() -> keras.Model:
        keras.utils.set_random_seed(1)
        return ResNet((64, 2), 2, blocks=[1, 1], filters=[4, 6], layout="cnacna", input_filters=4)

    return make


@pytest.fixture(scope="session")
def batches() -> Batches:
    """Fifty batches of 8 to 15 windows ``(64, 2)``, of class 1 where the first lead is higher."""
    rng = np.random.default_rng(0)
    found = []
    for i in range(50):
        windows = rng.normal(0, 1, (8 + i % 8, 64, 2)).astype(np.float32)
        higher = windows[:, :, 0].mean(axis=1) > windows[:, :, 1].mean(axis=1)
        found.append((windows, np.eye(2, dtype=np.float32)[higher.astype(int)]))
    return found
