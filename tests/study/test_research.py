from __future__ import annotations

import numpy as np
import pytest
from studies import ROOT, small_research

from ecg_mlflow import KV, C, DemoBudget, Grid, Loss, Optimizer, Option, ResNet, ResNet18, Split
from ecg_mlflow.errors import ResearchError, ScheduleError, SplitError


def settings(**changes):
    one = small_research(**changes)
    return [one.settings(config) for config in one.grid.gen_configs()]


def test_options_named_like_arguments_of_the_model_reach_it():
    first, second = settings()
    own = {"blocks": [1], "filters": [4], "input_filters": 4}
    assert (first.arguments, second.arguments) == (
        {**own, "layout": "cna"},
        {**own, "layout": "cnacna"},
    )
    assert first.builder is ResNet
    assert first.model_name == "ResNet"
    (one,) = settings(
        grid=Option("model", [ResNet18]), model=C("model"), model_arguments={"dropout": 0.1}
    )
    assert one.builder is ResNet18


def test_c_stands_for_a_value_anywhere_in_the_design():
    values = {"n": 3, "length": 50, "records": 8, "passes": 2, "rate": 0.5, "smooth": 0.1}
    values |= {"when": "2 epochs", "start": 7, "rest": True, "stem": 16, "layout": "c"}
    grid = Option.product(*(Option(name, [value]) for name, value in values.items()))
    (one,) = settings(
        grid=grid,
        train=ROOT.random_split_signals(C("length"), {"A": C("n"), "N": 1}),
        test=ROOT.split_signals(C("length"), step=C("length")),
        batch_size=C("records"),
        epochs=C("passes"),
        optimizer=Optimizer("sgd", learning_rate=C("rate")),
        loss=Loss(label_smoothing=C("smooth")),
        test_every=C("when"),
        seed=C("start"),
        drop_last=C("rest"),
        model_arguments={"blocks": [1], "filters": [C("stem")], "input_filters": 1},
    )
    assert one.train.split.length == one.test.split.step == 50
    assert one.train.split.n == {"A": 3, "N": 1}
    assert (one.batch_size, one.epochs, one.seed, one.drop_last) == (8, 2, 7, True)
    assert one.optimizer == Optimizer("sgd", learning_rate=0.5)
    assert one.loss == Loss(label_smoothing=0.1)
    assert one.test_every == "2 epochs"
    assert one.arguments["filters"] == [16]


def test_an_option_may_be_the_whole_optimizer_or_pipeline():
    ways = [KV(Optimizer("sgd"), "slow"), KV(Optimizer("adam"), "fast")]
    cuts = [KV(ROOT.random_split_signals(100, 1), "one")]
    first, second = settings(
        grid=Option("way", ways) * Option("cut", cuts) * Option("layout", ["c"]),
        optimizer=C("way"),
        train=C("cut"),
    )
    assert (first.optimizer.name, second.optimizer.name) == ("sgd", "adam")
    assert first.train.split.n == 1
    numbers = Option("records", np.array([16])) * Option("layout", ["c"])
    (one,) = settings(grid=numbers, batch_size=C("records"))
    assert type(one.batch_size) is int, "whole numbers of NumPy are whole numbers"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"grid": Option("layuot", ["cna"]) * Option("layout", ["cna"])},
            "configuration layout_cna-layuot_cna: nothing consumes the option 'layuot': ResNet "
            "takes 'blocks', 'filters', 'layout', 'input_filters', 'dropout', 'momentum', and no "
            r"C\('layuot'\) stands in the grid file",
        ),
        ({"batch_size": C("size")}, r"C\('size'\) has no value"),
        ({"grid": Grid()}, r"\(without options\): ResNet needs a value for 'layout'"),
        ({"model": C("model")}, r"C\('model'\) has no value"),
        ({"model": "ResNet"}, "model='ResNet' must be a function"),
        ({"model_arguments": {"block": [1]}}, "model_arguments has 'block'"),
        ({"train": ROOT}, "the train pipeline: the pipeline must cut windows of one length"),
        ({"batch_size": C("layout")}, "batch_size='cna' must be a whole number"),
        ({"test_every": C("layout")}, "cna"),
        ({"optimizer": C("layout")}, "optimizer must be of type Optimizer, not str: 'cna'"),
        ({"seed": C("layout")}, "seed='cna'"),
    ],
)
def test_what_a_configuration_can_not_be(changes, message):
    with pytest.raises(ResearchError, match=message):
        settings(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"grid": [1, 2]}, "grid must be of type Grid"),
        ({"train": ROOT.actions}, "train must be of type Pipeline"),
        ({"classes": "AN"}, r"classes='AN' must be a list of names"),
        ({"classes": ["A"]}, "two or more"),
        ({"classes": ["A", "A"]}, "each once"),
        ({"positive": "X"}, r"positive='X' is not among classes=\['A', 'N'\]"),
        ({"repetitions": 0}, "repetitions=0"),
        ({"epochs": 1.5}, "epochs=1.5"),
        ({"batch_size": True}, "batch_size=True"),
        ({"seed": -1}, "seed=-1"),
        ({"test_every": "sometimes"}, "sometimes"),
        ({"optimizer": "adam"}, "optimizer must be of type Optimizer, not str: 'adam'"),
        ({"loss": "focal"}, "loss must be of type Loss"),
        ({"drop_last": 1}, "drop_last must be of type bool"),
        ({"model_arguments": [1]}, "model_arguments must be of type Mapping"),
        ({"demo": 400}, "demo must be of type DemoBudget"),
        ({"name": " "}, "name=' '"),
        ({"split": 1.5}, "adding up to 1"),
        ({"repetitions": C("layout")}, r"repetitions holds for the whole study, so C\('layout'\)"),
        ({"classes": ["A", C("layout")]}, "classes holds for the whole study"),
        ({"grid": Option("repetition", [1])}, "option 'repetition' needs another name"),
        ({"grid": Option("rate (log)", [1])}, "can't be the name of an MLflow param"),
        ({"grid": Option("../rate", [1])}, "can't be the name of an MLflow param"),
        ({"grid": Option("x" * 251, [1])}, "can't be the name of an MLflow param"),
    ],
)
def test_what_a_research_can_not_be(changes, message):
    with pytest.raises((ResearchError, ScheduleError, SplitError), match=message):
        small_research(**changes)


@pytest.mark.parametrize(
    "budget", [{"records": 0}, {"epochs": 0}, {"repetitions": 0.5}, {"test_every": "often"}]
)
def test_what_a_demo_budget_can_not_be(budget):
    with pytest.raises((ResearchError, ScheduleError)):
        DemoBudget(**budget)


def test_short_forms_are_spelled_out_for_good():
    one = small_research(split=0.5)
    assert one.grid == Grid(Option("layout", ["cna", "cnacna"]))
    assert one.split == Split(0.5)
    assert one.positive == "A"
    assert one.classes == ("A", "N")
    with pytest.raises(AttributeError):
        one.epochs = 3
