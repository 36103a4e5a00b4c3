"""Tables of records, labels and probabilities, whoever made them, read as predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.integrations.evaluator_config import TableSettings
from ecg_mlflow.integrations.table_columns import (
    label_text,
    optional_column,
    probability_columns,
    read_labels,
    read_numbers,
    record_names,
    some_of,
)
from ecg_mlflow.stats.predictions import PROBABILITY, Predictions

if TYPE_CHECKING:
    import pandas as pd

#: How far the probabilities of a record may be from adding up to 1: tables are rounded.
TOLERANCE = 5e-3
#: What is positive where labels have no names.
POSITIVE = ({"0", "1"}, "1"), ({"False", "True"}, "True")


def read_predictions(
    table: pd.DataFrame,
    targets: npt.ArrayLike,
    predicted: npt.ArrayLike | None,
    settings: TableSettings,
) -> Predictions:
    """Read a table.

    Parameters
    ----------
    table
        A row per record, with its probabilities.
    targets
        ``(n_records,)`` true classes.
    predicted
        ``(n_records,)`` classes that the model gave the records, or, where the table has no
        probabilities, probabilities of the positive class.
    settings
        Which column is what.

    Raises
    ------
    PredictionsError
        If something is missing or can't be.
    """
    records = record_names(table, settings.record)
    labels = read_labels(targets, records, "label")
    columns = probability_columns(table, settings)
    given = None if predicted is None else np.asarray(predicted)
    if not columns and given is not None and given.dtype.kind == "f":
        by_class, given = {"": given}, None
    else:
        by_class = {name: read_numbers(table, column) for name, column in columns.items()}
    by_class, positive = _complete(by_class, labels, settings)
    classes = tuple(by_class)
    if unknown := sorted(set(labels) - set(classes)):
        raise PredictionsError(
            f"labels {unknown} are none of the classes {list(classes)}, of which there are "
            "probabilities; add their columns, or leave these records out"
        )
    probabilities = np.stack(list(by_class.values()), axis=1)
    _check_probabilities(probabilities, classes, records)
    read: dict[str, Sequence[Any]] = {"record": records, "label": labels}
    read |= {PROBABILITY.format(name): list(column) for name, column in by_class.items()}
    if (patients := optional_column(table, settings.patient, "patient")) is not None:
        read["patient"] = ["" if one is None or one != one else label_text(one) for one in patients]
    found = Predictions.from_columns(read, positive, classes, settings.threshold)
    if given is None or settings.threshold is not None:
        return found
    return _as_said(found, read_labels(given, records, "prediction"))


def answered_table(answer: Any, settings: TableSettings) -> pd.DataFrame:
    """Return what a model has answered as a table.

    Parameters
    ----------
    answer
        A DataFrame; or an array of probabilities, ``(n_records, n_classes)`` or, of the positive
        class, ``(n_records,)``.
    settings
        Names the classes of an array.

    Raises
    ------
    PredictionsError
        If an array has other columns than there are classes.
    """
    import pandas as pd

    if isinstance(answer, pd.DataFrame):
        return answer.reset_index(drop=True)
    array = np.asarray(answer)
    classes = [label_text(one) for one in settings.classes or ()]
    if array.ndim == 1 and not classes and array.dtype.kind == "f":
        classes = [label_text(settings.positive)]
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != len(classes) or array.dtype.kind != "f":
        raise PredictionsError(
            f"the model answers with an array {array.shape} of {array.dtype}, and not with columns "
            f"p_<class>: name the classes of its columns in evaluator_config, as in "
            f"{{'classes': ['A', 'N']}} (given: {classes}). A model that answers with labels "
            "alone can't be evaluated: let it give probabilities"
        )
    return pd.DataFrame({PROBABILITY.format(c): array[:, i] for i, c in enumerate(classes)})


def _complete(
    by_class: Mapping[str, npt.NDArray[np.float64]], labels: Sequence[str], settings: TableSettings
) -> tuple[dict[str, npt.NDArray[np.float64]], str]:
    """Name the positive class, and add the other one where only its probability is given."""
    if not by_class:
        raise PredictionsError(
            "there are no probabilities: the ecg evaluator takes columns p_<class>, others that "
            "evaluator_config names, as in {'probabilities': {'A': 'score of AF'}}, or a column of "
            "predictions that are probabilities"
        )
    named = [name for name in by_class if name]
    if settings.positive is not None:
        positive = label_text(settings.positive)
    elif len(by_class) == 1 and named:
        positive = named[0]
    else:
        plain = [one for pair, one in POSITIVE if set(labels) | set(named) <= pair]
        if not plain:
            raise PredictionsError(
                f"which class is positive? Say so, as in evaluator_config={{'positive': "
                f"{sorted({*named, *labels})[0]!r}}}; there are {sorted({*named, *labels})}"
            )
        positive = plain[0]
    if len(by_class) > 1:
        if positive not in by_class:
            raise PredictionsError(f"positive={positive!r} is none of the classes {named}")
        return dict(by_class), positive
    ((name, scores),) = by_class.items()
    name = name or positive
    others = sorted(set(labels) - {name})
    if len(others) > 1:
        raise PredictionsError(
            f"there is one column of probabilities, and labels {others} beside {name!r}: give a "
            "column for each class, or make one label of them"
        )
    other = others[0] if others else f"not {name}"
    found = {name: scores, other: 1 - scores}
    if positive not in found:
        raise PredictionsError(f"positive={positive!r} is none of the classes {list(found)}")
    return found, positive


def _check_probabilities(
    probabilities: npt.NDArray[np.float64], classes: Sequence[str], records: Sequence[str]
) -> None:
    """Refuse what are no probabilities."""
    problems = (
        (~np.isfinite(probabilities).all(axis=1), "probabilities that are NaN or infinite"),
        ((probabilities < 0).any(axis=1), "probabilities below 0 (are these logits?)"),
        ((probabilities > 1).any(axis=1), "probabilities above 1 (are these logits, or percent?)"),
        (
            abs(probabilities.sum(axis=1) - 1) > TOLERANCE,
            f"probabilities of {', '.join(classes)} that don't add up to 1",
        ),
    )
    for is_bad, what in problems:
        if is_bad.any():
            bad = [records[i] for i in np.flatnonzero(is_bad).tolist()]
            raise PredictionsError(
                f"{what}, in {len(bad)} of {len(records)} records: {some_of(bad)}"
            )


def _as_said(found: Predictions, labels: Sequence[str]) -> Predictions:
    """Return the predictions at the threshold that the labels tell of."""
    said = np.array([found.classes.index(one) if one in found.classes else -1 for one in labels])
    if np.array_equal(found.predicted, said):
        return found
    is_positive = said == found.place
    lowest = found.scores[is_positive].min() if is_positive.any() else np.nextafter(1, 2)
    at_threshold = replace(found, threshold=float(lowest))
    differ = np.flatnonzero(at_threshold.predicted != said)
    if len(differ):
        raise PredictionsError(
            f"the predictions of {len(differ)} of {len(labels)} records follow neither from the "
            f"highest probability nor from a threshold of {found.positive}'s: "
            f"{some_of([found.records[i] for i in differ])}. Leave the column of predictions out, "
            "or say evaluator_config={'threshold': ...}"
        )
    return at_threshold
