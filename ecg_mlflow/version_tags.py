"""By what versions a run's numbers were computed, as one tag.

Nothing but the standard library is used: MLflow asks this in each of its processes.
"""

from __future__ import annotations

import platform
from functools import cache
from importlib.metadata import PackageNotFoundError, version

VERSIONS_TAG = "ecg_mlflow.versions"

#: What decides on results, and the distributions that bring it, the first that is there.
_PACKAGES = {
    "ecg_mlflow": ("ecg_mlflow",),
    "keras": ("keras",),
    "mlflow": ("mlflow", "mlflow-skinny"),
    "numba": ("numba",),
    "numpy": ("numpy",),
    "tensorflow": ("tensorflow", "tensorflow-cpu", "tensorflow-macos"),
}


@cache
def version_tags() -> dict[str, str]:
    """Return the tag, such as ``keras 3.15.1, numpy 2.4.6, python 3.11.7``.

    A package that is not installed is left out: in an environment of ``mlflow run`` this one runs
    from its project's folder.
    """
    found = {name: _version(*distributions) for name, distributions in _PACKAGES.items()}
    found["python"] = platform.python_version()
    return {VERSIONS_TAG: ", ".join(f"{name} {number}" for name, number in found.items() if number)}


def _version(*distributions: str) -> str | None:
    for distribution in distributions:
        try:
            return version(distribution)
        except PackageNotFoundError:
            continue
    return None
