from __future__ import annotations

import math
import warnings
from dataclasses import replace
from io import BytesIO

import matplotlib as mpl
import numpy as np
import pytest

from ecg_mlflow.search.base import TrialState
from ecg_mlflow.search.importances import importances
from ecg_mlflow.search.report import Result, figures, pareto_front

COMPLETE, PRUNED, FAILED = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAILED
F1, SIZE, LOSS = ("test_f1", True), ("trainable_parameters", False), ("test_loss", False)
LONG = "ResNet18 with squeeze and excitation in each of its blocks"


def make_trials(n, n_objectives=1):
    """Every third is a VGG without a width; every tenth is pruned, and the one after it fails."""
    rng = np.random.default_rng(0)
    trials = []
    for i in range(n):
        options = {"model": ["VGG16", LONG, "DenseNet"][i % 3], "lr": 10 ** rng.uniform(-4, -1)}
        if i % 3:
            options["width"] = str(rng.choice([8, 16, 128]))
        if i % 3 == 2:
            options["dropout"] = rng.uniform(0, 0.5)
        f1 = 0.6 + 0.1 * (i % 3) + rng.normal(0, 0.01)
        values = (f1, 10.0 ** rng.integers(3, 7), 1 - f1 + rng.normal(0, 0.01))[:n_objectives]
        state = {4: PRUNED, 5: FAILED}.get(i % 10, COMPLETE)
        trials.append(Result(i, options, values if state is COMPLETE else None, state))
    return trials


def written(drawn):
    """Write figures out, as whoever logs them does; return their texts."""
    texts = {}
    for name, figure in drawn.items():
        figure.savefig(BytesIO())
        found = figure.findobj(mpl.text.Text)
        texts[name] = [text.get_text() for text in found if text.get_visible()]
    return texts


def test_one_objective():
    texts = written(figures(make_trials(40), [F1], {"lr"}))
    assert list(texts) == ["optimisation_history", "importances", "slices"]
    assert {"complete", "best so far", "pruned", "failed", "test_f1", "trial"} <= {
        *texts["optimisation_history"]
    }
    assert {"model", "lr", "width", "dropout", "test_f1"} <= {*texts["importances"]}
    assert {"VGG16", "DenseNet", "8", "16", "128", "-"} <= {*texts["slices"]}
    assert LONG not in texts["slices"]
    assert any(text.startswith("ResNet18 wi") and "…" in text for text in texts["slices"])


@pytest.mark.parametrize("objectives", [(F1, SIZE), (F1, SIZE, LOSS)])
def test_several_objectives(objectives):
    drawn = figures(make_trials(40, len(objectives)), objectives)
    texts = written(drawn)
    assert list(texts) == ["optimisation_history", "importances", "slices", "pareto_front"]
    for name in ("optimisation_history", "importances", "slices"):
        assert {name for name, _ in objectives} <= {*texts[name]}
    assert "test_f1\n(more is better)" in texts["pareto_front"]
    assert "trainable_parameters\n(less is better)" in texts["pareto_front"]
    assert len(drawn["pareto_front"].axes) == {2: 1, 3: 3}[len(objectives)]
    assert drawn["pareto_front"].axes[0].get_yscale() == "log"


def test_four_objectives_have_no_front():
    trials = [Result(i, {"a": str(i)}, (float(i), 1.0, 2.0, float(-i)), COMPLETE) for i in range(4)]
    names = [(name, True) for name in "abcd"]
    assert list(figures(trials, names)) == ["optimisation_history", "importances", "slices"]


def test_the_best_so_far_follows_the_numbers_and_the_direction():
    trials = [
        Result(i, {"a": str(i)}, (value,), COMPLETE) for i, value in enumerate([3.0, 1.0, 2.0, 4.0])
    ]
    for is_maximized, best in ((True, [3, 3, 3, 4]), (False, [3, 1, 1, 1])):
        drawn = figures(trials[::-1], [("loss", is_maximized)])
        values, line = drawn["optimisation_history"].axes[0].lines[:2]
        assert list(values.get_xdata()) == [0, 1, 2, 3]
        assert list(values.get_ydata()) == [3, 1, 2, 4]
        assert list(line.get_ydata()) == best


def test_numbers_are_in_their_order_and_what_is_absent_comes_last():
    widths = ["128", None, "8", "16", "8"]
    trials = [
        Result(i, {} if width is None else {"width": width}, (float(i),), COMPLETE)
        for i, width in enumerate(widths)
    ]
    axes = figures(trials, [F1])["slices"].axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["8", "16", "128", "-"]
    points = axes.collections[0].get_offsets()
    assert [round(float(x)) for x, _ in points] == [2, 3, 0, 1, 0]


