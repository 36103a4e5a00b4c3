"""Which records a training is tested on and when, and their scores with the present weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.network import Activation, probability_network
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
        few = next(self._pieces())[:CHUNK]
        # Repeated to the size of all calls, so that none is traced anew.
        outputs = self.network.predict_on_batch(np.resize(few, (CHUNK, *shape)))[: len(few)]
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
        chunks = predict_chunks(self.network.predict_on_batch, self._pieces())
        probabilities = np.concatenate(list(chunks))
        spent_ms = 1e3 * (time.perf_counter() - began)
        self.ms_per_record = min(self.ms_per_record, spent_ms / len(self.records.names))
        if not np.isfinite(probabilities).all():
            return None
        return self.records.evaluation(probabilities, multilabel=self._multilabel)

    def _pieces(self) -> Iterator[Floats]:
        for first in range(0, len(self._windows), _PIECE):
            yield np.asarray(self._windows[first : first + _PIECE], np.float32)
