"""A script of somebody else's, with three lines added."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

SCRIPT = """
import keras
import numpy as np

import ecg_mlflow

rng = np.random.default_rng(0)
train_labels = rng.integers(0, 2, 64)
train_windows = rng.normal(train_labels[:, None, None], 1, (64, 100, 1))
windows, labels = train_windows[:20], ["A" if label == 0 else "NO" for label in train_labels[:20]]
records = [f"R{i:02d}" for i in range(20)]

model = keras.Sequential(
    [keras.Input((100, 1)), keras.layers.GlobalAveragePooling1D(), keras.layers.Dense(2)]
)
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
ecg_mlflow.autolog(test=(windows, labels, records), classes=["A", "NO"], test_every="2 epochs")
model.fit(train_windows, train_labels, epochs=4, verbose=0)
"""


@pytest.mark.slow
def test_three_lines(store, tmp_path):
    path = tmp_path / "script.py"
    path.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, path], capture_output=True, text=True, env=os.environ.copy()
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert store.run().info.status == "FINISHED"
    assert [step for step, _ in store.history("loss")] == list(range(8))
    assert [step for step, _ in store.history("test_f1")] == [3, 7]
    assert set(store.models()) == {"last", "best"}
