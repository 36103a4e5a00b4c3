"""Tables of records, labels and probabilities, from any source, read as predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_mlflow.errors import PredictionsError, few
from ecg_mlflow.stats.predictions import PROBABILITY, Predictions, columns_by_class

#: How far the probabilities of a record may be from adding up to 1: tables are rounded.
TOLERANCE = 5e-3
#: What is positive where labels have no names.
POSITIVE = ({"0", "1"}, "1"), ({"False", "True"}, "True")


@dataclass(frozen=True)
class EvaluatorConfig:
    """What ``evaluator_config`` may say: how a table is to be read and resampled.

    Attributes
    ----------
    positive
        The class that F1, sensitivity and the curves are of; needed unless labels are 0 and 1.
    probabilities
        Columns of the classes' probabilities by class, or the one of the positive class; by default
        all columns ``p_<class>``.
    classes
        Classes in the order of the columns, where a model answers with an array.
    record, patient
        Columns that name the record, and whose it is; by default ``record`` and ``patient`` where
        there are such.
    threshold
        A record counts as positive from this probability on; by default what the labels in the
        column of predictions tell of, else the most probable class counts.
    resamples, level, seed
        Of the bootstrap's intervals.
    metric_prefix
        Beginning of the names of metrics and artifacts.
    """

    positive: Any = None
    probabilities: Mapping[Any, str] | str | None = None
    classes: Sequence[Any] | None = None
    record: str | None = None
    patient: str | None = None
    threshold: float | None = None
    resamples: int = 2000
    level: float = 0.95
    seed: int = 0
    metric_prefix: str = ""

    @classmethod
    def read(cls, config: Mapping[str, Any]) -> Self:
        """Read a configuration.

        Raises
        ------
        PredictionsError
            If it has an unknown key, or a value that is not allowed.
        """
        known = [field.name for field in fields(cls)]
        if unknown := [name for name in config if name not in known]:
            raise PredictionsError(
                f"evaluator_config has {', '.join(map(repr, unknown))}; the ecg evaluator knows "
                f"{', '.join(known)}"
            )
        found = cls(**config)
        if not (0 <= (found.threshold or 0) <= 1 and 0 < found.level < 1 <= found.resamples):
            raise PredictionsError(
                f"threshold={found.threshold}, level={found.level}, resamples={found.resamples}: "
                "threshold and level lie between 0 and 1, and there is at least one resample"
            )
        return found


def read_predictions(
    table: pd.DataFrame,
    targets: npt.ArrayLike,
    predicted: npt.ArrayLike | None,
    config: EvaluatorConfig,
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
    config
        Which column is what.

    Raises
    ------
    PredictionsError
        If something is missing or not allowed.
    """
    by_class = _probabilities_by_class(table, config)
    name = config.record or "record"
    names = table[name] if name in table else [f"row {i}" for i in range(len(table))]
    records: Any = pd.Series(list(names), dtype=object).map(_spelled)
    if records.duplicated().any():
        raise PredictionsError(
            f"records {few(records[records.duplicated()].unique())} are there more than once; "
            "a table has one row per record: average the probabilities of its windows first"
        )
    labels = _labels(targets, records, "label")
    given = None if predicted is None else np.asarray(predicted)
    if not by_class and given is not None and given.dtype.kind == "f":
        by_class, given = {"": given}, None
    by_class, positive = _with_both_classes(by_class, labels, config)
    probabilities = np.stack(list(by_class.values()), axis=1)
    for is_bad, what in (
        (~np.isfinite(probabilities), "NaN or infinite"),
        (probabilities < 0, "below 0 (are these logits?)"),
        (probabilities > 1, "above 1 (are these logits, or percent?)"),
        (abs(probabilities.sum(axis=1, keepdims=True) - 1) > TOLERANCE, "that don't add up to 1"),
    ):
        if (bad := is_bad.any(axis=1)).any():
            raise PredictionsError(
                f"probabilities of {', '.join(by_class)} {what}, in {bad.sum()} of {len(records)} "
                f"records: {few(records[bad])}"
            )
    classes = tuple(by_class)
    columns: dict[str, Any] = {"record": records, "label": labels}
    columns |= columns_by_class(probabilities, classes)
    if (patient := config.patient or "patient") in table:
        columns["patient"] = table[patient].map(_spelled, na_action="ignore").fillna("")
    found = Predictions.from_columns(columns, positive, classes, config.threshold)
    if given is None or config.threshold is not None:
        return found
    return _at_threshold_of(_labels(given, records, "prediction"), found)


