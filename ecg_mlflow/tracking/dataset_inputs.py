"""Log which recordings a run was trained and tested on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, InputTag
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.tracking.recordings_source import DIGEST_LIMIT, SOURCE_TYPE, RecordingsSource
from ecg_mlflow.tracking.retry import store_errors

NAME_LIMIT = 500  # characters in MLflow's database


@dataclass(frozen=True)
class DatasetInfo:
    """A labelled set of recordings, described by counts and a hash instead of its record names.

    Attributes
    ----------
    name
        For example ``"cinc2017 train"``.
    digest
        Hash of the content: equal only where records and labels are. MLflow keeps one entry per
        name and digest in an experiment, so the parts of a split need digests of their own.
    source
        Where the recordings come from, and which of them these are.
    n_records
        Number of recordings.
    class_counts
        Recordings per class.
    fs
        Sampling rates that occur, Hz.
    leads
        Names of the leads.
    durations_s
        Shortest, median and longest duration in seconds.
    """

    name: str
    digest: str
    source: RecordingsSource
    n_records: int
    class_counts: Mapping[str, int]
    fs: tuple[float, ...]
    leads: tuple[str, ...]
    durations_s: tuple[float, float, float]

    @property
    def short_digest(self) -> str:
        """As much of the digest as MLflow keeps: what its metrics refer to."""
        return self.digest[:DIGEST_LIMIT]

    def to_mlflow(self) -> Dataset:
        """Return MLflow's form of it: counts as the profile, leads and labels as the schema."""
        return Dataset(
            name=self.name[:NAME_LIMIT],
            digest=self.short_digest,
            source_type=SOURCE_TYPE,
            source=self.source.to_json(),
            schema=json.dumps(self.schema),
            profile=json.dumps(self.profile),
        )

    @property
    def schema(self) -> dict[str, Any]:
        """What one recording looks like, as plain data."""
        signal = {"dtype": "float32", "unit": "mV", "shape": ["n_samples", len(self.leads)]}
        return {
            "ecg": {
                "signal": signal,
                "fs": list(self.fs),
                "leads": list(self.leads),
                "label": sorted(self.class_counts),
            }
        }

    @property
    def profile(self) -> dict[str, Any]:
        """How many recordings there are, of which classes and how long, as plain data."""
        return {
            "n_records": self.n_records,
            "class_counts": dict(self.class_counts),
            "duration_s": dict(zip(("min", "median", "max"), self.durations_s, strict=True)),
        }


def duration_range(seconds: npt.NDArray[np.float64]) -> tuple[float, float, float]:
    """Return the shortest, the median and the longest duration."""
    return float(seconds.min()), float(np.median(seconds)), float(seconds.max())


def log_datasets(client: MlflowClient, run_id: str, parts: Mapping[str, DatasetInfo]) -> None:
    """Log data sets as the inputs of a run.

    Parameters
    ----------
    client, run_id
        Where to log.
    parts
        Data sets by what the run did with them: ``train``, ``validation``, ``test``. Of two with
        one name and digest MLflow would keep the first.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    inputs = [
        DatasetInput(info.to_mlflow(), [InputTag(MLFLOW_DATASET_CONTEXT, context)])
        for context, info in parts.items()
    ]
    doing = f"log the data sets of run {run_id}"
    try:
        with store_errors(doing):
            client.log_inputs(run_id, inputs)
    except TrackingError as error:
        if "IntegrityError" not in str(error.__cause__):
            raise
        # MLflow looks a data set up before it adds it, and another process was quicker.
        with store_errors(doing):
            client.log_inputs(run_id, inputs)
