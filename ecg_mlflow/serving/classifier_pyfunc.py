"""The code that MLflow saves beside a network and runs when the model is loaded.

The package itself lies in the model as one archive, since a server of artifacts takes a request
for each file. It is unpacked for this process where the package is not imported already; else the
one that is there runs, and the model tries itself on a recording with a known answer.
"""

from __future__ import annotations

import atexit
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import mlflow

_PACKAGE = Path(__file__).with_name("artifacts") / "ecg_mlflow.zip"
if _PACKAGE.is_file() and "ecg_mlflow" not in sys.modules:
    # Unpacked, because numba compiles for the files that it finds; into a new folder, because
    # others could write to one whose name is known.
    _folder = tempfile.mkdtemp(prefix="ecg_mlflow-")
    atexit.register(shutil.rmtree, _folder, ignore_errors=True)
    with zipfile.ZipFile(_PACKAGE) as _archive:
        _archive.extractall(_folder)
    sys.path.insert(0, _folder)

from ecg_mlflow.serving.classifier import RawEcgClassifier  # noqa: E402

mlflow.models.set_model(RawEcgClassifier())