def predicted_table(output: Any, config: EvaluatorConfig) -> pd.DataFrame:
    """Return the output of a model as a table.

    Parameters
    ----------
    output
        A DataFrame; or an array of probabilities, ``(n_records, n_classes)`` or, of the positive
        class, ``(n_records,)``.
    config
        Names the classes of an array.

    Raises
    ------
    PredictionsError
        If an array has other columns than there are classes.
    """
    if isinstance(output, pd.DataFrame):
        return output.reset_index(drop=True)
    array = np.asarray(output)
    classes = [_spelled(one) for one in config.classes or ()]
    if array.ndim == 1 and not classes:
        classes, array = [_spelled(config.positive)], array[:, None]
    if array.ndim != 2 or array.shape[1] != len(classes) or array.dtype.kind != "f":
        raise PredictionsError(
            f"the model answers with an array {array.shape} of {array.dtype}, and not with columns "
            f"p_<class>: name the classes of its columns in evaluator_config, as in "
            f"{{'classes': ['A', 'N']}} (given: {classes}). A model that answers with labels "
            "alone can't be evaluated: let it give probabilities"
        )
    return pd.DataFrame(columns_by_class(array, classes))


def _probabilities_by_class(table: pd.DataFrame, config: EvaluatorConfig) -> dict[str, Any]:
    """Return ``(n_records,)`` by class; without a name it is the positive class's."""
    named, prefix = config.probabilities, PROBABILITY.format("")
    if isinstance(named, str):
        columns = {"": named}
    elif named is not None:
        columns = {_spelled(name): column for name, column in named.items()}
    else:
        found = [str(name) for name in table.columns if str(name).startswith(prefix)]
        columns = {name.removeprefix(prefix): name for name in found}
    for column in (*columns.values(), config.record, config.patient):
        if column is not None and column not in table.columns:
            raise PredictionsError(f"there is no column {column!r}; there are {[*table.columns]}")
    try:
        return {
            name: table[column].to_numpy(dtype=np.float64, na_value=np.nan)
            for name, column in columns.items()
        }
    except (TypeError, ValueError) as error:
        raise PredictionsError(
            f"one of the columns {[*columns.values()]} has no probabilities: {error}"
        ) from error


def _labels(values: npt.ArrayLike, records: Any, what: str) -> list[str]:
    """Return labels as text, one for each record."""
    given = pd.Series(np.asarray(values, dtype=object))
    if len(given) != len(records):
        raise PredictionsError(f"{len(records)} records need as many {what}s, not {len(given)}")
    if (bad := given.isna()).any():
        raise PredictionsError(
            f"{bad.sum()} of {len(given)} records have no {what}: {few(records[bad])}"
        )
    return [_spelled(one) for one in given]


def _spelled(value: Any) -> str:
    """Spell a label: 1, 1.0 and NumPy's are one class."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _with_both_classes(
    by_class: Mapping[str, Any], labels: Sequence[str], config: EvaluatorConfig
) -> tuple[dict[str, Any], str]:
    """Name the positive class, and add the other one where only its probability is given."""
    if not by_class:
        raise PredictionsError(
            "there are no probabilities: the ecg evaluator takes columns p_<class>, others that "
            "evaluator_config names, as in {'probabilities': {'A': 'score of AF'}}, or a column of "
            "predictions that are probabilities"
        )
    named = [name for name in by_class if name]
    words = {*named, *labels}
    if config.positive is not None:
        positive = _spelled(config.positive)
    elif len(named) == 1:
        (positive,) = named
    elif usual := [word for pair, word in POSITIVE if words <= pair]:
        (positive,) = usual
    else:
        raise PredictionsError(
            f"which class is positive? Say so, as in evaluator_config={{'positive': "
            f"{min(words)!r}}}; there are {sorted(words)}"
        )
    found = {name or positive: scores for name, scores in by_class.items()}
    if len(found) == 1:
        ((name, scores),) = found.items()
        others = sorted({*labels} - {name}) or [f"not {name}"]
        if len(others) > 1:
            raise PredictionsError(
                f"there is one column of probabilities, and labels {others} beside {name!r}: give "
                "a column for each class, or make one label of them"
            )
        found[others[0]] = 1 - scores
    if positive not in found:
        raise PredictionsError(f"positive={positive!r} is none of the classes {list(found)}")
    return found, positive


def _at_threshold_of(labels: Sequence[str], found: Predictions) -> Predictions:
    """Return the predictions at the threshold from which the predicted labels follow."""
    places = {name: place for place, name in enumerate(found.classes)}
    predicted = np.array([places.get(one, -1) for one in labels])
    if np.array_equal(found.predicted, predicted):
        return found
    is_positive = predicted == found.place
    lowest = found.scores[is_positive].min(initial=np.nextafter(1, 2))
    at_threshold = replace(found, threshold=float(lowest))
    differ = np.flatnonzero(at_threshold.predicted != predicted)
    if len(differ):
        raise PredictionsError(
            f"the predictions of {len(differ)} of {len(labels)} records follow neither from the "
            f"highest probability nor from a threshold of {found.positive}'s: "
            f"{few(found.records[i] for i in differ)}. Leave the column of predictions out, or "
            "say evaluator_config={'threshold': ...}"
        )
    return at_threshold
