"""What an environment needs to run a model, pinned to what is installed here."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

from ecg_mlflow.errors import ModelError
from ecg_mlflow.pipeline.user_code import imported_modules
from ecg_mlflow.provenance import pinned

#: Distributions that reading recordings and predicting import; of a tuple, the one there is.
NEEDED = (
    ("mlflow",),
    ("keras",),
    ("tensorflow", "tensorflow-cpu"),
    ("numpy",),
    ("numba",),
    ("scipy",),
    ("pandas",),
    ("wfdb",),
    ("filelock",),
)


def pinned_requirements(step_files: Iterable[Path] = ()) -> tuple[str, ...]:
    """Return ``name==version`` of all that a model needs to predict.

    Parameters
    ----------
    step_files
        Python files of the user's own that run with the model: what they import is needed too.

    Raises
    ------
    ModelError
        If one of the packages is not installed under a name that pip knows.
    """
    found = [pinned(*names) for names in NEEDED]
    files = list(step_files)
    own = {"ecg_mlflow", *(file.stem for file in files), *sys.stdlib_module_names}
    homes = packages_distributions()
    for module in sorted({name for file in files for name in imported_modules(file)} - own):
        if module not in homes:
            raise ModelError(
                f"{module}, which {', '.join(map(str, files))} import, belongs to no installed "
                "package, so an environment for the model can't be described. Put it beside the "
                "grid file, as one file, or install it"
            )
        found.append(pinned(*homes[module]))
    return tuple(dict.fromkeys(found))
