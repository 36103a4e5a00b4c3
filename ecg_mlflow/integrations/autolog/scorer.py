"""Which records a training is tested on and when, and their scores with the present weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.network import Activation, OutputActivation
from ecg_mlflow.pipeline.batches import CHUNK, Floats, predict_chunks
from ecg_mlflow.training import Evaluation
from ecg_mlflow.training.schedule import Rule, Schedule

if TYPE_CHECKING:
    import keras

#: Windows that are brought to float32 at once.
_PIECE = 8 * CHUNK


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
    output
        What turns the network's outputs into probabilities; known from `bind` on.
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

    output: OutputActivation

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
        self._model, self.ms_per_record = model, np.inf
        few = next(self._pieces())[:CHUNK]
        # Repeated to the size of all calls, so that none is traced anew.
        outputs = model.predict_on_batch(np.resize(few, (CHUNK, *few.shape[1:])))
        classes, shape = self.records.classes, tuple(getattr(outputs, "shape", ()))
        if len(shape) != 2:
            raise AutologError(
                f"the network {model.name!r} must have one output, of shape (n_windows, "
                f"{len(classes)}), to be tested; it has {shape or f'{len(outputs)} outputs'}"
            )
        if max(shape[1], 2) != len(classes):
            raise AutologError(
                f"classes={list(classes)} are {len(classes)}, and the network {model.name!r} tells "
                f"{max(shape[1], 2)} apart (its output has the shape (n_windows, {shape[1]})); "
                "name the classes in the order of the outputs"
            )
        self.output = OutputActivation.of(model, self._activation, shape[1])
        if not self.output.independent:
            self.records.check_exclusive(
                "the network decides for one class; of independent classes it must end in sigmoids"
            )
        self.output.probabilities(outputs[: len(few)])

    def evaluate(self) -> Evaluation | None:
        """Score each record once; return None if the network says NaN."""
        began = time.perf_counter()
        probabilities = np.concatenate([*predict_chunks(self._predict, self._pieces())])
        spent_ms = 1e3 * (time.perf_counter() - began)
        self.ms_per_record = min(self.ms_per_record, spent_ms / len(self.records.names))
        if not np.isfinite(probabilities).all():
            return None
        return self.records.evaluation(probabilities, multilabel=self.output.independent)

    def _predict(self, windows: Floats) -> npt.NDArray[np.float32]:
        return self.output.probabilities(self._model.predict_on_batch(windows))

    def _pieces(self) -> Iterator[Floats]:
        for first in range(0, len(self._windows), _PIECE):
            yield np.asarray(self._windows[first : first + _PIECE], np.float32)
