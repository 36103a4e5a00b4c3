"""The joint step against the same models trained one call each."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np
import pytest
import tensorflow as tf

from ecg_mlflow.models import ResNet
from ecg_mlflow.training import Loss, Optimizer
from ecg_mlflow.training.step import CompiledStep, JointStep

Batches = list[tuple[np.ndarray, np.ndarray]]

#: Different networks, each with batch norm and dropout, and the optimizer of each.
BRANCHES = [
    ({"layout": "cna", "filters": [4, 6], "input_filters": 4}, Optimizer("adam")),
    ({"layout": "nac", "filters": [6, 4], "input_filters": 6}, Optimizer("sgd", learning_rate=0.1)),
    ({"layout": "cnacna", "filters": [4, 4], "input_filters": 4}, Optimizer(learning_rate=0.01)),
]


def build_steps() -> list[CompiledStep]:
    """Build the branches' steps; the same weights and dropout each time."""
    steps = []
    for seed, (arguments, optimizer) in enumerate(BRANCHES):
        keras.utils.set_random_seed(seed)
        model = ResNet((64, 2), 2, blocks=[1, 1], **arguments)
        steps.append(CompiledStep(model, optimizer.build(), Loss().build()))
    return steps


def train_apart(
    steps: Sequence[CompiledStep], batches: Batches, active_sets: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Train with a call each; return the losses of every iteration."""
    return [
        [float(steps[i].train(*batch)) for i in active]
        for batch, active in zip(batches, active_sets, strict=True)
    ]


def train_jointly(
    joint: JointStep, batches: Batches, active_sets: Sequence[Sequence[int]]
) -> list[list[float]]:
    """Train with one call for all; return the losses of every iteration."""
    return [
        [float(loss) for loss in joint.train(active, *batch)]
        for batch, active in zip(batches, active_sets, strict=True)
    ]


def assert_same_state(steps: Sequence[CompiledStep], others: Sequence[CompiledStep]) -> None:
    """Compare weights, moving statistics, seeds and optimizers."""
    for step, other in zip(steps, others, strict=True):
        variables = [*step.model.variables, *step.optimizer.variables]
        expected = [*other.model.variables, *other.optimizer.variables]
        for a, b in zip(variables, expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6, err_msg=a.path)


@pytest.mark.parametrize(
    "active_sets",
    [
        [[0, 1, 2]] * 10,
        [[0, 1, 2]] * 4 + [[0, 2]] * 3 + [[2]] * 3,
        [[2, 0], [0, 2], [1], [1, 2, 0], [2, 1, 0], [0], [2], [], [0, 1], [1, 0]],
    ],
    ids=["all", "fewer and fewer", "any order"],
)
def test_models_train_as_they_do_alone(batches: Batches, active_sets):
    together, apart = build_steps(), build_steps()
    before = [step.model.get_weights() for step in apart]
    losses = train_jointly(JointStep(together), batches[:10], active_sets)
    expected = train_apart(apart, batches[:10], active_sets)
    for found, alone in zip(losses, expected, strict=True):
        np.testing.assert_allclose(found, alone, rtol=1e-5)
    assert_same_state(together, apart)
    for step, i in zip(together, range(3), strict=True):
        assert int(step.optimizer.iterations.value) == sum(i in active for active in active_sets)
        moved = zip(before[i], step.model.get_weights(), strict=True)
        assert max(np.abs(a - b).max() for a, b in moved) > 0.001


def test_losses_on_a_cpu_are_those_alone_to_the_last_bit(batches: Batches):
    if tf.config.list_logical_devices("GPU"):
        pytest.skip("on a GPU sums may be formed in another order")
    together, apart = build_steps(), build_steps()
    losses = train_jointly(JointStep(together), batches[:10], [[0, 1, 2]] * 10)
    assert losses == train_apart(apart, batches[:10], [[0, 1, 2]] * 10)
    for step, other in zip(together, apart, strict=True):
        for a, b in zip(step.model.get_weights(), other.model.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)


def test_each_set_of_models_is_traced_once_and_each_model_once(batches: Batches):
    steps = build_steps()
    joint = JointStep(steps)
    train_jointly(joint, batches[:2], [[1], [0]])
    assert joint._joint == {}, "one model alone needs no joint function"
    sets = [[0, 1, 2], [2, 1, 0], [0, 2], [2, 0], [0, 1, 2], [1], [2], [0, 2], [1, 0]]
    train_jointly(joint, batches[: len(sets)], sets)
    traces = {models: f.experimental_get_tracing_count() for models, f in joint._joint.items()}
    assert traces == {(0, 1, 2): 1, (0, 2): 1, (0, 1): 1}
    assert [step._train.experimental_get_tracing_count() for step in steps] == [1, 1, 1]
