"""Losses with their median, tests, and confusion matrices."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.reports.figures import png
from ecg_mlflow.reports.figures.training_plots import confusion_plot, learning_curve
from ecg_mlflow.stats.predictions import Predictions


def test_learning_curve_shows_losses_and_tests():
    losses = 1 / np.arange(1, 101)
    figure = learning_curve(losses, {"test_f1": ([50, 100], [0.5, 0.75])}, title="ResNet")
    above, below = figure.axes
    points, median = above.get_lines()
    assert points.get_xdata().tolist() == list(range(100))
    np.testing.assert_array_equal(points.get_ydata(), losses)
    assert median.get_xdata()[0] == 0.5
    test = below.get_lines()[0]
    assert test.get_label() == "test_f1"
    assert (list(test.get_xdata()), list(test.get_ydata())) == ([50, 100], [0.5, 0.75])
    assert below.get_xlabel() == "iteration"
    assert figure.get_suptitle() == "ResNet"
    other = learning_curve([2.0, 1.0], steps=[10, 20]).axes[0].get_lines()[0]
    assert list(other.get_xdata()) == [10, 20]


def test_median_is_of_neighbouring_iterations_and_a_long_history_is_thinned():
    median = learning_curve(np.repeat([4.0, 1.0], 500)).axes[0].get_lines()[1]
    assert median.get_ydata().tolist() == [4.0] * 25 + [1.0] * 25
    assert median.get_xdata()[0] == 9.5
    points = learning_curve(np.ones(100_000)).axes[0].get_lines()[0]
    assert len(points.get_xdata()) == 2000
    assert points.get_label() == "one iteration in 50"


@pytest.mark.parametrize("losses", [[], [0.5], [float("nan"), 1.0], [np.inf] * 3])
def test_short_and_diverged_histories_are_drawn(losses):
    assert png(learning_curve(losses, {"test_f1": ([], [])}))


def scored(targets, probabilities, classes) -> Predictions:
    names = tuple(f"r{i}" for i in range(len(targets)))
    return Predictions(names, targets, np.asarray(probabilities, float), classes, classes[0])


def test_a_confusion_matrix_shows_counts_and_shares():
    given = scored(np.zeros(10, int), np.eye(2)[[0] * 8 + [1] * 2], ("A", "NO"))
    (axis,) = confusion_plot(given).axes
    assert [text.get_text() for text in axis.texts] == ["8\n80%", "2\n20%", "0\n0%", "0\n0%"]
    assert [label.get_text() for label in axis.get_yticklabels()] == ["A", "NO"]
    assert (axis.get_ylabel(), axis.get_xlabel()) == ("label", "predicted")


def test_of_several_classes_each_shows_records_found_missed_and_falsely_predicted():
    targets = np.array([[1, 1], [1, 0], [1, 0], [0, 1]], bool)
    predicted = np.array([[1, 0], [1, 1], [0, 1], [0, 0]])
    (axis,) = confusion_plot(scored(targets, predicted, ("AF", "RBBB")), title="best").axes
    found, missed, false = ([bar.get_width() for bar in bars] for bars in axis.containers)
    assert (found, missed, false) == ([2, 0], [1, 2], [0, 2])
    assert [tick.get_text() for tick in axis.get_yticklabels()] == ["AF", "RBBB"]
