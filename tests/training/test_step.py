"""The compiled step against Keras's own training, from the same weights."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, regularizers
from scipy.special import expit, softmax

from ecg_mlflow.errors import CheckpointError
from ecg_mlflow.models import ResNet
from ecg_mlflow.training.declared import Loss, Optimizer
from ecg_mlflow.training.step import CompiledStep, JointStep, _is_plain_adam


def compiled(model: keras.Model, optimizer=None, loss=None) -> CompiledStep:
    loss = loss or Loss()
    optimizer = (optimizer or Optimizer()).build()
    return CompiledStep(model, optimizer, loss.build(), activation=loss.activation)


def train(model: keras.Model, batches, optimizer=None, loss=None) -> np.ndarray:
    """Train with our step; return the losses."""
    step = compiled(model, optimizer, loss)
    return step.fetch([step.train(*batch) for batch in batches])


def train_in_keras(model: keras.Model, batches, optimizer=None, loss=None) -> np.ndarray:
    """Train with ``train_on_batch``; return the losses."""
    optimizer, loss = (optimizer or Optimizer()).build(), (loss or Loss()).build()
    model.compile(optimizer, loss, jit_compile=False)
    losses = []
    for windows, targets in batches:
        model.reset_metrics()
        losses.append(model.train_on_batch(windows, targets))
    return np.array(losses)


def assert_close_weights(model: keras.Model, other: keras.Model) -> None:
    for variable, expected in zip(model.variables, other.variables, strict=True):
        if "seed" not in variable.path:
            np.testing.assert_allclose(variable, expected, atol=1e-4, err_msg=variable.path)


def test_losses_and_weights_are_those_of_keras(small_resnet, batches):
    ours, stock = small_resnet(), small_resnet()
    expected = train_in_keras(stock, batches)
    before = ours.get_weights()
    step = compiled(ours)
    losses = step.fetch([step.train(*batch) for batch in batches])
    assert losses.shape == (50,)
    np.testing.assert_allclose(losses, expected, atol=1e-4)
    # Moving means and variances, and the optimizer's moments, too.
    assert_close_weights(ours, stock)
    assert int(step.optimizer.iterations.value) == 50
    for a, b in zip(step.optimizer.variables, stock.optimizer.variables, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, err_msg=a.path)
    assert max(np.abs(a - b).max() for a, b in zip(before, ours.get_weights(), strict=True)) > 0.01
    np.testing.assert_array_equal(train(small_resnet(), batches), losses, "two runs are the same")


@pytest.mark.parametrize("name", ["sigmoid_cross_entropy", "sigmoid_focal"])
def test_several_classes_a_record_are_trained_as_in_keras(small_resnet, batches, name: str):
    windows, targets = batches[0]
    several = np.maximum(targets, np.roll(targets, 1, axis=0))
    several[0] = 0
    ours, stock, same = small_resnet(), small_resnet(), [(windows, several)] * 5
    losses = train(ours, same, loss=Loss(name))
    np.testing.assert_allclose(losses, train_in_keras(stock, same, loss=Loss(name)), atol=1e-5)
    logits = np.array(ours(windows, training=False))
    found = compiled(ours, loss=Loss(name)).predict(windows)
    np.testing.assert_allclose(found, expit(logits), atol=1e-5)


def test_the_step_is_traced_once_for_several_batch_sizes(small_resnet, batches):
    step = compiled(small_resnet())
    for windows, targets in batches[:8]:
        step.train(windows, targets)
        step.train(step.to_device(windows), step.to_device(targets))
        step.predict(windows)
    assert len({len(windows) for windows, _ in batches[:8]}) == 8
    assert step._train.experimental_get_tracing_count() == 1
    assert step._predict.experimental_get_tracing_count() == 1


def test_predictions_are_probabilities_that_follow_the_weights(small_resnet, batches):
    model = small_resnet()
    step, initial, windows = compiled(model), model.get_weights(), batches[1][0]
    first = step.predict(windows)
    step.train(*batches[0])
    weights = model.get_weights()
    found = step.predict(windows)
    logits = np.asarray(model(windows, training=False), dtype=np.float64)
    np.testing.assert_allclose(found, softmax(logits, axis=1), atol=1e-5)
    for before, after in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
    assert not np.allclose(found, first, atol=1e-6)
    model.set_weights(initial)
    np.testing.assert_allclose(step.predict(windows), first, atol=1e-6)


# --- What is saved ------------------------------------------------------------------------------


# Keras 3.15 saves variables through np.array, which NumPy 2 warns of.
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept:DeprecationWarning")
def test_a_trained_model_is_saved_as_stock_keras(small_resnet, batches, tmp_path):
    model = small_resnet()
    step = compiled(model)
    step.train(*batches[0])
    probabilities = step.predict(batches[0][0])
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", custom_objects={})
    kinds = {type(layer) for layer in (loaded, *loaded.layers)}
    assert {kind.__module__.partition(".")[0] for kind in kinds} == {"keras"}
    logits = np.asarray(loaded(batches[0][0], training=False))
    np.testing.assert_allclose(keras.ops.softmax(logits), probabilities, atol=1e-5)


# --- Models of one's own, other optimizers -------------------------------------------------------


def nested() -> keras.Model:
    keras.utils.set_random_seed(1)
    head = [layers.Conv1D(4, 3, use_bias=False), layers.BatchNormalization(), layers.ReLU()]
    inner = keras.Sequential([layers.Input((64, 2)), *head])
    inputs = keras.Input((64, 2))
    x = layers.GlobalAveragePooling1D()(inner(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


def regularised() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((64, 2))
    x = layers.Conv1D(4, 3, use_bias=False, kernel_regularizer="l2")(inputs)
    x = layers.BatchNormalization(gamma_regularizer=regularizers.L1(0.1))(x)
    x = layers.GlobalAveragePooling1D()(layers.ReLU(activity_regularizer="l2")(x))
    return keras.Model(inputs, layers.Dense(2)(x))


def constrained() -> keras.Model:
    keras.utils.set_random_seed(1)
    inputs = keras.Input((64, 2))
    x = layers.Conv1D(4, 3, kernel_constraint=keras.constraints.MaxNorm(0.2))(inputs)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))


def partly_frozen() -> keras.Model:
    model = nested()
    model.layers[1].layers[0].trainable = False
    return model


@pytest.mark.parametrize(
    ("build", "optimizer"),
    [
        *((build, Optimizer()) for build in (nested, regularised, constrained, partly_frozen)),
        (nested, Optimizer("sgd", learning_rate=0.05, momentum=0.9, nesterov=True)),
        (nested, Optimizer("adamw", learning_rate=0.01, weight_decay=0.1)),
        (nested, Optimizer("adam", clipnorm=0.01, amsgrad=True)),
        (nested, Optimizer("adam", learning_rate=0.01, beta_1=0.5, beta_2=0.9, epsilon=1e-3)),
    ],
)
def test_models_of_ones_own_and_other_optimizers_train_as_in_keras(build, optimizer, batches):
    ours, stock = build(), build()
    losses = train(ours, batches[:20], optimizer)
    np.testing.assert_allclose(losses, train_in_keras(stock, batches[:20], optimizer), atol=1e-4)
    assert_close_weights(ours, stock)


@pytest.mark.parametrize(
    ("name", "more"),
    [("adamw", {}), ("adam", {"amsgrad": True}), ("adam", {"use_ema": True})]
    + [("adam", {n: 0.1}) for n in ("weight_decay", "clipnorm", "global_clipnorm", "clipvalue")],
)
def test_only_plain_adam_is_fused(name, more):
    variables = nested().trainable_variables
    assert _is_plain_adam(Optimizer("adam", beta_1=0.5).build(), variables)
    assert not _is_plain_adam(Optimizer(name, more).build(), variables)


def with_dropout() -> keras.Model:
    keras.utils.set_random_seed(3)
    hidden = [layers.Conv1D(4, 5, strides=2), layers.BatchNormalization(), layers.Dropout(0.5)]
    ending = [layers.GlobalAveragePooling1D(), layers.Dense(2)]
    return keras.Sequential([keras.Input((64, 2)), *hidden, *ending])


@pytest.mark.parametrize(
    "optimizer",
    [Optimizer(), Optimizer("sgd", momentum=0.9), Optimizer("adam", use_ema=True)],
    ids=str,
)
def test_a_restored_step_goes_on_to_the_last_bit(optimizer, batches):
    def go(step: CompiledStep, some) -> list[float]:
        return [float(step.train(*map(step.to_device, batch))) for batch in some]

    whole = compiled(with_dropout(), optimizer)
    expected = go(whole, batches[:12])
    first = compiled(with_dropout(), optimizer)
    go(first, batches[:5])
    state = first.state()
    go(first, batches[5:8])  # what was saved is a copy
    second = compiled(with_dropout(), optimizer)
    second.restore(state)
    assert go(second, batches[5:12]) == expected[5:]
    for name, array in second.state().items():
        assert array.tobytes() == whole.state()[name].tobytes(), name


def test_the_state_of_another_model_is_refused(small_resnet):
    one = compiled(with_dropout())
    for model, optimizer in ((small_resnet(), "adam"), (with_dropout(), "sgd")):
        with pytest.raises(CheckpointError, match="belongs to another model or optimizer"):
            compiled(model, Optimizer(optimizer)).restore(one.state())


# --- Several models in one call ------------------------------------------------------------------

#: Different networks, each with batch norm and dropout, and the optimizer of each.
BRANCHES = [
    ({"layout": "cna", "filters": [4, 6], "input_filters": 4}, Optimizer("adam")),
    ({"layout": "nac", "filters": [6, 4], "input_filters": 6}, Optimizer("sgd", learning_rate=0.1)),
    ({"layout": "cnacna", "filters": [4, 4], "input_filters": 4}, Optimizer(learning_rate=0.01)),
]


def build_steps() -> list[CompiledStep]:
    """Build the branches' steps; the same weights and dropout each time."""
    keras.utils.set_random_seed(0)
    return [compiled(ResNet((64, 2), 2, blocks=[1, 1], **net), how) for net, how in BRANCHES]


