"""What a network looked at, laid along the recording as it was recorded."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow import Pipeline
from ecg_mlflow.records import Record
from ecg_mlflow.reports.importance import Viewer


def amplitude(windows: np.ndarray, place: int) -> np.ndarray:
    """Stand in for a network that looks at what is high."""
    return windows


def record_with_spike(at: int, n_samples: int = 3000) -> Record:
    signal = np.zeros((n_samples, 1), np.float32)
    signal[at - 5 : at + 6] = 2.0
    return Record("r", signal, 300.0, ("I",), None)


PIPELINES = {
    "plain": Pipeline().split_signals(1000, step=1000),
    "overlapping": Pipeline().split_signals(1000, step=400),
    "resampled first": Pipeline().resample_signals(125).split_signals(500, step=500),
    "centred first": Pipeline().center_flip().resample_signals(125).split_signals(500, 250),
    "longer than the record": Pipeline().split_signals(4000, step=4000),
    "a step for each label": Pipeline().split_signals(1000, step={"A": 500, "N": 500}),
}


@pytest.mark.parametrize("name", PIPELINES)
def test_a_moment_is_found_where_it_was_recorded(name):
    viewer = Viewer(amplitude, PIPELINES[name].stages())
    found = viewer.importance(record_with_spike(1234), 0)
    assert found.shape == (3000,)
    assert abs(int(np.argmax(found)) - 1234) < 25
    assert found.max() <= 1
    away = np.abs(np.arange(3000) - 1234) > 60
    assert found[away].max() < 0.2


def test_the_class_is_handed_on():
    asked, stages = [], PIPELINES["plain"].stages()
    viewer = Viewer(lambda windows, place: asked.append(place) or windows, stages)
    viewer.importance(record_with_spike(100), 3)
    assert asked == [3]
