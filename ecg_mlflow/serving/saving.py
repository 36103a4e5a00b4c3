"""Writes a model that reads recordings as a folder in MLflow's form, and tries it once."""

from __future__ import annotations

import io
import json
import tempfile
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema
from mlflow.types.schema import AnyType, Array

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.source_code import imported_modules
from ecg_mlflow.grids.user_code import UserCode, needed_code
from ecg_mlflow.pipeline.spec import functions_of
from ecg_mlflow.provenance import pinned
from ecg_mlflow.records import Record
from ecg_mlflow.serving.classifier import open_engine, probabilities_of
from ecg_mlflow.serving.engine import CALIBRATED, WINDOW_PROBABILITIES
from ecg_mlflow.serving.inputs import COLUMNS, from_signal
from ecg_mlflow.serving.manifest import Manifest, SelfTest, code_digest, package_version
from ecg_mlflow.stats.predictions import PROBABILITY
from ecg_mlflow.tracking.logged_models import NETWORK_PACKAGES, quiet_saving
from ecg_mlflow.tracking.trusted_code import Consent

#: Seconds of the example, where the model takes as short a recording.
EXAMPLE_S = 10.0
#: Digits after the point of the example's mV: below what any converter resolves.
EXAMPLE_DIGITS = 5

#: Distributions that reading recordings takes beside those of the network.
CLASSIFIER_PACKAGES = ("numba", "scipy", "pandas", "wfdb", "filelock", "platformdirs")

PYFUNC_FILE = Path(__file__).with_name("classifier_pyfunc.py")
_PACKAGE = Path(__file__).parents[1]


def save_classifier(
    folder: Path,
    keras_file: Path,
    manifest: Manifest,
    example: Record,
    *,
    code: Path | None = None,
    trained_on: Mapping[str, Any] | None = None,
    mlflow_model: Model | None = None,
) -> Manifest:
    """Save a model that reads recordings.

    The folder holds the network, the manifest, this package's code and the user's own functions,
    so that an environment of the requirements alone can run it, without any pickle. Code are
    ``classifier_pyfunc.py``, the archive of the package and the folder ``steps``; the rest is data.

    Parameters
    ----------
    folder
        Where; it must not be there yet, or be empty.
    keras_file
        The network as a ``.keras`` file of stock layers.
    manifest
        What it is; `version`, `code` and `self_test` are filled in here.
    example
        A real recording: its first 10 s, or as much as the shortest one trained on, become
        MLflow's input example and the model's self-test.
    code
        Folder of the user's own files in which functions of the pipeline stand, such as the grid
        file, and of what these import from beside them. They are run.
    trained_on
        Plain data to keep with the model, as ``trained_on.json``.
    mlflow_model
        MLflow's description to complete.

    Returns
    -------
    Manifest
        As it was written.

    Raises
    ------
    ModelError
        If a part is missing, or the model can't answer the example.
    """
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as scratch:
        place = Path(scratch)
        own = needed_code(functions_of(manifest.pipeline), code)
        artifacts = {"network": keras_file.absolute(), "manifest": place / "manifest.json"}
        if own.files:
            artifacts["steps"] = own.write(place / "steps")
        samples = _cut(example, manifest)
        artifacts["package"] = place / "ecg_mlflow.zip"
        artifacts["package"].write_bytes(package_archive())
        artifacts["example"] = place / "example.npy"
        np.save(artifacts["example"], samples, allow_pickle=False)
        manifest = _tried(manifest, example, samples, keras_file, artifacts.get("steps"))
        artifacts["manifest"].write_text(manifest.to_json(), "utf-8")
        if trained_on is not None:
            artifacts["trained_on"] = place / "trained_on.json"
            artifacts["trained_on"].write_text(json.dumps(trained_on), "utf-8")
        with quiet_saving():
            mlflow.pyfunc.save_model(
                str(folder),
                python_model=str(PYFUNC_FILE),
                artifacts={name: str(path) for name, path in artifacts.items()},
                signature=_signature(manifest),
                input_example=_input_example(example, samples),
                pip_requirements=list(classifier_requirements(own)),
                mlflow_model=mlflow_model,
            )
    return manifest


