"""From windows to record-level predictions, every record once."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import softmax

from ecg_mlflow.errors import DivergedError
from ecg_mlflow.pipeline import Batch
from ecg_mlflow.pipeline.batches import CHUNK, record_means
from ecg_mlflow.training.evaluation import evaluate


def predict(windows: np.ndarray) -> np.ndarray:
    """The logits are the window's first sample, in its two leads."""
    return softmax(windows[:, 0, :], axis=1)


def make_batch(rows: list[int], counts: list[int], logits: np.ndarray, classes: list[int]) -> Batch:
    windows = np.repeat(logits[:, None, :], 3, axis=1).astype(np.float32)
    targets = np.eye(2, dtype=np.float32)[np.repeat(classes, counts)]
    return Batch(windows, targets, np.array(rows), np.array(counts))


def test_a_records_probability_is_the_mean_over_its_windows():
    logits = np.array([[0, 0], [2, 0], [-1, 1]])
    found = evaluate(predict, [make_batch([4, 9], [2, 1], logits, [0, 1])], ("A", "NO"), "A")
    assert found.probabilities[:, 0] == pytest.approx([0.6904, 0.1192], abs=5e-5)
    assert found.probabilities.sum(axis=1) == pytest.approx([1, 1])
    assert found.rows.tolist() == [4, 9]
    assert found.targets.tolist() == [0, 1]
    assert found.counts.tolist() == [2, 1]
    assert found.metrics["f1"] == 1
    assert found.confusion.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("sizes", [[1], [CHUNK], [CHUNK - 1, 1], [CHUNK + 1], [50, 200, 3, 131]])
def test_every_window_is_predicted_once_in_calls_of_one_shape(sizes):
    rng = np.random.default_rng(0)
    batches, row = [], 0
    for size in sizes:
        counts = [1] * (size % 3) + [3] * (size // 3)
        rows = list(range(row, row := row + len(counts)))
        classes = [i % 2 for i in rows]
        batches.append(make_batch(rows, counts, rng.normal(size=(size, 2)), classes))
    shapes = []

    def noted(windows: np.ndarray) -> np.ndarray:
        shapes.append(windows.shape)
        return predict(windows)

    found = evaluate(noted, batches, ("A", "NO"), "A")
    assert shapes == [(CHUNK, 3, 2)] * -(-sum(sizes) // CHUNK)
    assert found.rows.tolist() == list(range(row))
    assert found.targets.tolist() == [i % 2 for i in range(row)]
    everything = np.concatenate([predict(batch.windows) for batch in batches])
    counts = np.concatenate([batch.counts for batch in batches])
    np.testing.assert_allclose(found.probabilities, record_means(everything, counts), rtol=1e-6)


def test_f1_is_of_pooled_records_and_not_a_mean_over_batches():
    right, wrong = [5, -5], [-5, 5]
    # F1 of A: 1 in the first batch, 0 in the second; pooled, 2 * 1 / (2 + 2).
    batches = [
        make_batch([0, 1], [1, 1], np.array([right, wrong]), [0, 1]),
        make_batch([2, 3], [1, 1], np.array([wrong, right]), [0, 1]),
    ]
    found = evaluate(predict, batches, ("A", "NO"), "A")
    assert found.metrics["f1"] == pytest.approx(0.5)
    assert found.confusion.tolist() == [[1, 1], [1, 1]]


def test_broken_weights_are_told_so():
    def broken(windows: np.ndarray) -> np.ndarray:
        found = predict(windows)
        found[2] = np.nan
        return found

    batch = make_batch([0, 1], [2, 1], np.zeros((3, 2)), [0, 1])
    with pytest.raises(DivergedError, match=r"NaN for 1 of 3 windows.*weights have diverged; a sm"):
        evaluate(broken, [batch], ("A", "NO"), "A")
