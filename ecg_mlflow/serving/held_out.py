"""What models say of held-out recordings, asked as anybody would ask them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.records.label_sets import split_label
from ecg_mlflow.stats.predictions import PROBABILITY, Predictions

if TYPE_CHECKING:
    import pandas as pd

    from ecg_mlflow.records import Corpus

#: Recordings of one call.
BLOCK = 128


@dataclass(frozen=True)
class Answers:
    """What a model said of recordings.

    Attributes
    ----------
    predicted
        ``(n_records,)`` its labels; '' where it had no answer.
    probabilities
        ``(n_records, n_classes)`` float64; NaN where it had none.
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


def ask(
    predict: Callable[[pd.DataFrame], pd.DataFrame],
    corpus: Corpus,
    rows: npt.NDArray[np.int64],
    classes: Sequence[str],
    who: str,
    on_progress: Callable[[], None] = lambda: None,
) -> Answers:
    """Let a model classify recordings of a corpus.

    Parameters
    ----------
    predict
        A table of recordings (``signal``, ``fs``, ``leads``) to one with the columns
        ``p_<class>`` and ``prediction``.
    corpus, rows
        The recordings.
    classes
        Whose probabilities are wanted.
    who
        What to call the model in messages.
    on_progress
        Called after each call of the model.

    Raises
    ------
    PromotionError
        If the answer has no such columns.
    """
    tables, times = [], []
    for block in _blocks(corpus, rows):
        began = time.perf_counter()
        answer = predict(block)
        times.append(1e3 * (time.perf_counter() - began) / len(block))
        tables.append(_checked(answer, classes, who))
        on_progress()
    columns = {name: np.concatenate([one[name] for one in tables]) for name in tables[0]}
    probabilities = np.stack(
        [columns[PROBABILITY.format(one)].astype(np.float64) for one in classes], axis=1
    )
    return Answers(columns["prediction"], probabilities, float(np.median(times)))


def _blocks(corpus: Corpus, rows: npt.NDArray[np.int64]) -> Iterator[pd.DataFrame]:
    import pandas as pd

    for first in range(0, len(rows), BLOCK):
        records = [corpus.record(int(row)) for row in rows[first : first + BLOCK]]
        yield pd.DataFrame(
            {
                "signal": [record.signal for record in records],
                "fs": [record.fs for record in records],
                "leads": [list(record.leads) for record in records],
            }
        )


def _checked(answer: Any, classes: Sequence[str], who: str) -> Mapping[str, npt.NDArray[Any]]:
    wanted = ["prediction", *(PROBABILITY.format(one) for one in classes)]
    columns = list(getattr(answer, "columns", ()))
    if missing := [name for name in wanted if name not in columns]:
        raise PromotionError(
            f"{who} can't be compared: its answers lack {', '.join(missing)} (they have "
            f"{columns or type(answer).__name__}). Both models need the classes {list(classes)}; "
            "promote under another name, or to another alias"
        )
    found = {name: answer[name].to_numpy(dtype=object, na_value="") for name in wanted[:1]}
    return found | {name: answer[name].to_numpy(dtype=np.float64) for name in wanted[1:]}


def as_said(answers: Answers, truth: Predictions) -> Predictions:
    """Return a model's answers as predictions at the threshold that its labels tell of.

    Parameters
    ----------
    answers
        For the records of `truth`, all of them known.
    truth
        Records, labels and classes.

    Raises
    ------
    PromotionError
        If the labels follow from no threshold of the positive class's probability.
    """
    said = np.array([truth.positive in split_label(text) for text in answers.predicted], bool)
    scores = answers.probabilities[:, truth.place]
    threshold: float | None = float(scores[said].min() if said.any() else np.nextafter(1, 2))
    if said.any() and not said.all() and scores[~said].max() >= scores[said].min():
        plain = replace(truth, probabilities=answers.probabilities, threshold=None).said_positive
        if not np.array_equal(plain, said):
            raise PromotionError(
                f"the champion's labels {truth.positive!r} follow neither from a threshold nor "
                "from its probabilities, so its figures can't be resampled; promote to another "
                "alias"
            )
        threshold = None
    return Predictions(
        truth.records,
        truth.targets,
        answers.probabilities,
        truth.classes,
        truth.positive,
        threshold,
        truth.groups,
    )
