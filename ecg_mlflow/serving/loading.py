"""Loads a model that reads recordings from an MLflow store, or from a folder."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow

from ecg_mlflow.errors import ModelError
from ecg_mlflow.serving.classifier import RawEcgClassifier
from ecg_mlflow.tracking.registered_name import RegisteredName

if TYPE_CHECKING:
    from mlflow import MlflowClient

_LOGGED = re.compile(r"models:/(m-[0-9a-f]+)")


def load_classifier(uri: str, client: MlflowClient, folder: Path) -> Any:
    """Load a model as MLflow's ``PyFuncModel``.

    Parameters
    ----------
    uri
        ``models:/<name>@<alias>``, ``models:/<name>/<version>``, ``models:/<id>``, or a folder.
    client
        The store that knows of it.
    folder
        Where files are copied to that are not on this machine.

    Raises
    ------
    ModelError
        If it is another kind of model, or can't run under this version of the package.
    mlflow.exceptions.MlflowException
        If there is no such model, or the store fails.
    """
    path = uri
    if not Path(uri).is_dir():
        path = mlflow.artifacts.download_artifacts(
            _location(uri, client), dst_path=str(folder), tracking_uri=client.tracking_uri
        )
    loaded = mlflow.pyfunc.load_model(path)
    try:
        is_ours = isinstance(loaded.unwrap_python_model(), RawEcgClassifier)
    except mlflow.exceptions.MlflowException:  # it is of no Python model at all
        is_ours = False
    if not is_ours:
        raise ModelError(
            f"{uri} is a model that takes no recordings, such as the network of a run, which takes "
            "windows. Register one that does with `ecg-mlflow promote STUDY --name NAME`"
        )
    return loaded


def _location(uri: str, client: MlflowClient) -> str:
    """Return where the files are.

    MLflow would look names up in the store of the environment, whatever store is meant.
    """
    if named := RegisteredName.from_uri(uri):
        if named.alias is None:
            version = str(named.version)
        else:
            version = client.get_model_version_by_alias(named.name, named.alias).version
        uri = client.get_model_version_download_uri(named.name, version)
    if match := _LOGGED.fullmatch(uri):
        uri = client.get_logged_model(match.group(1)).artifact_location
    return uri
