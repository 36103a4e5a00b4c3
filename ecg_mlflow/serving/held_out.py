"""Predictions of held-out recordings by models, called as any user would call them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.records import Corpus
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.stats.predictions import PROBABILITY, Predictions

#: Recordings of one call.
BLOCK = 128


@dataclass(frozen=True)
class Answers:
    """A model's answers to recordings.

    Attributes
    ----------
    predicted
        ``(n_records,)`` its labels; '' where it has no answer.
    probabilities
        ``(n_records, n_classes)`` float64; NaN where it has none.
    ms_per_record
        Time that a recording took, the median over calls.
    """

    predicted: npt.NDArray[np.object_]
    probabilities: npt.NDArray[np.float64]
    ms_per_record: float

    @property
    def known(self) -> npt.NDArray[np.bool_]:
        """``(n_records,)``: where there is an answer."""
        return np.asarray(np.isfinite(self.probabilities).all(axis=1))


def classify(
    predict: Callable[[pd.DataFrame], pd.DataFrame], corpus: Corpus, truth: Predictions, who: str
) -> Answers:
    """Let a model classify recordings.

    Parameters
    ----------
    predict
        A table of recordings (``signal``, ``fs``, ``leads``) to one with the columns
        ``p_<class>`` and ``prediction``.
    corpus
        Has the recordings.
    truth
        Names the recordings, and the classes whose probabilities are wanted.
    who
        What to call the model in messages.

    Raises
    ------
    PromotionError
        If the answer has no such columns.
    """
    wanted = [PROBABILITY.format(one) for one in truth.classes]
    labels, probabilities, times = [], [], []
    for first in range(0, len(truth), BLOCK):
        names = truth.records[first : first + BLOCK]
        records = [corpus.record(corpus.index(name)) for name in names]
        asked = {
            "signal": [record.signal for record in records],
            "fs": [record.fs for record in records],
            "leads": [list(record.leads) for record in records],
        }
        began = time.perf_counter()
        answer = predict(pd.DataFrame(asked))
        times.append(1e3 * (time.perf_counter() - began) / len(records))
        columns = list(getattr(answer, "columns", ()))
        if missing := [name for name in ("prediction", *wanted) if name not in columns]:
            raise PromotionError(
                f"{who} can't be compared: its answers lack {', '.join(missing)} (they have "
                f"{columns or type(answer).__name__}). Both models need the classes "
                f"{list(truth.classes)}; promote under another name, or to another alias"
            )
        labels.append(answer["prediction"].to_numpy(dtype=object, na_value=""))
        probabilities.append(answer[wanted].to_numpy(dtype=np.float64))
    return Answers(np.concatenate(labels), np.concatenate(probabilities), float(np.median(times)))


def at_own_threshold(answers: Answers, truth: Predictions) -> Predictions:
    """Return a model's answers as predictions at the threshold that its labels follow from.

    Parameters
    ----------
    answers
        A model's answers.
    truth
        The records with an answer, their labels and classes.

    Raises
    ------
    PromotionError
        If the labels follow from no threshold of the positive class's probability.
    """
    known = answers.known
    called = np.array([truth.positive in split_label(one) for one in answers.predicted[known]])
    plain = replace(truth, probabilities=answers.probabilities[known], threshold=None)
    scores = plain.scores
    if not called.any():
        return replace(plain, threshold=float(np.nextafter(1, 2)))
    lowest = scores[called].min()
    if called.all() or scores[~called].max() < lowest:
        return replace(plain, threshold=float(lowest))
    if np.array_equal(plain.predicted_positive, called):
        return plain
    raise PromotionError(
        f"the champion's labels {truth.positive!r} follow neither from a threshold nor from its "
        "probabilities, so its figures can't be resampled; promote to another alias"
    )
