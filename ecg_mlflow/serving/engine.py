"""From recordings to a table of predictions: adapt, cut, predict in chunks, average, decide."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_mlflow.errors import PipelineError, RecordError
from ecg_mlflow.pipeline import Stages, prefetched
from ecg_mlflow.pipeline.batches import Floats, predict_chunks, record_means
from ecg_mlflow.pipeline.windows import cut_windows, prepare_record
from ecg_mlflow.records import DigitalRecord
from ecg_mlflow.serving.adapt import adapt, length_flags
from ecg_mlflow.serving.limits import is_serving
from ecg_mlflow.serving.manifest import Manifest
from ecg_mlflow.stats.calibration import calibrated
from ecg_mlflow.stats.predictions import PROBABILITY, columns_by_class
from ecg_mlflow.stats.scores import label_texts, predict_classes

#: Recordings that are cut together: so many, or as soon as they have so many samples.
BLOCK_RECORDS, BLOCK_VALUES = 64, 2**21

OK, FLAG, ERROR = "ok", "flag: ", "error: "

#: Columns of the table of predictions.
CALIBRATED = "calibrated_{}"
WINDOW_PROBABILITIES = "window_probabilities"

#: Characters of a status.
LONGEST = 500

_logger = logging.getLogger(__name__)


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
    n_windows
        Number of windows that the recording was cut into; 0 where it wasn't.
    """

    record: str
    status: str
    windows: Floats
    probabilities: npt.NDArray[np.float64]
    n_windows: int = 0


#: A prediction that is still to be made, and its recording as the pipeline has prepared it.
_Prepared: TypeAlias = tuple[RecordPrediction, DigitalRecord]
#: A recording that is asked for: what to call it until it is read, and how to read it.
_Item: TypeAlias = tuple[str, Callable[[], DigitalRecord]]


@dataclass(frozen=True)
class Engine:
    """A network with the pipeline before it.

    Parameters
    ----------
    manifest
        What the network was trained on.
    stages
        The pipeline, one that draws nothing by chance.
    predict
        Windows ``(n, length, n_leads)`` to probabilities ``(n, n_classes)``.
    """

    manifest: Manifest
    stages: Stages
    predict: Callable[[Floats], Floats]

    def answer(self, items: Iterable[_Item]) -> list[RecordPrediction]:
        """Answer for each recording, in their order.

        Windows of many recordings share the calls of the network. Memory holds some blocks of
        recordings, or some recordings if those are larger, whatever the number of items.
        """
        answers: list[RecordPrediction] = []
        blocks = _blocks(self._prepared(items, answers))
        # Reading takes as long as a small network does: it goes on meanwhile, in a thread.
        with prefetched(chain.from_iterable(map(self._cut, blocks))) as windows:
            found = list(predict_chunks(self.predict, windows))
        if not found:
            return answers
        probabilities = np.concatenate(found)
        cut = [answer for answer in answers if answer.n_windows]
        n_windows = np.array([answer.n_windows for answer in cut], np.int64)
        means = record_means(probabilities, n_windows)
        parts = np.split(probabilities, np.cumsum(n_windows)[:-1])
        for answer, mean, part in zip(cut, means, parts, strict=True):
            if np.isfinite(mean).all():
                answer.probabilities, answer.windows = mean, part
            else:
                answer.status = (
                    f"{ERROR}the network's output is NaN: the samples are out of all range"
                )
        return answers

    def _prepared(
        self, items: Iterable[_Item], answers: list[RecordPrediction]
    ) -> Iterator[_Prepared]:
        """Read and prepare recordings; append an answer for every item, those with errors too."""
        n_classes = len(self.manifest.classes)
        nothing, unknown = np.empty((0, n_classes), np.float32), np.full(n_classes, np.nan)
        for name, read in items:
            answers.append(answer := RecordPrediction(name, OK, nothing, unknown))
            try:
                record = read()
                answer.record = record.id
                adapted, flags = adapt(record, self.manifest, self.stages)
                prepared = prepare_record(adapted, self.stages)
            except Exception as error:  # noqa: BLE001 - the other rows have answers
                answer.status = _failure(error)
                continue
            if flags := flags + length_flags(prepared, self.stages):
                answer.status = f"{FLAG}{'; '.join(flags)}"
            yield answer, prepared

    def _cut(self, block: list[_Prepared]) -> Iterator[Floats]:
        """Cut recordings together; where that fails each alone, to find the one at fault."""
        try:
            windows, counts = cut_windows([record for _, record in block], self.stages)
        except Exception as error:  # noqa: BLE001 - as above
            if len(block) > 1:
                yield from chain.from_iterable(self._cut([one]) for one in block)
            else:
                block[0][0].status = _failure(error)
        else:
            for (answer, _), count in zip(block, counts.tolist(), strict=True):
                answer.n_windows = count
            yield windows


def _failure(error: Exception) -> str:
    """Return the status of a row with an error; what isn't ours may name places of the server."""
    cause: BaseException = error
    while isinstance(cause, PipelineError) and cause.__cause__ is not None:
        cause = cause.__cause__
    if cause is not error and is_serving():
        # A function of the user's own has failed, whose words may name places of the server.
        _logger.warning("a recording has no answer", exc_info=error)
        return f"{ERROR}{str(error).removesuffix(f': {cause}')}"
    if isinstance(error, RecordError | PipelineError):
        return f"{ERROR}{error}"
    _logger.warning("a recording has no answer", exc_info=error)
    return f"{ERROR}the recording can't be used: {type(error).__name__}"


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
        predicted = predict_classes(
            given, manifest.place, manifest.threshold, multilabel=manifest.multilabel
        )
        labels[known] = label_texts(predicted, manifest.classes)
    numbers = {
        **columns_by_class(probabilities, manifest.classes, PROBABILITY),
        **columns_by_class(smooth, manifest.classes, CALIBRATED),
    }
    table: dict[str, Any] = {
        "record": pd.Series([one.record for one in answers], dtype=object),
        "prediction": pd.Series(labels, dtype=object),
        **{name: _number_column(values) for name, values in numbers.items()},
        "windows": pd.Series([len(one.windows) for one in answers], dtype=np.int64),
        "status": pd.Series([_shortened(one.status) for one in answers], dtype=object),
    }
    if windows:
        lists = [one.windows.astype(np.float64).tolist() for one in answers]
        table[WINDOW_PROBABILITIES] = pd.Series(lists, dtype=object)
    return pd.DataFrame(table)


def _shortened(status: str) -> str:
    """Return a status that doesn't send back all that a request held, such as names of leads."""
    return status if len(status) <= LONGEST else f"{status[:LONGEST]}..."


def _number_column(values: npt.NDArray[np.floating[Any]]) -> pd.Series[Any]:
    """Return a column of numbers; what isn't known is None where MLflow's server makes JSON."""
    column = pd.Series(values)
    if is_serving():  # its JSON has NaN for NaN, which no other language reads
        return column.astype(object).where(column.notna(), None)
    return column


def _blocks(records: Iterable[_Prepared]) -> Iterator[list[_Prepared]]:
    block: list[_Prepared] = []
    n_values = 0
    for answer, record in records:
        block.append((answer, record))
        n_values += record.samples.size
        if len(block) == BLOCK_RECORDS or n_values >= BLOCK_VALUES:
            yield block
            block, n_values = [], 0
    if block:
        yield block
