"""Params, tags, names of metrics and tables of a run, within MLflow's limits."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import Param, RunTag
from numpy.typing import NDArray

from ecg_mlflow.tracking.retry import store_errors

PER_BATCH = 100  # the most params, or tags, that MLflow takes in one request
PARAM_LIMIT = 6000  # characters; MLflow cuts a longer value with no more than a warning
TAG_LIMIT = 8000
VALID_KEY = re.compile(r"[\w\-. :/]{1,250}", re.ASCII)

Column = Sequence[object] | NDArray[Any]


def log_params(client: MlflowClient, run_id: str, values: Mapping[str, object]) -> None:
    """Log params in as few requests as MLflow allows.

    A value longer than MLflow's limit is cut here and carries its length and hash, so that two
    long values that differ still look different.
    """
    params = [Param(key, _fitting(str(value), PARAM_LIMIT)) for key, value in values.items()]
    with store_errors(f"log the params of run {run_id}"):
        for first in range(0, len(params), PER_BATCH):
            client.log_batch(run_id, params=params[first : first + PER_BATCH])


def log_new_params(client: MlflowClient, run_id: str, values: Mapping[str, object]) -> None:
    """Log those params that a run doesn't have: MLflow refuses a second value for a param."""
    there = client.get_run(run_id).data.params
    log_params(client, run_id, {key: one for key, one in values.items() if key not in there})


def log_tags(client: MlflowClient, run_id: str, values: Mapping[str, object]) -> None:
    """Set tags in as few requests as MLflow allows; long values are cut as params are."""
    tags = [RunTag(key, value) for key, value in fitting_tags(values).items()]
    with store_errors(f"set the tags of run {run_id}"):
        for first in range(0, len(tags), PER_BATCH):
            client.log_batch(run_id, tags=tags[first : first + PER_BATCH])


def fitting_tags(values: Mapping[str, object]) -> dict[str, str]:
    """Return tags as text within MLflow's limit."""
    return {key: _fitting(str(value), TAG_LIMIT) for key, value in values.items()}


def metric_name(text: str) -> str:
    """Return a name that MLflow accepts: other characters are spelled by their Unicode name.

    Examples
    --------
    >>> metric_name("test_f1_~")
    'test_f1_tilde'
    """
    return "".join(
        character if VALID_KEY.fullmatch(character) else _spelled(character) for character in text
    )[:250]


def _spelled(character: str) -> str:
    name = unicodedata.name(character, f"u{ord(character):04x}")
    return name.lower().replace(" ", "_")


def csv_text(columns: Mapping[str, Column]) -> str:
    """Return equally long columns as CSV with a header line; numbers keep all their digits."""
    lists = [
        column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*lists, strict=True))
    return text.getvalue()


def as_columns(rows: Sequence[Mapping[str, object]]) -> dict[str, list[object]]:
    """Turn rows into columns in order of first appearance; a missing cell is None."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _fitting(value: str, limit: int) -> str:
    if len(value) <= limit:
        return value
    digest = hashlib.sha256(value.encode()).hexdigest()[:12]
    mark = f"... ({len(value)} characters, sha256 {digest})"
    return value[: limit - len(mark)] + mark
