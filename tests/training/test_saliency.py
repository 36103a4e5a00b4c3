"""What a network looked at: gradients against differences, and their place in the record."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

from ecg_mlflow.training.saliency import GradientTimesInput, along_record


def log_odds(model: keras.Model, windows: np.ndarray, place: int) -> np.ndarray:
    z = model.predict(windows, verbose=0).astype(np.float64)
    others = np.delete(z, place, axis=1)
    return z[:, place] - np.log(np.exp(others).sum(axis=1))


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_gradient_is_what_a_small_change_does(n_classes):
    keras.utils.set_random_seed(0)
    hidden = [layers.Conv1D(3, 5, activation="tanh"), layers.Flatten()]
    model = keras.Sequential([keras.Input((16, 2)), *hidden, layers.Dense(n_classes)])
    windows = np.random.default_rng(0).normal(0, 1, (3, 16, 2)).astype(np.float32)
    found = GradientTimesInput(model)(windows, 1)
    assert found.shape == windows.shape
    for sample, lead in [(0, 0), (7, 1), (15, 0)]:
        up, down = windows.copy(), windows.copy()
        up[:, sample, lead] += 0.01
        down[:, sample, lead] -= 0.01
        slope = (log_odds(model, up, 1) - log_odds(model, down, 1)) / 0.02
        expected = slope * windows[:, sample, lead]
        np.testing.assert_allclose(found[:, sample, lead], expected, rtol=0.02, atol=2e-4)


def test_many_windows_are_taken_in_pieces_and_keep_their_order(small_resnet):
    model = small_resnet()
    windows = np.random.default_rng(0).normal(0, 1, (70, 64, 2)).astype(np.float32)
    shares = GradientTimesInput(model)
    found = shares(windows, 0)
    np.testing.assert_allclose(found[40:41], shares(windows[40:41], 0), 1e-3, 1e-5)


def one_moment(window, sample, value, n_windows=2, n_leads=1):
    """Return shares of windows of 100 samples, all 0 but for one sample's."""
    shares = np.zeros((n_windows, 100, n_leads), np.float32)
    shares[window, sample, -1] = value
    return shares


def test_a_moment_that_mattered_is_found_where_it_was():
    found = along_record(one_moment(1, 20, -3.0), np.array([0, 100]), 250, smooth=1)
    assert found.shape == (250,)
    assert np.flatnonzero(found).tolist() == [120]
    # The zeros before a short record are no part of it.
    shares = one_moment(0, 30, 1.0, n_windows=1, n_leads=2)
    found = along_record(shares, np.array([0]), 80, smooth=1)
    assert found.shape == (80,)
    assert np.flatnonzero(found).tolist() == [10]


def test_what_overlapping_windows_say_is_averaged():
    shares = one_moment(0, 60, 2.0) + one_moment(1, 80, 2.0)
    found = along_record(shares, np.array([0, 50]), 150, smooth=1)
    # Sample 60 is seen by both windows and mattered in one; 130 by the second alone.
    assert found[130] == pytest.approx(1.0)
    assert 0 < found[60] <= 1.0


def test_smoothing_spreads_a_moment_evenly_around_it_and_nothing_stays_nothing():
    found = along_record(one_moment(0, 50, 1.0, n_windows=1), np.array([0]), 100, smooth=5)
    assert np.flatnonzero(found).tolist() == [48, 49, 50, 51, 52]
    assert not along_record(one_moment(0, 0, 0.0), np.array([0, 0]), 100, smooth=5).any()
