"""Scores the records of a test with the present weights of a network in training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.fit_settings import FitSettings
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.network import Head
from ecg_mlflow.pipeline.batches import CHUNK, Floats, predict_chunks
from ecg_mlflow.training import Evaluation

if TYPE_CHECKING:
    import keras

#: Windows that are brought to float32 at once.
_PIECE = 8 * CHUNK


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
    records, head
        What is scored, and what the network ends in.
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
        self.head = self._look_at_outputs(settings)

    def evaluate(self) -> Evaluation | None:
        """Score each record once; return None if the network says NaN."""
        began = time.perf_counter()
        pieces = list(predict_chunks(self._predict, self._windows()))
        spent_ms = 1e3 * (time.perf_counter() - began)
        self.ms_per_record = min(self.ms_per_record, spent_ms / len(self.records.names))
        probabilities = np.concatenate(pieces)
        if not np.isfinite(probabilities).all():
            return None
        return self.records.evaluation(probabilities, multilabel=self.head.independent)

    def _predict(self, windows: Floats) -> npt.NDArray[np.float32]:
        return self.head.probabilities(self._model.predict_on_batch(windows))

    def _windows(self) -> Iterator[Floats]:
        for first in range(0, len(self._all_windows), _PIECE):
            yield np.asarray(self._all_windows[first : first + _PIECE], np.float32)

    def _look_at_outputs(self, settings: FitSettings) -> Head:
        """Predict a few windows, and see whether the outputs are those of the classes."""
        few = next(self._windows())[:CHUNK]
        filled = np.zeros((CHUNK, *few.shape[1:]), np.float32)
        filled[: len(few)] = few
        outputs = self._model.predict_on_batch(filled)
        name, classes = self._model.name, self.records.classes
        shape = getattr(outputs, "shape", None)
        if shape is None or len(shape) != 2:
            raise AutologError(
                f"the network {name!r} must have one output, of shape (n_windows, "
                f"{len(classes)}), to be tested; it has {shape or f'{len(outputs)} outputs'}"
            )
        head = Head.of(self._model, settings.activation, shape[1])
        if head.n_classes != len(classes):
            raise AutologError(
                f"classes={list(classes)} are {len(classes)}, and the network {name!r} tells "
                f"{head.n_classes} apart (its output has the shape (n_windows, {shape[1]})); name "
                "the classes in the order of the outputs"
            )
        if not head.independent and not self.records.is_exclusive:
            raise AutologError(
                "test=: a record has several labels or none, and the network decides for one "
                "class; of independent classes it must end in sigmoids"
            )
        head.probabilities(outputs[: len(few)])
        return head
