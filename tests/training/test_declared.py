"""Optimizers and losses as they are declared, and what Keras makes of them."""

from __future__ import annotations

import dataclasses
import inspect
import pickle

import keras
import numpy as np
import pytest

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.grids import C, references, resolve
from ecg_mlflow.training.declared import LOSSES, OPTIMIZERS, Loss, Optimizer


@pytest.mark.parametrize(
    ("module", "class_name", "arguments"),
    [(keras.optimizers, *one) for one in OPTIMIZERS.values()]
    + [(keras.losses, *one) for one in LOSSES.values()],
)
def test_keras_takes_every_argument_that_is_allowed(module, class_name, arguments):
    assert arguments <= set(inspect.signature(getattr(module, class_name)).parameters)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_has_the_same_default_rate(name):
    assert type(Optimizer(name).build()).__name__ == OPTIMIZERS[name][0]
    assert float(Optimizer(name).build().learning_rate) == pytest.approx(1e-3)


def test_arguments_reach_keras():
    built = Optimizer("sgd", momentum=0.9, nesterov=True, clipnorm=1.0).build()
    assert (built.momentum, built.nesterov, built.clipnorm) == (0.9, True, 1.0)
    assert Loss("focal", gamma=3.0).build().gamma == 3.0
    assert Optimizer(learning_rate=np.float32(0.5)).build().learning_rate == 0.5


def test_the_default_loss_is_the_cross_entropy_of_logits():
    logits, targets = np.array([[2.0, 0.0], [-1.0, 1.0]]), np.eye(2)
    assert float(Loss().build()(targets, logits)) == pytest.approx(np.log(1 + np.exp(-2)), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Optimizer("adan"), r"unknown optimizer 'adan'; choose one of \['adam', 'adamw'"),
        (lambda: Optimizer("sgd", beta_1=0.9), r"'sgd' takes no argument \['beta_1'\]; it takes"),
        (lambda: Optimizer("adam", lr=0.1), r"takes no argument \['lr'\]"),
        (lambda: Optimizer(learning_rate=0), "learning_rate=0 .* must be a positive number"),
        (lambda: Optimizer(learning_rate=float("nan")), "must be a positive number"),
        (lambda: Optimizer(learning_rate="1e-3"), "must be a positive number"),
        (lambda: Optimizer(learning_rate=True), "must be a positive number"),
        (lambda: Loss("hinge"), r"unknown loss 'hinge'; choose one of \['softmax_cross_entropy'"),
        (lambda: Loss("focal", beta=1), r"'focal' takes no argument \['beta'\]; it takes"),
    ],
)
def test_what_is_wrong_is_said_without_keras(make, message):
    with pytest.raises(ResearchError, match=message):
        make()


def test_placeholders_are_checked_once_they_have_values():
    optimizer = Optimizer(C("name"), learning_rate=C("rate"), clipnorm=1.0)
    assert references(optimizer) == {"name", "rate"}
    found = resolve(optimizer, {"name": "adamw", "rate": 0.1})
    assert found == Optimizer("adamw", learning_rate=0.1, clipnorm=1.0)
    with pytest.raises(ResearchError, match="unknown optimizer 'adan'"):
        resolve(optimizer, {"name": "adan", "rate": 0.1})
    assert resolve(Loss("focal", gamma=C("g")), {"g": 2}) == Loss("focal", gamma=2)


@pytest.mark.parametrize("declared", [Optimizer("sgd", momentum=0.9), Loss("focal", gamma=2.0)])
def test_declarations_are_values(declared):
    assert pickle.loads(pickle.dumps(declared)) == declared
    assert dataclasses.replace(declared) == declared
    assert eval(repr(declared), {"Optimizer": Optimizer, "Loss": Loss}) == declared
