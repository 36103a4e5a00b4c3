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
#: Beginnings that spreadsheets take for formulas, also after an apostrophe or spaces.
_FORMULA = re.compile(r"['\s]*[=+\-@\t]")
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
_MARKUP = re.compile(r"[\\`*_\[\]|~#!]")
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
    """Return equally long columns as CSV with a header line; numbers keep all their digits.

    Texts are written so that no spreadsheet takes them for formulas; see `csv_cell`.
    """
    lists = [
        column.tolist() if isinstance(column, np.ndarray) else column for column in columns.values()
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(csv_cell, columns))
    writer.writerows(map(csv_cell, row) for row in zip(*lists, strict=True))
    return text.getvalue()


def csv_cell(value: object) -> object:
    """Return a cell that no spreadsheet executes: such a text gets an apostrophe before it.

    Labels, patients, aliases and names of leads are other people's texts. `from_csv_cell` takes the
    apostrophe away again. A carriage return, which begins a new row for many readers, is a space.

    Examples
    --------
    >>> csv_cell("=1+1"), csv_cell("AF"), csv_cell("-0.5"), csv_cell(-0.5)
    ("'=1+1", 'AF', '-0.5', -0.5)
    """
    if not isinstance(value, str):
        return value
    text = value.replace("\r", " ")
    return f"'{text}" if _FORMULA.match(text) and not _NUMBER.fullmatch(text) else text


def from_csv_cell(text: str) -> str:
    """Return the text that `csv_cell` has written."""
    return text[1:] if text.startswith("'") and csv_cell(text[1:]) == text else text


def markdown(value: object, limit: int = 300) -> str:
    r"""Return a text as it stands, for a line or a cell of Markdown: one line, no markup, no HTML.

    Parameters
    ----------
    value
        What may hold names that other people have given.
    limit
        Characters that are kept.

    Examples
    --------
    >>> markdown("a|b <b>c")
    'a\\|b &lt;b&gt;c'
    """
    text = " ".join(str(value).split())
    text = text if len(text) <= limit else f"{text[: limit - 3]}..."
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\g<0>", text)


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
