"""``ecg-mlflow predict``: recordings and a registered model in, a table of answers out."""

from __future__ import annotations

import glob
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from tqdm import tqdm

from ecg_mlflow.errors import DataNotFoundError, ModelError
from ecg_mlflow.files import written_aside
from ecg_mlflow.records.locating import find_headers
from ecg_mlflow.tracking.logged_models import open_model
from ecg_mlflow.tracking.registry import RegisteredName, champion, find_versions, registered_model

if TYPE_CHECKING:
    import pandas as pd
    from mlflow import MlflowClient

#: Recordings of one call of the model.
BATCH = 256
#: As for ``run``: what was asked for is done, but not all of it went well.
SOME_FAILED = 3


def predict_files(
    model_uri: str,
    paths: Sequence[str],
    output: Path | None = None,
    *,
    with_windows: bool = False,
    client: MlflowClient,
) -> int:
    """Classify recordings, and write a CSV with one row per recording.

    A recording that can't be read or used is a row too, whose status says why. The file appears
    when it is complete.

    Parameters
    ----------
    model_uri
        Such as ``models:/af-resnet@champion``, or the folder of a model.
    paths
        Headers (``.hea`` may be left out), folders, and globs.
    output
        The CSV; None prints it.
    with_windows
        Add the probabilities of every window, as JSON.
    client
        The store that the model is in.

    Returns
    -------
    Exit status: 0, or 3 if some recordings have no answer.

    Raises
    ------
    DataNotFoundError
        If there are no recordings.
    ModelError
        If there is no such model, or it takes no recordings.
    TrackingError
        If the store fails.
    """
    headers = expand(paths)
    failed = 0
    with open_classifier(model_uri, client) as model:
        bar = tqdm(total=len(headers), desc="predicting", unit="record", disable=None)
        with _opened(output) as file, bar:
            for begin in range(0, len(headers), BATCH):
                answers = _answers(model, headers[begin : begin + BATCH], with_windows)
                failed += int(answers["status"].str.startswith("error").sum())
                answers.to_csv(file, index=False, header=begin == 0)
                bar.update(len(answers))
    if failed:
        print(
            f"{failed} of {len(headers)} recordings have no answer; the column status says why",
            file=sys.stderr,
        )
    return SOME_FAILED if failed else 0


def expand(paths: Sequence[str]) -> list[str]:
    """Return the recordings that paths, folders and globs name, each once, in their order.

    Raises
    ------
    DataNotFoundError
        If a folder or a glob has none, or none is named.
    """
    found: list[str] = []
    for path in paths:
        file = Path(path).expanduser()
        if file.is_dir() or (glob.has_magic(path) and not file.exists()):
            found += map(str, find_headers(path).headers)
        else:
            found.append(str(file))
    if not found:
        raise DataNotFoundError("no recordings: name headers, folders of them, or globs")
    return list(dict.fromkeys(found))


def find_source(uri: str, client: MlflowClient) -> str:
    """Return where a registered model's files are; what is no name of one is left to MLflow.

    Raises
    ------
    ModelError
        If there is no such model, version or alias.
    """
    wanted = RegisteredName.from_uri(uri)
    if wanted is None:
        return uri
    name, alias = wanted.name, wanted.alias
    aliases = registered_model(client, name).aliases
    if alias is None:
        versions = {one.version: one for one in find_versions(client, name)}
        if wanted.version not in versions:
            raise ModelError(f"{name!r} has no version {wanted.version}; it has {[*versions]}")
        return versions[wanted.version].source
    found = champion(client, name, alias)
    if found is None:
        listed = ", ".join(f"{one} (version {v})" for one, v in sorted(aliases.items()))
        raise ModelError(
            f"{name!r} has no alias {alias!r}; it has "
            + (listed or f"none: name a version, as in models:/{name}/1, or promote one")
        )
    return found.source


@contextmanager
def open_classifier(uri: str, client: MlflowClient) -> Iterator[Any]:
    """Load a model that reads recordings as MLflow's ``PyFuncModel``.

    Parameters
    ----------
    uri
        ``models:/<name>@<alias>``, ``models:/<name>/<version>``, ``models:/<id>``, or a folder.
    client
        The store that has it.

    Raises
    ------
    ModelError
        If it is another kind of model, or can't run under this version of the package.
    TrackingError
        If there is no such model, or the store fails.
    """
    from mlflow.exceptions import MlflowException

    from ecg_mlflow.serving.classifier import RawEcgClassifier

    with open_model(client, find_source(uri, client)) as loaded:
        try:
            is_ours = isinstance(loaded.unwrap_python_model(), RawEcgClassifier)
        except MlflowException:  # it is of no Python model at all
            is_ours = False
        if not is_ours:
            raise ModelError(
                f"{uri} is a model that takes no recordings, such as the network of a run, which "
                "takes windows. Register one that does with `ecg-mlflow promote STUDY --name NAME`"
            )
        yield loaded


def _answers(model: Any, headers: Sequence[str], with_windows: bool) -> pd.DataFrame:
    import pandas as pd

    params = {"windows": with_windows}
    answers: pd.DataFrame = model.predict(pd.DataFrame({"record": list(headers)}), params=params)
    answers.insert(1, "file", list(headers))
    if with_windows:
        answers["window_probabilities"] = answers["window_probabilities"].map(json.dumps)
    return answers


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    with written_aside(output) as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()  # the file is synced and closed by its owner
