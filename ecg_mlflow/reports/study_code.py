"""The user's own code of a study that was run before, for a pipeline that calls its functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.pipeline.spec import functions_of
from ecg_mlflow.tracking.stored_study import StoredStudy
from ecg_mlflow.tracking.trusted_code import Consent


def consented_code(
    study: StoredStudy, pipeline: Sequence[Mapping[str, Any]], folder: Path, consent: Consent
) -> Path | None:
    """Copy the study's grid file and what it imports into a folder, if they may be run.

    Parameters
    ----------
    study
        The study.
    pipeline
        A pipeline as JSON; None is returned if it calls no function of the user's own.
    folder
        Where; the files are in a folder below it, which is returned.
    consent
        The user's consent to run them.

    Raises
    ------
    UntrustedCodeError
        If they may not be run here.
    TrackingError
        If they can't be fetched.
    """
    if not functions_of(pipeline):
        return None
    who = f"the code of study {study.name} ({study.run_id})"
    look = f"mlflow artifacts download --run-id {study.run_id} --artifact-path design"
    consent.of(who, look).require(study.code)
    return UserCode(files=study.code).write(folder / "design")