def train_in_sets(train, batches, sets) -> list[list[float]]:
    """Train some of the models on each batch; return their losses."""
    pairs = zip(sets, batches, strict=False)
    return [[float(loss) for loss in train(active, *batch)] for active, batch in pairs]


@pytest.mark.parametrize(
    "sets",
    [
        [[0, 1, 2]] * 10,
        [[0, 1, 2]] * 4 + [[0, 2]] * 3 + [[2]] * 3,
        [[2, 0], [0, 2], [1], [1, 2, 0], [2, 1, 0], [0], [2], [], [0, 1], [1, 0]],
    ],
    ids=["all", "fewer and fewer", "any order"],
)
def test_models_train_as_they_do_alone(batches, sets):
    together, apart = build_steps(), build_steps()
    losses = train_in_sets(JointStep(together).train, batches, sets)
    alone = train_in_sets(lambda a, *batch: [apart[i].train(*batch) for i in a], batches, sets)
    # On a GPU sums may be formed in another order, on a CPU the last bit is the same.
    close = {"rtol": 1e-5, "atol": 1e-6} if tf.config.list_logical_devices("GPU") else {"rtol": 0}
    for found, expected in zip(losses, alone, strict=True):
        np.testing.assert_allclose(found, expected, **close)
    for i, (step, other) in enumerate(zip(together, apart, strict=True)):
        for name, array in other.state().items():  # weights, statistics, seeds and moments
            np.testing.assert_allclose(step.state()[name], array, **close)
        assert int(step.optimizer.iterations.value) == sum(i in active for active in sets)
    assert min(np.diff(sorted(losses[3]))) > 1e-3, "the models differ"


def test_each_set_of_models_is_traced_once_and_each_model_once(batches):
    steps = build_steps()
    joint = JointStep(steps)
    train_in_sets(joint.train, batches, [[1], [0]])
    assert joint._joint == {}, "one model alone needs no joint function"
    sets = [[0, 1, 2], [2, 1, 0], [0, 2], [2, 0], [0, 1, 2], [1], [2], [0, 2], [1, 0]]
    train_in_sets(joint.train, batches, sets)
    traces = {models: f.experimental_get_tracing_count() for models, f in joint._joint.items()}
    assert traces == {(0, 1, 2): 1, (0, 2): 1, (0, 1): 1}
    assert [step._train.experimental_get_tracing_count() for step in steps] == [1, 1, 1]