def test_pictures_are_left_out_where_there_is_nothing_to_see():
    trials = make_trials(4)
    assert figures([], [F1]) == {}
    assert figures([replace(trials[0], state=FAILED, values=None)], [F1]) == {}
    assert list(figures(trials[:1], [F1])) == ["optimisation_history"]
    same = [replace(trial, state=COMPLETE, values=(0.5,)) for trial in trials]
    assert list(figures(same, [F1])) == ["optimisation_history"]
    alike = [replace(trial, options={"model": "VGG16"}) for trial in trials]
    assert list(figures(alike, [F1])) == ["optimisation_history"]
    written(figures(same, [F1]))
    pair = make_trials(2, 2)
    assert list(figures(pair[:1], [F1, SIZE])) == ["optimisation_history"]
    assert "pareto_front" in figures(pair, [F1, SIZE])


@pytest.mark.parametrize("n", [2, 3, 5])
def test_few_trials_give_pictures_too(n):
    trials = [Result(i, {"a": str(i), "b": "x"}, (float(i),), COMPLETE) for i in range(n)]
    texts = written(figures(trials, [F1]))
    assert list(texts) == ["optimisation_history", "importances", "slices"]
    assert "b" not in texts["importances"]


def test_an_objective_that_is_always_the_same_has_no_importances():
    trials = [Result(i, {"a": str(i)}, (float(i), 7.0), COMPLETE) for i in range(5)]
    texts = written(figures(trials, [F1, SIZE]))
    assert "test_f1" in texts["importances"]
    assert "trainable_parameters" not in texts["importances"]


def test_nothing_global_is_touched():
    before = dict(mpl.rcParams)
    filters = list(warnings.filters)
    written(figures(make_trials(30, 2), [F1, SIZE]))
    assert dict(mpl.rcParams) == before
    assert warnings.filters == filters
    from matplotlib import pyplot

    assert pyplot.get_fignums() == []


def test_what_decides_is_the_most_important():
    rng = np.random.default_rng(0)
    model = [str(rng.choice(list("abc"))) for _ in range(80)]
    lr = [float(10 ** rng.uniform(-5, -1)) for _ in range(80)]
    noise = [str(rng.choice(list("xy"))) for _ in range(80)]
    fixed = ["one"] * 80
    reached = np.array([(m == "b") + 0.2 * math.log10(x) for m, x in zip(model, lr, strict=True)])
    found = importances({"noise": noise, "lr": lr, "model": model, "fixed": fixed}, reached, {"lr"})
    assert list(found) == ["model", "lr", "noise", "fixed"]
    assert found["lr"] > 0.1
    assert found["noise"] < 0.05
    assert found["fixed"] == 0
    assert sum(found.values()) == pytest.approx(1)
    assert importances({"fixed": fixed}, reached) == {}
    assert importances({"model": model}, np.zeros(80)) == {}


def test_on_its_scale_a_range_counts_by_orders_of_magnitude():
    lr = [float(10**x) for x in np.linspace(-5, -1, 50)]
    other = [float(i * 7 % 50) for i in range(50)]
    reached = np.log10(lr) + 0.05 * np.array(other)
    columns = {"lr": lr, "other": other}
    assert importances(columns, reached, {"lr"})["lr"] > importances(columns, reached)["lr"] + 0.1


def test_pareto_front():
    values = [(0.9, 100), (0.8, 50), (0.7, 60), (0.9, 100), (0.5, 10), (0.9, 120), (0.4, 20)]
    assert pareto_front(values, [True, False]) == [0, 1, 3, 4]
    assert pareto_front(values, [True, True]) == [5]
    assert pareto_front([(1.0,), (3.0,), (2.0,), (3.0,)], [True]) == [1, 3]
    assert pareto_front([(math.nan, 1.0), (0.5, 2.0)], [True, False]) == [0, 1]
    assert pareto_front([(math.nan, 2.0), (0.5, 2.0)], [True, False]) == [1]
    assert pareto_front([], [True, False]) == []


def test_a_pareto_front_is_what_optuna_finds():
    import optuna

    from ecg_mlflow.search.quiet import quiet

    rng = np.random.default_rng(1)
    values = rng.integers(0, 12, (60, 3)).astype(float)
    with quiet():
        study = optuna.create_study(directions=["maximize", "minimize", "maximize"])
        for row in values:
            study.add_trial(optuna.trial.create_trial(values=list(row)))
    expected = sorted(trial.number for trial in study.best_trials)
    assert pareto_front(values.tolist(), [True, False, True]) == expected
