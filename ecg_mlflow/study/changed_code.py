"""Check whether the grid file of a study to resume is the one that the study was begun with."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from mlflow import MlflowClient

from ecg_mlflow.errors import ResumeError
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.terminal import say
from ecg_mlflow.tracking.retry import store_errors
from ecg_mlflow.tracking.stored_run import PLAN_TAG
from ecg_mlflow.tracking.stored_study import StoredStudy
from ecg_mlflow.tracking.trusted_code import Consent, file_hashes

#: Lines of a difference that are shown.
SHOWN = 40


def check_grid_file(
    client: MlflowClient, run_id: str, path: Path, consent: Consent, *, named: bool
) -> None:
    """Check the grid file of a study to resume, before it is run.

    The tag that says which file it is can be changed by whoever may write to the store. So a file
    that the user has not named runs only if it is what the study was begun with, and this machine
    has run that before.

    Parameters
    ----------
    client, run_id
        The store, and the study's parent run; nothing is checked if it is none yet.
    path
        The grid file. It and what it imports are read, and not run.
    consent
        The user's consent to run what the store names.
    named
        Whether the user has named the file. It may have changed then, which is said.

    Raises
    ------
    ResumeError
        If it has changed and the user has neither named it nor given consent.
    UntrustedCodeError
        If it is unchanged, but this machine has not run it before.
    TrackingError
        If the store fails.
    """
    with store_errors(f"read study {run_id}"):
        parent = client.get_run(run_id)
    if PLAN_TAG not in parent.data.tags:
        return
    study = StoredStudy.from_mlflow(parent, client=client)
    then = study.code_hashes
    here = _read(path, then or ())
    now = file_hashes(here)
    then = now if then is None else then
    changed = [name for name in sorted({*then, *now}) if then.get(name) != now.get(name)]
    if named and changed:
        say(
            f"note: {', '.join(changed)} changed since study {study.run_id} was begun; runs whose "
            "identity is the same go on or are skipped, others begin anew",
            file=sys.stderr,
        )
    elif changed and not consent.given:
        raise ResumeError(
            f"study {study.run_id} was begun with another {', '.join(changed)} than is in "
            f"{path.parent}:\n{_difference(study.code, here)}\nTo go on with the files as they are "
            f"now, name the grid file: ecg-mlflow run --resume {study.run_id} {path}"
        )
    elif not named:
        consent.of(
            f"the grid file {path}, which the store names for study {study.run_id},",
            f"it is on this machine; or name it: ecg-mlflow run --resume {study.run_id} {path}",
        ).require(here)


def _read(path: Path, then: Iterable[str]) -> Mapping[str, bytes]:
    """Read a grid file, what it imports from beside it, and what it imported then."""
    files = dict(UserCode.read(path.parent, [path.name]).files)
    for name in set(then) - files.keys():
        with suppress(OSError):
            files[name] = (path.parent / name).read_bytes()
    return files


def _difference(then: Mapping[str, bytes], now: Mapping[str, bytes]) -> str:
    """Return the changed lines of all files, as many as are shown."""
    lines: list[str] = []
    for name in sorted({*then, *now}):
        old, new = (
            files.get(name, b"").decode("utf-8", "backslashreplace").splitlines()
            for files in (then, now)
        )
        lines += difflib.unified_diff(old, new, f"{name} (then)", f"{name} (now)", "", "", 1, "")
    more = len(lines) - SHOWN
    return "\n".join(lines[:SHOWN]) + (f"\n... and {more} lines more" if more > 0 else "")
