"""The model that MLflow loads and serves: a table of recordings in, a table of predictions out."""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from mlflow.exceptions import MlflowException

from ecg_mlflow.errors import ModelError, RecordError
from ecg_mlflow.grids.user_code import step_finder
from ecg_mlflow.models.build import load_network
from ecg_mlflow.pipeline.batches import Floats
from ecg_mlflow.pipeline.spec import check_deterministic, stages_from_json
from ecg_mlflow.records import DigitalRecord
from ecg_mlflow.records.fingerprint import fingerprints
from ecg_mlflow.serving.engine import ERROR, Engine, prediction_table
from ecg_mlflow.serving.inputs import COLUMNS, from_signal, read_row, row_name
from ecg_mlflow.serving.limits import Limits, hide_traces, limits
from ecg_mlflow.serving.manifest import Manifest, code_digest, package_version
from ecg_mlflow.tracking.trusted_code import Consent

with warnings.catch_warnings():
    # About MLflow's own classes of agents.
    warnings.filterwarnings("ignore", message=".*Any type hint is inferred as AnyType.*")
    from mlflow.pyfunc.model import PythonModel

#: What the self-test may differ by: float32 sums in another order give some 1e-7.
TOLERANCE = 1e-5

_logger = logging.getLogger(__name__)


class RawEcgClassifier(PythonModel):
    """Recordings of any length and sampling frequency to class probabilities.

    The artifacts are ``network`` (a ``.keras`` file), ``manifest`` (JSON), ``example`` (the
    samples of the self-test, ``.npy``) and, where the pipeline has functions of the user's own,
    ``steps`` (a folder of Python files), and ``trained_on`` (JSON).

    Parameters
    ----------
    consent
        To run the functions of the user's own; given by default.
    """

    def __init__(self, consent: Consent | None = None) -> None:
        # Whoever lets MLflow load a model, lets it run the model's own files.
        self._consent = consent or Consent(given=True)

    def load_context(self, context: Any) -> None:
        """Load the network and the pipeline, and try them on the recording of the self-test.

        That takes the compiling that the first prediction would take otherwise.

        Raises
        ------
        ModelError
            If another version of the package runs than made the model, and computes otherwise.
        """
        hide_traces()
        Limits.from_environment()  # a mistake in a variable shows now
        artifacts: Mapping[str, str] = context.artifacts
        trained_on = Path(artifacts.get("trained_on", ""))
        self._seen: frozenset[str] = frozenset(
            json.loads(trained_on.read_text("utf-8"))["digests"] if trained_on.is_file() else ()
        )
        self.manifest = Manifest.from_json(Path(artifacts["manifest"]).read_text("utf-8"))
        steps = artifacts.get("steps")
        self._engine = open_engine(
            self.manifest,
            Path(artifacts["network"]),
            None if steps is None else Path(steps),
            self._consent,
        )
        if self.manifest.self_test is not None:
            samples = np.load(artifacts["example"], allow_pickle=False)
            _compare(self.manifest, self._engine, samples)

    def seen(self, model_input: pd.DataFrame) -> list[str]:
        """Return the names of the recordings that the model, or its threshold, was made with.

        They are known by their content, whatever their names and gains. What can't be read is left
        out.

        Parameters
        ----------
        model_input
            As for `predict`.
        """
        found = []
        for name, read in self._rows(model_input):
            with suppress(RecordError):
                if self._seen.intersection(fingerprints(read().samples)):
                    found.append(name)
        return found

    # MLflow looks at the annotations itself, and warns where it finds none or text.
    def predict(
        self, context: Any, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Answer for each row.

        Parameters
        ----------
        context
            Not used after loading.
        model_input
            One recording per row, in the columns that `ecg_mlflow.serving.inputs` describes.
        params
            ``windows=True`` adds the probabilities of every window.

        Returns
        -------
        DataFrame
            ``record``; ``prediction``, the class at the model's threshold; ``p_<class>``, the mean
            over windows; ``calibrated_<class>``; ``windows``, their number; ``status``: ``ok``,
            ``flag: ...`` where something was changed or supposed, ``error: ...`` where there is no
            answer (NaN, over HTTP null); on request ``window_probabilities``, for each window a
            list with one number per class.

        Raises
        ------
        MlflowException
            If the table has none of the columns; on a server, if it has too many rows.
        """
        answers = self._engine.answer(self._rows(model_input))
        return prediction_table(self.manifest, answers, bool((params or {}).get("windows")))

    def _rows(self, model_input: pd.DataFrame) -> list[tuple[str, Callable[[], DigitalRecord]]]:
        """Return the name of each row's recording, and a function that reads it."""
        columns = [name for name in COLUMNS if name in getattr(model_input, "columns", ())]
        if not columns:
            raise MlflowException.invalid_parameter_value(
                "the input must be a table with one recording per row, in the column record, or "
                "header and signal_file, or signal, fs and leads; this is a "
                f"{type(model_input).__name__} with {list(getattr(model_input, 'columns', ()))}"
            )
        if bounds := limits():
            try:
                bounds.check("recordings in a request", len(model_input), "rows")
            except RecordError as error:
                raise MlflowException.invalid_parameter_value(str(error)) from None
        return [
            (row_name(row, number), partial(read_row, row, number, self.manifest.leads))
            for number, row in enumerate(model_input[columns].to_dict("records"))
        ]


def open_engine(manifest: Manifest, network: Path, steps: Path | None, consent: Consent) -> Engine:
    """Load a network and the pipeline before it.

    Raises
    ------
    UntrustedCodeError
        If the pipeline has functions of the user's own that may not be run here.
    ModelError
        If a function of the pipeline can't be found.
    PipelineError
        If the pipeline is not known, or depends on chance or labels.
    """
    stages = stages_from_json(manifest.pipeline, step_finder(steps, consent.require))
    check_deterministic(stages)
    return Engine(manifest, stages, _open_network(network, manifest.activation))


def _open_network(file: Path, activation_name: str) -> Callable[[Floats], Floats]:
    """Load a network as a function from windows to probabilities."""
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    import keras

    network = load_network(file)
    # As while training: XLA would take seconds to compile what runs for milliseconds.
    network.compile(jit_compile=False)
    activation = keras.activations.get(activation_name)

    def predict(windows: Floats) -> Floats:
        return np.asarray(activation(network.predict_on_batch(windows)), dtype=np.float32)

    return predict


def probabilities_of(engine: Engine, record: DigitalRecord) -> Any:
    """Return ``(n_classes,)`` of one recording that must have an answer.

    Raises
    ------
    ModelError
        If it has none.
    """
    (answer,) = engine.answer([(record.id, lambda: record)])
    if answer.status.startswith(ERROR):
        raise ModelError(f"the model can't answer its example {record.id}: {answer.status}")
    return answer.probabilities


def _compare(manifest: Manifest, engine: Engine, samples: Floats) -> None:
    """Answer the self-test, and compare with the answer of the process that made the model."""
    test = manifest.self_test
    assert test is not None
    record = from_signal(test.record, samples, test.fs, list(test.leads), manifest.leads)
    found = probabilities_of(engine, record)
    difference = float(np.abs(found - np.array(test.probabilities)).max())
    if difference <= TOLERANCE:
        return
    if code_digest() != manifest.code:
        raise ModelError(
            f"the model was made by ecg_mlflow {manifest.version or '(a copy)'}, and the one that "
            f"runs here ({package_version() or 'a copy'}) computes otherwise: for {test.record} "
            f"the probabilities differ by {difference:.2g}. Load the model in a process that has "
            "not imported ecg_mlflow, so that its own copy runs, or install the version that made "
            "it"
        )
    _logger.warning(
        "the probabilities for %s differ by %.2g from those when the model was made: other "
        "versions of libraries, or another device",
        test.record,
        difference,
    )
