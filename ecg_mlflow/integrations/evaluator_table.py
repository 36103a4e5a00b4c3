"""Tables of records, labels and probabilities, from any source, read as predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import PredictionsError
from ecg_mlflow.stats.predictions import PROBABILITY, Predictions, columns_by_class

if TYPE_CHECKING:
    import pandas as pd

#: How far the probabilities of a record may be from adding up to 1: tables are rounded.
TOLERANCE = 5e-3
#: What is positive where labels have no names.
POSITIVE = ({"0", "1"}, "1"), ({"False", "True"}, "True")
#: Records that a message names.
NAMED = 5


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
        if found.threshold is not None and not 0 <= found.threshold <= 1:
            raise PredictionsError(f"threshold={found.threshold} is no probability")
        if not 0 < found.level < 1 or found.resamples < 1:
            raise PredictionsError(
                f"level={found.level}, resamples={found.resamples}: a confidence lies between 0 "
                "and 1, and there is at least one resample"
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
    records = _record_names(table, config.record)
    labels = _spelled_labels(targets, records, "label")
    by_class = _probabilities_by_class(table, config)
    given = None if predicted is None else np.asarray(predicted)
    if not by_class and given is not None and given.dtype.kind == "f":
        by_class, given = {"": given}, None
    by_class, positive = _with_both_classes(by_class, labels, config)
    classes = tuple(by_class)
    if unknown := sorted(set(labels) - set(classes)):
        raise PredictionsError(
            f"labels {unknown} are none of the classes {list(classes)}, of which there are "
            "probabilities; add their columns, or leave these records out"
        )
    probabilities = np.stack(list(by_class.values()), axis=1)
    _check_probabilities(probabilities, classes, records)
    columns: dict[str, Any] = {"record": records, "label": labels}
    columns |= columns_by_class(probabilities, classes)
    if (patients := _optional_column(table, config.patient, "patient")) is not None:
        columns["patient"] = ["" if _is_missing(one) else _spelled(one) for one in patients]
    found = Predictions.from_columns(columns, positive, classes, config.threshold)
    if given is None or config.threshold is not None:
        return found
    return _at_threshold_of(_spelled_labels(given, records, "prediction"), found)


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
    import pandas as pd

    if isinstance(output, pd.DataFrame):
        return output.reset_index(drop=True)
    array = np.asarray(output)
    classes = [_spelled(one) for one in config.classes or ()]
    if array.ndim == 1 and not classes and array.dtype.kind == "f":
        classes = [_spelled(config.positive)]
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != len(classes) or array.dtype.kind != "f":
        raise PredictionsError(
            f"the model answers with an array {array.shape} of {array.dtype}, and not with columns "
            f"p_<class>: name the classes of its columns in evaluator_config, as in "
            f"{{'classes': ['A', 'N']}} (given: {classes}). A model that answers with labels "
            "alone can't be evaluated: let it give probabilities"
        )
    return pd.DataFrame(columns_by_class(array, classes))


# --- Columns --------------------------------------------------------------------------------------


def _probabilities_by_class(
    table: pd.DataFrame, config: EvaluatorConfig
) -> dict[str, npt.NDArray[np.float64]]:
    """Return ``(n_records,)`` by class; without a name it is the positive class's."""
    named = config.probabilities
    if named is None:
        prefix = PROBABILITY.format("")
        found = [str(name) for name in table.columns if str(name).startswith(prefix)]
        columns = {name.removeprefix(prefix): name for name in found}
    else:
        columns = {"": named} if isinstance(named, str) else {_spelled(k): named[k] for k in named}
    if missing := [column for column in columns.values() if column not in table.columns]:
        raise PredictionsError(
            f"there is no column {', '.join(map(repr, missing))}; there are {list(table.columns)}"
        )
    try:
        numbers = {}
        for name, column in columns.items():
            numbers[name] = np.asarray(table[column].to_numpy(dtype=np.float64, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise PredictionsError(f"the column {column!r} has no probabilities: {error}") from error
    return numbers


def _record_names(table: pd.DataFrame, column: str | None) -> tuple[str, ...]:
    """Return the names of the records; their rows where they have none."""
    found = _optional_column(table, column, "record")
    if found is None:
        return tuple(f"row {i}" for i in range(len(table)))
    records = tuple(_spelled(one) for one in found)
    if len(set(records)) < len(records):
        twice = sorted({one for one in records if records.count(one) > 1})[:NAMED]
        raise PredictionsError(
            f"records {', '.join(twice)} are there more than once; a table has one row per record: "
            "average the probabilities of its windows first"
        )
    return records


def _optional_column(table: pd.DataFrame, column: str | None, default: str) -> list[Any] | None:
    """Return the column that was asked for, or the usual one where there is one."""
    if column is not None and column not in table.columns:
        raise PredictionsError(f"there is no column {column!r}; there are {list(table.columns)}")
    name = column or default
    return table[name].tolist() if name in table.columns else None


def _spelled_labels(values: npt.ArrayLike, records: Sequence[str], what: str) -> list[str]:
    """Return labels as text, one for each record."""
    given = np.asarray(values, dtype=object)
    if given.shape != (len(records),):
        raise PredictionsError(f"{len(records)} records need as many {what}s, not {given.shape}")
    if bad := [record for record, one in zip(records, given, strict=True) if _is_missing(one)]:
        raise PredictionsError(f"{len(bad)} of {len(given)} records have no {what}: {_listed(bad)}")
    return [_spelled(one) for one in given]


def _is_missing(value: Any) -> bool:
    # NaN differs from itself, whatever its type.
    return value is None or value != value


def _spelled(value: Any) -> str:
    """Spell a label: 1, 1.0 and NumPy's are one class."""
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def _listed(records: Sequence[str]) -> str:
    """Name the first of some records, and count the others."""
    more = f" and {len(records) - NAMED} more" if len(records) > NAMED else ""
    return ", ".join(records[:NAMED]) + more


# --- Classes, probabilities and the threshold -----------------------------------------------------


def _with_both_classes(
    by_class: Mapping[str, npt.NDArray[np.float64]], labels: Sequence[str], config: EvaluatorConfig
) -> tuple[dict[str, npt.NDArray[np.float64]], str]:
    """Name the positive class, and add the other one where only its probability is given."""
    if not by_class:
        raise PredictionsError(
            "there are no probabilities: the ecg evaluator takes columns p_<class>, others that "
            "evaluator_config names, as in {'probabilities': {'A': 'score of AF'}}, or a column of "
            "predictions that are probabilities"
        )
    named = [name for name in by_class if name]
    positive = _positive_class(named, labels, config)
    found = dict(by_class)
    if len(found) == 1:
        ((name, scores),) = found.items()
        name = name or positive
        others = sorted(set(labels) - {name})
        if len(others) > 1:
            raise PredictionsError(
                f"there is one column of probabilities, and labels {others} beside {name!r}: give "
                "a column for each class, or make one label of them"
            )
        found = {name: scores, others[0] if others else f"not {name}": 1 - scores}
    if positive not in found:
        raise PredictionsError(f"positive={positive!r} is none of the classes {list(found)}")
    return found, positive


def _positive_class(named: Sequence[str], labels: Sequence[str], config: EvaluatorConfig) -> str:
    if config.positive is not None:
        return _spelled(config.positive)
    if len(named) == 1:
        return named[0]
    words = {*named, *labels}
    for pair, positive in POSITIVE:
        if words <= pair:
            return positive
    raise PredictionsError(
        f"which class is positive? Say so, as in evaluator_config={{'positive': "
        f"{sorted(words)[0]!r}}}; there are {sorted(words)}"
    )


def _check_probabilities(
    probabilities: npt.NDArray[np.float64], classes: Sequence[str], records: Sequence[str]
) -> None:
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
                f"{what}, in {len(bad)} of {len(records)} records: {_listed(bad)}"
            )


def _at_threshold_of(labels: Sequence[str], found: Predictions) -> Predictions:
    """Return the predictions at the threshold from which the predicted labels follow."""
    places = {name: place for place, name in enumerate(found.classes)}
    predicted = np.array([places.get(one, -1) for one in labels])
    if np.array_equal(found.predicted, predicted):
        return found
    is_positive = predicted == found.place
    lowest = found.scores[is_positive].min() if is_positive.any() else np.nextafter(1, 2)
    at_threshold = replace(found, threshold=float(lowest))
    differ = np.flatnonzero(at_threshold.predicted != predicted)
    if len(differ):
        raise PredictionsError(
            f"the predictions of {len(differ)} of {len(labels)} records follow neither from the "
            f"highest probability nor from a threshold of {found.positive}'s: "
            f"{_listed([found.records[i] for i in differ])}. Leave the column of predictions out, "
            "or say evaluator_config={'threshold': ...}"
        )
    return at_threshold
