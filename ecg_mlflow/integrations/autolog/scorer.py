"""Which records a training is tested on and when, and their scores with the present weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.pipeline.batches import CHUNK, Floats, predict_chunks
from ecg_mlflow.training.evaluation import Evaluation
from ecg_mlflow.training.schedule import Rule, Schedule

if TYPE_CHECKING:
    import keras

#: What turns the outputs of a network into probabilities; ``linear`` leaves them as they are.
Activation = Literal["softmax", "sigmoid", "linear"]
#: Layers behind the last one that computes: they change no value at prediction.
_WITHOUT_EFFECT = ("Dropout", "Flatten", "Reshape", "Identity")


class Scorer:
    """Predicts the windows of a test when it is due.

    Parameters
    ----------
    test, classes, positive, test_every, activation
        See `RunLogger`.

    Attributes
    ----------
    records
        What is scored.
    network
        The one that is trained, ending in probabilities; from `bind` on.
    params
        To be logged.
    ms_per_record
        Of the quickest test: the first one compiles.

    Raises
    ------
    AutologError
        The arguments don't fit together.
    ScheduleError
        `test_every` can't be read.
    """

    network: keras.Model

    def __init__(
        self,
        test: tuple[Any, Any, Sequence[object] | None],
        classes: Sequence[str] | None,
        positive: str | None,
        test_every: Rule | Sequence[Rule],
        activation: Activation | None,
    ) -> None:
        if not isinstance(test, list | tuple) or len(test) != 3:
            raise AutologError(
                "test= must be (windows, labels, records), with records=None where each window is "
                f"a record of its own; given is {type(test).__name__}"
                + (f" of {len(test)}" if isinstance(test, list | tuple) else "")
            )
        if activation not in (None, *get_args(Activation)):
            raise AutologError(
                f"activation={activation!r} is not known; allowed are 'softmax' and 'sigmoid' for "
                "a network that ends in logits, 'linear' for one that ends in probabilities"
            )
        windows, labels, names = test
        self._windows = windows if hasattr(windows, "shape") else np.asarray(windows)
        self.records = LabelledRecords.of(labels, names, classes, positive, "test=")
        n_windows = len(self.records.place)
        if len(self._windows.shape) < 2 or self._windows.shape[0] != n_windows:
            raise AutologError(
                f"test=: {n_windows} labels came with windows of shape "
                f"{tuple(self._windows.shape)}; there must be one label for each window, and the "
                "first axis counts the windows"
            )
        rules: list[Any] = [*test_every] if isinstance(test_every, list | tuple) else [test_every]
        Schedule.parse(rules, 1)
        # Iterations of an epoch need not be known: Keras says when one ends.
        by_epoch = [rule for rule in rules if isinstance(rule, str) and "epoch" in rule]
        self._epochs = Schedule.parse([*by_epoch, "last"], 1)
        self._iterations = Schedule.parse(
            [rule for rule in rules if rule not in by_epoch] + ["last"]
        )
        self._activation = activation
        self.params = {
            "classes": ", ".join(self.records.classes),
            "positive": self.records.positive,
            "test_every": ", ".join(map(str, rules)),
            "test_records": len(self.records.names),
        }

    def tests_between(self, begin: int, end: int) -> bool:
        """Say whether a test is due after one of these iterations, `end` left out."""
        return any(self._iterations.fires(i, last=False) for i in range(begin, end))

    def tests_after_epoch(self, epoch: int) -> bool:
        """Say whether a test is due after this epoch, of those that count from 0."""
        return self._epochs.fires(epoch, last=False)

    def bind(self, model: keras.Model) -> None:
        """Score this network from now on, once its outputs for a few windows are checked.

        Raises
        ------
        AutologError
            They are not those of the classes.
        """
        self.ms_per_record = np.inf
        shape = self._windows.shape[1:]
        self.network, self._multilabel = probability_network(model, self._activation, shape)
        outputs = next(self._predictions())
        finite = outputs[np.isfinite(outputs).all(axis=1)]
        if len(finite):
            self.records.check(
                finite,
                multilabel=self._multilabel,
                what=f"test=: the outputs of the network {model.name!r}",
                advice="Give activation='softmax' or 'sigmoid' for logits; for several labels of a "
                "record it must end in sigmoids",
            )

    def evaluate(self) -> Evaluation | None:
        """Score each record once; return None if the network says NaN."""
        began = time.perf_counter()
        probabilities = np.concatenate(list(self._predictions()))
        spent_ms = 1e3 * (time.perf_counter() - began)
        self.ms_per_record = min(self.ms_per_record, spent_ms / len(self.records.names))
        if not np.isfinite(probabilities).all():
            return None
        return self.records.evaluation(probabilities, multilabel=self._multilabel)

    def _predictions(self) -> Iterator[Floats]:
        starts = range(0, len(self._windows), CHUNK)
        chunks = (np.asarray(self._windows[i : i + CHUNK], np.float32) for i in starts)
        return predict_chunks(self.network.predict_on_batch, chunks)


def probability_network(
    model: keras.Model, activation: Activation | None, window_shape: Sequence[int]
) -> tuple[keras.Model, bool]:
    """Return a network of the same weights that ends in probabilities of classes.

    Parameters
    ----------
    model
        A compiled network. One output is the probability of the second class of two.
    activation
        Where the caller knows it; otherwise the last layer tells, and for logits the loss.
    window_shape
        Of its input, where the network itself doesn't say.

    Returns
    -------
    The network, and whether its classes are independent, so that a record may be of several or of
    none: several sigmoids.

    Raises
    ------
    AutologError
        The network has several outputs, or the last layer does not tell.
    """
    import keras

    known = getattr(model, "inputs", None)
    inputs = keras.Input(known[0].shape[1:] if known else window_shape)
    outputs = model(inputs)
    if len(getattr(outputs, "shape", ())) != 2:
        shapes = [tuple(one.shape) for one in keras.tree.flatten(outputs)]
        raise AutologError(
            f"the network {model.name!r} must have one output, of shape (n_windows, n_classes), to "
            f"be tested; it has {shapes}"
        )
    n_outputs, ending = outputs.shape[1], last_activation(model)
    if activation is None:
        if ending in ("softmax", "sigmoid"):
            activation = "linear"
        elif ending == "linear":
            is_binary = n_outputs == 1 or loss_name(model.loss).startswith("binary_")
            activation = "sigmoid" if is_binary else "softmax"
        else:
            raise AutologError(
                f"the network {model.name!r} ends in {ending or 'a layer'} that does not say "
                "whether its outputs are probabilities; give activation='softmax' or 'sigmoid' for "
                "logits, 'linear' for probabilities"
            )
    if activation != "linear":
        outputs = keras.layers.Activation(activation, dtype="float32")(outputs)
    if n_outputs == 1:
        rest = keras.layers.Rescaling(-1.0, offset=1.0)(outputs)
        outputs = keras.layers.Concatenate()([rest, outputs])
    is_sigmoid = "sigmoid" in (activation, ending if activation == "linear" else None)
    return keras.Model(inputs, outputs, name=model.name), n_outputs > 1 and is_sigmoid


def last_activation(model: keras.Model) -> str | None:
    """Name the activation that a network ends in, ``linear`` for none; None if it can't be told."""
    import keras

    found = None
    for layer in reversed(model.layers):
        if type(layer).__name__ in _WITHOUT_EFFECT:
            continue
        if isinstance(layer, keras.Model):
            return last_activation(layer) or found
        if isinstance(layer, keras.layers.Softmax):
            return "softmax"
        name = getattr(getattr(layer, "activation", None), "__name__", None)
        # A linear layer of another type stands there in mixed precision.
        if name != "linear" or not isinstance(layer, keras.layers.Activation):
            return name or found
        found = name
    return found


def loss_name(loss: Any) -> str:
    """Name a loss as it was given to `compile`: text, a function, or an object."""
    return str(getattr(loss, "name", None) or getattr(loss, "__name__", None) or loss)
