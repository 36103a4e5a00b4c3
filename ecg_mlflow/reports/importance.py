"""Importance of each moment of a recording for a run's network."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.grids.user_code import step_finder
from ecg_mlflow.models.build import load_network
from ecg_mlflow.pipeline import Stages
from ecg_mlflow.pipeline.actions.base import resampled_length
from ecg_mlflow.pipeline.actions.every_batch import SplitSignals
from ecg_mlflow.pipeline.actions.records import ResampleSignals
from ecg_mlflow.pipeline.spec import stages_from_json
from ecg_mlflow.pipeline.windows import cut_windows, prepare_record
from ecg_mlflow.records import DigitalRecord, Record
from ecg_mlflow.reports.study_code import consented_code
from ecg_mlflow.reports.study_results import TrainedRun
from ecg_mlflow.tracking.logged_models import fetch_network
from ecg_mlflow.tracking.stored_study import StoredStudy
from ecg_mlflow.tracking.trusted_code import Consent

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.training.saliency import GradientTimesInput

#: Seconds over which it is smoothed: about a QRS complex.
SMOOTH_S = 0.1


@dataclass(frozen=True)
class Viewer:
    """A network and the pipeline before it.

    Attributes
    ----------
    shares
        See `ecg_mlflow.training.saliency.GradientTimesInput`.
    stages
        A pipeline that draws nothing at random.
    """

    shares: GradientTimesInput
    stages: Stages

    def importance(self, record: Record, place: int) -> npt.NDArray[np.float32]:
        """Return ``(n_samples,)`` in [0, 1]: importance of each moment for a class."""
        from ecg_mlflow.training.saliency import along_record

        given = DigitalRecord.from_millivolts(record.id, record.signal, record.fs, record.leads)
        prepared = prepare_record(given, self.stages)
        windows, _ = cut_windows([prepared], self.stages)
        n_samples, fs = len(prepared.samples), prepared.fs
        for action in self.stages.every:
            if isinstance(action, ResampleSignals):
                n_samples, fs = resampled_length(n_samples, fs, action.fs), action.fs
        split = self.stages.split
        assert isinstance(split, SplitSignals)
        step = split.per_label()
        starts = split.starts(n_samples, "" if isinstance(step, int) else next(iter(step)))
        shares = self.shares(windows, place)
        found = along_record(shares, starts, n_samples, round(SMOOTH_S * fs))
        # The pipeline may have resampled: back to the recording's own samples.
        here = np.linspace(0, 1, len(record.signal))
        return np.interp(here, np.linspace(0, 1, n_samples), found).astype(np.float32)


def open_viewer(
    client: MlflowClient, study: StoredStudy, run: TrainedRun, folder: Path, consent: Consent
) -> Viewer | None:
    """Fetch a run's network and pipeline; None where the pipeline draws at random.

    Raises
    ------
    UntrustedCodeError
        If the pipeline calls functions of the study's own code, which may not be run here.
    TrackingError
        If they can't be fetched.
    ModelError, PipelineError
        If they can't be used here.
    """
    spec = run.record.configuration.get("test_pipeline")
    if spec is None:
        return None
    code = consented_code(study, spec, folder, consent)
    stages = stages_from_json(spec, step_finder(code, consent.require))
    network = load_network(fetch_network(client, run.record.run_id, run.weights, folder))
    from ecg_mlflow.training.saliency import GradientTimesInput

    return Viewer(GradientTimesInput(network, multilabel=run.test.is_multilabel), stages)
