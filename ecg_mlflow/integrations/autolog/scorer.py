"""Which records a training is tested on and when, and their scores with the present weights."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.network import (
    Activation,
    OutputActivation,
    check_activation,
)
from ecg_mlflow.pipeline.batches import CHUNK, Floats, predict_chunks
from ecg_mlflow.training import Evaluation
from ecg_mlflow.training.schedule import Rule, Schedule

if TYPE_CHECKING:
    import keras

#: Windows that are brought to float32 at once.
_PIECE = 8 * CHUNK
#: A schedule of no iteration but the last.
_NEVER: list[Rule] = ["last"]


class FitSettings:
    """The tests that `RunLogger` and `autolog` are asked for, checked before the training.

    Parameters
    ----------
    test, classes, positive, test_every, activation
        See `RunLogger`.

    Attributes
    ----------
    windows
        ``(n_windows, ...)`` to predict; empty without a test.
    records
        The records that they are cut from; None without a test.
    test_every
        The schedule as it was given.
    activation
        The output activation, where it was given.

    Raises
    ------
    AutologError
        The arguments don't fit together.
    ScheduleError
        `test_every` can't be read.
    """

    def __init__(
        self,
        test: tuple[Any, Any, Sequence[object] | None] | None,
        classes: Sequence[str] | None,
        positive: str | None,
        test_every: Rule | Sequence[Rule],
        activation: Activation | None,
    ) -> None:
        rules: list[Any] = [test_every]
        if isinstance(test_every, list | tuple):
            rules = list(test_every)
        Schedule.parse(rules, 1)
        # Iterations of an epoch need not be known: Keras says when one ends.
        by_epoch = [rule for rule in rules if isinstance(rule, str) and "epoch" in rule]
        others = [rule for rule in rules if rule not in by_epoch]
        self._epochs = Schedule.parse(by_epoch or _NEVER, 1)
        self._iterations = Schedule.parse(others or _NEVER)
        self.test_every = ", ".join(map(str, rules))
        check_activation(activation)
        self.activation = activation
        self.windows: Any = np.empty(0, np.float32)
        self.records: LabelledRecords | None = None
        if test is not None:
            self.windows, self.records = _read_test(test, classes, positive)
        elif classes is not None or positive is not None or activation is not None:
            raise AutologError(
                "classes=, positive= and activation= say how to score, and there is nothing to "
                "score; give test=(windows, labels, records), or leave them out"
            )

    def tests_between(self, begin: int, end: int) -> bool:
        """Say whether a test is due after one of these iterations, `end` left out."""
        return any(self._iterations.fires(i, last=False) for i in range(begin, end))

    def tests_after_epoch(self, epoch: int) -> bool:
        """Say whether a test is due after this epoch, of those that count from 0."""
        return self._epochs.fires(epoch, last=False)


class Scorer:
    """Predicts all windows of a test.

    Parameters
    ----------
    model
        Built and compiled.
    settings
        With a test.

    Attributes
    ----------
    records, output
        What is scored, and what turns the network's outputs into probabilities.
    ms_per_record
        Of the quickest test: the first one compiles.

    Raises
    ------
    AutologError
        The network's outputs are not those of the classes.
    """

    def __init__(self, model: keras.Model, settings: FitSettings) -> None:
        assert settings.records is not None
        self.records: LabelledRecords = settings.records
        self.ms_per_record = np.inf
        self._model, self._all_windows = model, settings.windows
        self.output = self._checked_output(settings)

    def evaluate(self) -> Evaluation | None:
        """Score each record once; return None if the network says NaN."""
        began = time.perf_counter()
        pieces = list(predict_chunks(self._predict, self._windows()))
        spent_ms = 1e3 * (time.perf_counter() - began)
        self.ms_per_record = min(self.ms_per_record, spent_ms / len(self.records.names))
        probabilities = np.concatenate(pieces)
        if not np.isfinite(probabilities).all():
            return None
        return self.records.evaluation(probabilities, multilabel=self.output.independent)

    def _predict(self, windows: Floats) -> npt.NDArray[np.float32]:
        return self.output.probabilities(self._model.predict_on_batch(windows))

    def _windows(self) -> Iterator[Floats]:
        for first in range(0, len(self._all_windows), _PIECE):
            yield np.asarray(self._all_windows[first : first + _PIECE], np.float32)

    def _checked_output(self, settings: FitSettings) -> OutputActivation:
        """Predict a few windows, and check that the outputs are those of the classes."""
        few = next(self._windows())[:CHUNK]
        # Repeated to the size of all calls, so that none is traced anew.
        outputs = self._model.predict_on_batch(np.resize(few, (CHUNK, *few.shape[1:])))
        name, classes = self._model.name, self.records.classes
        shape = getattr(outputs, "shape", None)
        if shape is None or len(shape) != 2:
            raise AutologError(
                f"the network {name!r} must have one output, of shape (n_windows, "
                f"{len(classes)}), to be tested; it has {shape or f'{len(outputs)} outputs'}"
            )
        output = OutputActivation.of(self._model, settings.activation, shape[1])
        if output.n_classes != len(classes):
            raise AutologError(
                f"classes={list(classes)} are {len(classes)}, and the network {name!r} tells "
                f"{output.n_classes} apart (its output has the shape (n_windows, {shape[1]})); "
                "name the classes in the order of the outputs"
            )
        if not output.independent and not self.records.is_exclusive:
            raise AutologError(
                "test=: a record has several labels or none, and the network decides for one "
                "class; of independent classes it must end in sigmoids"
            )
        output.probabilities(outputs[: len(few)])
        return output


def _read_test(test: Any, classes: Sequence[str] | None, positive: str | None) -> Any:
    if not isinstance(test, list | tuple) or len(test) != 3:
        raise AutologError(
            "test= must be (windows, labels, records), with records=None where each window is a "
            f"record of its own; given is {type(test).__name__}"
            + (f" of {len(test)}" if isinstance(test, list | tuple) else "")
        )
    windows, labels, names = test
    windows = windows if hasattr(windows, "shape") else np.asarray(windows)
    records = LabelledRecords.of(labels, names, classes, positive, "test=")
    if len(windows.shape) < 2 or windows.shape[0] != len(records.order):
        raise AutologError(
            f"test=: {len(records.order)} labels came with windows of shape "
            f"{tuple(windows.shape)}; there must be one label for each window, and the first axis "
            "counts the windows"
        )
    return windows, records
