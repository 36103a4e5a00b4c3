"""Pictures of a search."""

from __future__ import annotations

from io import BytesIO

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pytest

from ecg_mlflow.search.objective import Objective
from ecg_mlflow.search.plots import figures

F1, SIZE = Objective("test_f1", True), Objective("trainable_parameters", False)
SPEED = Objective("system/iterations_per_second", True)
LONG = "ResNet18 with squeeze and excitation in each of its blocks"


def make_trials(n, n_objectives=1):
    """Every third is a VGG without a width."""
    rng = np.random.default_rng(0)
    trials = []
    for i in range(n):
        options = {"model": ["VGG16", LONG, "DenseNet"][i % 3], "lr": 10 ** rng.uniform(-4, -1)}
        if i % 3:
            options["width"] = int(rng.choice([8, 16, 128]))
        f1 = 0.6 + 0.1 * (i % 3) + rng.normal(0, 0.01)
        values = (f1, 10.0 ** rng.integers(3, 7), 1 - f1)[:n_objectives]
        trials.append((options, values))
    return trials


def texts(figure):
    """Write a figure out, as whoever logs it does; return all that stands in it."""
    written = BytesIO()
    figure.savefig(written, bbox_inches="tight")
    assert written.getvalue().startswith(b"\x89PNG")
    return {text.get_text() for text in figure.findobj(mpl.text.Text) if text.get_visible()}


def test_one_objective():
    drawn = figures(make_trials(40), [F1])
    assert set(drawn) == {"optimisation_history", "importances", "slices"}
    assert {"test_f1", "Trial"} <= texts(drawn["optimisation_history"])
    assert {"model", "lr", "width"} <= texts(drawn["importances"])
    slices = texts(drawn["slices"])
    assert {"model", "lr", "width", "test_f1"} <= slices
    assert LONG not in " ".join(slices)
    assert any("its blocks" in text for text in slices)
    assert any("-" in text.strip("'") and len(text) <= 3 for text in slices), "no width"


def test_several_objectives_have_a_picture_each_and_a_front():
    drawn = figures(make_trials(30, 2), [F1, SIZE])
    assert set(drawn) == {
        f"{name}_{metric}"
        for name in ("optimisation_history", "importances", "slices")
        for metric in ("test_f1", "trainable_parameters")
    } | {"pareto_front"}
    assert {"test_f1", "trainable_parameters"} <= texts(drawn["pareto_front"])
    three = figures(make_trials(30, 3), [F1, SIZE, SPEED])
    assert "pareto_front" in three
    assert "slices_system_iterations_per_second" in three


@pytest.mark.parametrize(
    ("trials", "names"),
    [
        ([], set()),
        (make_trials(1), {"optimisation_history"}),
        (make_trials(2), {"optimisation_history", "importances", "slices"}),
        ([({"lr": float(i)}, (0.5,)) for i in range(5)], {"optimisation_history"}),
        ([({"model": "VGG16"}, (0.1 * i,)) for i in range(5)], {"optimisation_history"}),
    ],
    ids=["nothing complete", "one", "two", "always the same value", "always the same options"],
)
def test_what_there_is_nothing_to_see_in_is_left_out(trials, names):
    drawn = figures(trials, [F1])
    assert set(drawn) == names
    assert all(texts(figure) for figure in drawn.values())


def test_what_decides_is_the_most_important():
    rng = np.random.default_rng(0)
    trials = [({"lr": lr, "noise": rng.uniform()}, (lr,)) for lr in rng.uniform(size=40)]
    labels = [
        text.get_text() for text in figures(trials, [F1])["importances"].axes[0].get_yticklabels()
    ]
    assert labels[-1] == "lr", "bars are drawn from below, the most important last"


def test_names_that_differ_only_in_the_middle_stay_whole():
    words = ["a" * 30 + middle + "b" * 30 for middle in "xy"]
    trials = [({"model": words[i % 2]}, (0.1 * i,)) for i in range(6)]
    shown = texts(figures(trials, [F1])["slices"])
    assert all(any(word in text for text in shown) for word in words)


def test_nothing_global_is_touched():
    style, open_figures = dict(mpl.rcParams), plt.get_fignums()
    figures(make_trials(20), [F1])
    assert dict(mpl.rcParams) == style
    assert plt.get_fignums() == open_figures
