"""``ecg-mlflow predict``: recordings and a registered model in, a table of answers out."""

from __future__ import annotations

import glob
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mlflow import MlflowClient
from tqdm import tqdm

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.files import write_output
from ecg_mlflow.records.catalogue import find_headers
from ecg_mlflow.serving.opened_model import open_model
from ecg_mlflow.tracking.registry import find_source
from ecg_mlflow.tracking.run_data import csv_cell
from ecg_mlflow.tracking.trusted_code import Consent

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
    trust_code: bool = False,
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
    trust_code
        Run the functions of a user's own that came with the model, although this machine has not
        run them before.

    Returns
    -------
    Exit status: 0, or 3 if some recordings have no answer.

    Raises
    ------
    UntrustedCodeError
        If such functions would run here, without consent.
    DataNotFoundError
        If there are no recordings.
    ModelError
        If there is no such model, or it takes no recordings.
    TrackingError
        If the store fails.
    """
    import pandas as pd

    headers = expand(paths)
    source = find_source(client, model_uri)
    parts: list[pd.DataFrame] = []
    with (
        open_model(client, source, Consent(trust_code), only_ours=True) as model,
        tqdm(total=len(headers), desc="predicting", unit="record", disable=None) as bar,
    ):
        for begin in range(0, len(headers), BATCH):
            batch = headers[begin : begin + BATCH]
            asked = pd.DataFrame({"record": batch})
            parts.append(model.predict(asked, params={"windows": with_windows}))
            bar.update(len(batch))
    answers = pd.concat(parts, ignore_index=True)
    answers.insert(1, "file", headers)
    if with_windows:
        answers["window_probabilities"] = answers["window_probabilities"].map(json.dumps)
    # Names of files and classes are other people's texts.
    text = answers.rename(columns=csv_cell).map(csv_cell).to_csv(index=False)
    if output is None:
        print(text, end="")
    else:
        write_output(output, text.encode())
    failed = int(answers["status"].str.startswith("error").sum())
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
