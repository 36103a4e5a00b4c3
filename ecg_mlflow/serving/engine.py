"""From recordings to a table of predictions: adapt, cut, predict in chunks, average, decide."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_mlflow.errors import PipelineError, RecordError
from ecg_mlflow.pipeline import Prefetch, Stages
from ecg_mlflow.pipeline.batches import Floats, predict_chunks, record_means
from ecg_mlflow.pipeline.memory import cut_windows, prepare_record
from ecg_mlflow.records import DigitalRecord
from ecg_mlflow.serving.adapt import Expected, adapt, length_flags
from ecg_mlflow.serving.manifest import Manifest
from ecg_mlflow.stats.calibration import calibrated
from ecg_mlflow.stats.metrics import predicted_classes
from ecg_mlflow.stats.multilabel import predicted_labels
from ecg_mlflow.stats.predictions import PROBABILITY, probability_columns
from ecg_mlflow.stats.scores import label_texts

#: Recordings that are cut together: so many, or as soon as they have so many samples.
BLOCK_RECORDS, BLOCK_VALUES = 64, 2**21

OK, FLAG, ERROR = "ok", "flag: ", "error: "

#: Columns of the table of predictions.
CALIBRATED = "calibrated_{}"
WINDOW_PROBABILITIES = "window_probabilities"

#: MLflow's scoring server sets it. Its JSON has NaN for NaN, which no other language reads.
_SERVING_VARIABLE = "_MLFLOW_IS_IN_SERVING_ENVIRONMENT"


@dataclass
class RecordPrediction:
    """The prediction for one recording.

    Attributes
    ----------
    record
        Its name.
    status
        ``ok``, or ``flag: ...`` or ``error: ...`` with the reason.
    windows
        ``(n_windows, n_classes)`` float32 probabilities; none after an error.
    probabilities
        ``(n_classes,)``: their mean; NaN after an error.
    """

    record: str
    status: str
    windows: Floats
    probabilities: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Item:
    """A recording that is asked for: what to call it until it is read, and how to read it."""

    name: str
    read: Callable[[], DigitalRecord]


@dataclass(frozen=True)
class Engine:
    """A network with the pipeline before it.

    Parameters
    ----------
    stages
        The pipeline, one that draws nothing by chance.
    expected
        What the network was trained on.
    predict
        Windows ``(n, length, n_leads)`` to probabilities ``(n, n_classes)``.
    n_classes
        How many.
    """

    stages: Stages
    expected: Expected
    predict: Callable[[Floats], Floats]
    n_classes: int

    def answer(self, items: Iterable[Item]) -> list[RecordPrediction]:
        """Answer for each recording, in their order.

        Windows of many recordings share the calls of the network. Memory holds some blocks of
        recordings, or some recordings if those are larger, whatever the number of items.
        """
        answers: list[RecordPrediction] = []
        scored = _Scored()
        # Reading takes as long as a small network does: it goes on meanwhile, in a thread.
        with Prefetch(self._windows(items, answers, scored)) as windows:
            found = list(predict_chunks(self.predict, windows))
        if found:
            probabilities = np.concatenate(found)
            counts = np.array(scored.counts, np.int64)
            means = record_means(probabilities, counts)
            parts = np.split(probabilities, np.cumsum(counts)[:-1])
            for place, mean, part in zip(scored.places, means, parts, strict=True):
                self._fill(answers[place], mean, part)
        return answers

    def _windows(
        self, items: Iterable[Item], answers: list[RecordPrediction], scored: _Scored
    ) -> Iterator[Floats]:
        """Yield windows; append an answer for every item, and note whose the windows are."""
        for block in _blocks(self._prepared(items, answers)):
            for places, windows, counts in self._cut(block, answers):
                scored.places += places
                scored.counts += counts.tolist()
                yield windows

    def _prepared(
        self, items: Iterable[Item], answers: list[RecordPrediction]
    ) -> Iterator[_Placed]:
        nothing = np.empty((0, self.n_classes), np.float32)
        for place, item in enumerate(items):
            unknown = np.full(self.n_classes, np.nan)
            answers.append(answer := RecordPrediction(item.name, OK, nothing, unknown))
            try:
                record = item.read()
                answer.record = record.id
                adapted = adapt(record, self.expected)
                prepared = prepare_record(adapted.record, self.stages)
            except (RecordError, PipelineError) as error:
                answer.status = f"{ERROR}{error}"
                continue
            flags = (*adapted.flags, *length_flags(prepared, self.stages))
            answer.status = f"{FLAG}{'; '.join(flags)}" if flags else OK
            yield _Placed(place, prepared)

    def _cut(
        self, block: list[_Placed], answers: list[RecordPrediction]
    ) -> Iterator[tuple[list[int], Floats, npt.NDArray[np.int64]]]:
        """Cut recordings together; where that fails each alone, to find the one at fault."""
        try:
            made = cut_windows([one.record for one in block], self.stages)
        except PipelineError as error:
            if len(block) > 1:
                for one in block:
                    yield from self._cut([one], answers)
            else:
                answers[block[0].place].status = f"{ERROR}{error}"
        else:
            yield [one.place for one in block], *made

    def _fill(
        self, answer: RecordPrediction, mean: npt.NDArray[np.float64], windows: Floats
    ) -> None:
        if np.isfinite(mean).all():
            answer.probabilities, answer.windows = mean, windows
        else:
            answer.status = f"{ERROR}the network's output is NaN: the samples are out of all range"


def prediction_table(
    manifest: Manifest, answers: Sequence[RecordPrediction], windows: bool
) -> pd.DataFrame:
    """Lay predictions out as the table that `RawEcgClassifier.predict` returns."""
    shape = (len(answers), len(manifest.classes))
    probabilities = np.array([one.probabilities for one in answers]).reshape(shape)
    known = np.isfinite(probabilities).all(axis=1)
    labels = np.full(len(answers), None, dtype=object)
    smooth = np.full(shape, np.nan)
    if known.any():
        given = probabilities[known]
        smooth[known] = calibrated(given, manifest.temperature, manifest.activation)
        decide: Any = predicted_labels if manifest.multilabel else predicted_classes
        predicted = decide(given, manifest.place, manifest.threshold)
        labels[known] = label_texts(predicted, manifest.classes)
    numbers = {
        **probability_columns(probabilities, manifest.classes, PROBABILITY),
        **probability_columns(smooth, manifest.classes, CALIBRATED),
    }
    table: dict[str, Any] = {
        "record": pd.Series([one.record for one in answers], dtype=object),
        "prediction": pd.Series(labels, dtype=object),
        **{name: _number_column(values) for name, values in numbers.items()},
        "windows": pd.Series([len(one.windows) for one in answers], dtype=np.int64),
        "status": pd.Series([one.status for one in answers], dtype=object),
    }
    if windows:
        lists = [one.windows.astype(np.float64).tolist() for one in answers]
        table[WINDOW_PROBABILITIES] = pd.Series(lists, dtype=object)
    return pd.DataFrame(table)


def _number_column(values: npt.NDArray[np.floating[Any]]) -> pd.Series[Any]:
    """Return a column of numbers; what isn't known is None where MLflow's server makes JSON."""
    column = pd.Series(values)
    if os.environ.get(_SERVING_VARIABLE, "").lower() == "true":
        return column.astype(object).where(column.notna(), None)
    return column


@dataclass(frozen=True)
class _Placed:
    """A prepared recording and its place among the items."""

    place: int
    record: DigitalRecord


@dataclass
class _Scored:
    """Whose the windows are, in the order in which they are cut."""

    places: list[int] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)


def _blocks(records: Iterable[_Placed]) -> Iterator[list[_Placed]]:
    block: list[_Placed] = []
    n_values = 0
    for one in records:
        block.append(one)
        n_values += one.record.samples.size
        if len(block) == BLOCK_RECORDS or n_values >= BLOCK_VALUES:
            yield block
            block, n_values = [], 0
    if block:
        yield block
