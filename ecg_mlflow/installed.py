"""Names packages as they are installed here."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

from ecg_mlflow.errors import ModelError


def pinned(*names: str) -> str:
    """Return ``name==version`` of a package that a model needs.

    Parameters
    ----------
    *names
        What it may be called; the first that is installed counts.

    Raises
    ------
    ModelError
        If it is installed under none of them.
    """
    for name in names:
        try:
            return f"{name}=={version(name)}"
        except PackageNotFoundError:
            continue
    raise ModelError(
        f"no installed package is called {' or '.join(names)}, so the model's requirements can't "
        "be pinned; state them yourself"
    )
