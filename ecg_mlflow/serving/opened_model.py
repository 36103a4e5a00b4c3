"""Open a registered model: those of this package without running anything that is in them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import mlflow
import pandas as pd
from mlflow import MlflowClient
from mlflow.models import Model

from ecg_mlflow.errors import EcgMlflowError, ModelError
from ecg_mlflow.serving.classifier import RawEcgClassifier
from ecg_mlflow.tracking.logged_models import fetch_model
from ecg_mlflow.tracking.trusted_code import Consent


class OpenedModel(Protocol):
    """A model that can be called."""

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Answer for each row of a table."""
        ...


class _Classifier:
    """A model of this package, run by the installed package, from its data."""

    def __init__(self, artifacts: Mapping[str, str], consent: Consent) -> None:
        self._model = RawEcgClassifier(consent)
        self._model.load_context(SimpleNamespace(artifacts=artifacts))

    def predict(self, data: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        return self._model.predict(None, data, params)


@contextmanager
def open_model(
    client: MlflowClient, source: str, consent: Consent, *, only_ours: bool = False
) -> Iterator[OpenedModel]:
    """Load a model.

    One that `save_classifier` has written is run by the package that is installed here, which
    reads its network, manifest and example; of the model's own files only functions of a user's
    own are run, with consent. Any other model is loaded by MLflow, which runs whatever is in it:
    that needs consent, too.

    Parameters
    ----------
    client
        The store.
    source
        Where the model's files are; they are copied here for the block where they are elsewhere.
    consent
        The user's consent to run them.
    only_ours
        Refuse other models, which take no recordings.

    Raises
    ------
    TrackingError
        If the files can't be fetched.
    UntrustedCodeError
        If code that came with the model may not be run here.
    ModelError
        If the model can't be loaded here, or is another one.
    """
    look = f"mlflow artifacts download --artifact-uri {source}"
    consent = consent.of(f"the code in the model {source}", look)
    path = list(sys.path)
    with fetch_model(client, source) as files:
        try:
            artifacts = _artifacts(files)
            loaded: OpenedModel
            if artifacts.keys() >= {"network", "manifest"}:
                loaded = _Classifier(artifacts, consent)
            elif only_ours:
                raise ModelError(
                    f"{source} is a model that takes no recordings, such as the network of a run, "
                    "which takes windows. Register one that does with "
                    "`ecg-mlflow promote STUDY --name NAME`"
                )
            else:
                consent.require(_contents(files))
                loaded = _load(files)
        except EcgMlflowError:
            raise
        except Exception as error:
            raise ModelError(
                f"the model {source} can't be loaded here: {type(error).__name__}: {error}"
            ) from error
        try:
            yield loaded
        finally:
            sys.path[:] = path  # MLflow has put the model's own code there


def _artifacts(files: Path) -> dict[str, str]:
    """Return the paths of a model's artifacts by name; none if it is no Python model."""
    flavor = Model.load(str(files)).flavors.get("python_function", {})
    found = {}
    for name, one in (flavor.get("artifacts") or {}).items():
        path = (files / one["path"]).resolve()
        if not path.is_relative_to(files.resolve()):
            raise ModelError(f"its artifact {name!r} is said to be at {one['path']}, outside of it")
        found[name] = str(path)
    return found


def _contents(files: Path) -> dict[str, bytes]:
    """Read all files of a model: any of them may be, or tell of, code."""
    paths = (path for path in sorted(files.rglob("*")) if path.is_file())
    return {path.relative_to(files).as_posix(): path.read_bytes() for path in paths}


def _load(files: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the model's own code and requirements
        return mlflow.pyfunc.load_model(str(files))