def package_archive() -> bytes:
    """Return a zip of this package's Python files, the same bytes for the same files."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(_PACKAGE.rglob("*.py")):
            # Without the time of the file.
            name = f"{_PACKAGE.name}/{file.relative_to(_PACKAGE).as_posix()}"
            archive.writestr(zipfile.ZipInfo(name), file.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()


def classifier_requirements(code: UserCode | None = None) -> tuple[str, ...]:
    """Return ``name==version`` of all that a model needs to predict.

    Parameters
    ----------
    code
        Files of the user's own that run with the model: what they import is needed too.

    Raises
    ------
    ModelError
        If one of the packages is not installed under a name that pip knows.
    """
    found = [pinned(*names) for names in NETWORK_PACKAGES]
    found += map(pinned, CLASSIFIER_PACKAGES)
    files = code.files if code is not None else {}
    own = {name.partition("/")[0].removesuffix(".py") for name in files}
    wanted = {
        module.partition(".")[0]
        for name, content in files.items()
        for module in imported_modules(name, content)
    }
    homes = packages_distributions()
    for module in sorted(wanted - own):
        if module not in homes:
            raise ModelError(
                f"{module}, which {', '.join(files)} import, belongs to no installed package, so "
                "an environment for the model can't be described. Put it beside the grid file, or "
                "install it"
            )
        found.append(pinned(*homes[module]))
    return tuple(dict.fromkeys(found))


def _signature(manifest: Manifest) -> ModelSignature:
    """Return the columns of tables in and out, and the parameters.

    All but `record` are of any type for MLflow, and checked row by row: of an array of arrays of
    float64 it would look at every sample (0.1 s a recording), and refuse float32, whole numbers
    and a single lead; `fs` could be no whole number; and bytes would be needed in each row.
    """
    anything: Any = AnyType  # it has no types
    kinds = {name: anything() for name in COLUMNS} | {"record": DataType.string}
    numbers = [name.format(one) for name in (PROBABILITY, CALIBRATED) for one in manifest.classes]
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name, required=False) for name, kind in kinds.items()]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "record"),
                ColSpec(DataType.string, "prediction", required=False),
                *(ColSpec(DataType.double, name, required=False) for name in numbers),
                ColSpec(DataType.long, "windows"),
                ColSpec(DataType.string, "status"),
                ColSpec(Array(Array(DataType.double)), WINDOW_PROBABILITIES, required=False),
            ]
        ),
        params=ParamSchema([ParamSpec("windows", DataType.boolean, False)]),
    )


def _input_example(record: Record, samples: Any) -> pd.DataFrame:
    """Return a table of one recording, as anybody would send it."""
    signal = np.round(samples.astype(np.float64), EXAMPLE_DIGITS).tolist()
    return pd.DataFrame({"signal": [signal], "fs": [float(record.fs)], "leads": [[*record.leads]]})


def _cut(example: Record, manifest: Manifest) -> Any:
    """Return the beginning of a recording, rounded as its text form is."""
    seconds = max(EXAMPLE_S, manifest.shortest_s)
    n_samples = int(np.ceil(seconds * example.fs))
    return np.round(example.signal[:n_samples], EXAMPLE_DIGITS).astype(np.float32)


def _tried(
    manifest: Manifest, example: Record, samples: Any, network: Path, steps: Path | None
) -> Manifest:
    """Complete a manifest with what the model answers to its example."""
    # The files are the study's, which the caller had consent to run.
    engine = open_engine(manifest, network, steps, Consent(given=True))
    names = list(example.leads)
    record = from_signal(example.id, samples, example.fs, names, manifest.leads)
    found = tuple(map(float, probabilities_of(engine, record)))
    test = SelfTest(example.id, float(example.fs), tuple(names), found)
    return replace(manifest, version=package_version(), code=code_digest(), self_test=test)
