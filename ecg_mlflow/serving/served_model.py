"""From a trained run to a logged model that reads recordings as users have them."""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.records.splits import TEST
from ecg_mlflow.reports.study_corpus import SeenRecords
from ecg_mlflow.reports.study_results import TrainedRun
from ecg_mlflow.serving.manifest import Manifest
from ecg_mlflow.stats.calibration import choose_threshold, fit_temperature
from ecg_mlflow.tracking.logged_models import fetch_network, log_saved
from ecg_mlflow.tracking.stored_study import StoredStudy

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.models import Model

    from ecg_mlflow.records import Corpus

NO_THRESHOLD = "none"


@dataclass(frozen=True)
class OperatingPoint:
    """How a network's probabilities become labels, and are read as such.

    Attributes
    ----------
    threshold
        Of the positive class; None: the most probable class, or 0.5 of each.
    temperature
        Of the calibrated probabilities.
    rule, chosen_on
        Where they come from, in words.
    """

    threshold: float | None
    temperature: float
    rule: str
    chosen_on: str

    @classmethod
    def of_run(cls, run: TrainedRun, rule: str) -> OperatingPoint:
        """Choose threshold and temperature by a run's validation records, if it has any.

        Raises
        ------
        PredictionsError
            If the rule is none, or can't be met.
        """
        plain = "0.5 of each class" if run.is_multilabel else "the most probable class"
        if run.validation is None:
            return cls(None, 1.0, plain, "nothing: no validation records")
        chosen_on = f"{len(run.validation)} validation records"
        temperature = fit_temperature(run.validation)
        if rule == NO_THRESHOLD:
            return cls(None, temperature, plain, chosen_on)
        return cls(choose_threshold(run.validation, rule), temperature, rule, chosen_on)


@dataclass(frozen=True)
class ServedModel:
    """A logged model that reads recordings.

    Attributes
    ----------
    model_id, source
        Of the logged model, and where its files are.
    size_mb
        Of the network's file.
    """

    model_id: str
    source: str
    size_mb: float


def log_served_model(
    client: MlflowClient,
    study: StoredStudy,
    run: TrainedRun,
    corpus: Corpus,
    point: OperatingPoint,
) -> ServedModel:
    """Build the model of a run that reads recordings, and log it in the run.

    Nothing is trained: the network is the one that the run has logged, the pipeline the one that
    its configuration tells of.

    Raises
    ------
    PromotionError
        If the run's pipeline can't be kept with a model.
    ModelError
        If the model can't be saved, or can't answer.
    TrackingError
        If the store fails.
    """
    manifest = _manifest(study, run, corpus, point)
    seen = SeenRecords.of_study(study.plan, corpus)
    trained_on = {
        "study": study.run_id,
        "run": run.record.run_id,
        "digests": sorted(seen.digests),
    }
    assert run.test is not None
    example = corpus.record(corpus.index(run.test.records[0]))
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        place = Path(folder)
        network = fetch_network(client, run.record.run_id, run.weights, place)
        code = _fetched_code(study, manifest, place)

        def save(target: Path, description: Model) -> None:
            from ecg_mlflow.serving.saving import save_classifier

            save_classifier(
                target,
                network,
                manifest,
                example,
                code=code,
                trained_on=trained_on,
                mlflow_model=description,
            )

        size_mb = network.stat().st_size / 2**20
        # Another threshold makes another model, and the same one is not logged twice.
        name = f"classifier-{digest(asdict(manifest))[:8]}"
        metadata = {"classes": list(manifest.classes), "positive": manifest.positive}
        model_id = log_saved(client, run.record.run_id, name, save, metadata)
    return ServedModel(model_id, client.get_logged_model(model_id).artifact_location, size_mb)


def _manifest(
    study: StoredStudy, run: TrainedRun, corpus: Corpus, point: OperatingPoint
) -> Manifest:
    configuration = run.record.configuration
    pipeline = configuration.get("test_pipeline")
    if pipeline is None:
        raise PromotionError(
            f"no model that reads recordings can be made of run {run.record.run_id}: its test "
            "pipeline draws by chance or has a function without a name (see `ecg-mlflow plan` of "
            "its grid file), or an older version of ecg_mlflow has trained it. Its test pipeline: "
            f"{'; '.join(configuration.get('test', [])) or 'unknown'}"
        )
    names = [name for side, part in study.plan["split"].items() if side != TEST for name in part]
    rows = [corpus.index(name) for name in names]
    everything = [corpus.index(name) for part in study.plan["split"].values() for name in part]
    leads = Counter(corpus.leads[row] for row in rows).most_common(1)[0][0]
    return Manifest(
        classes=tuple(configuration["classes"]),
        positive=configuration["positive"],
        input_shape=tuple(configuration["input_shape"]),
        pipeline=tuple(pipeline),
        leads=leads,
        fs=tuple(sorted({float(corpus.fs[row]) for row in rows})),
        # The network was tried on the test records too: what it was scored on, it shall answer.
        activation="sigmoid" if configuration.get("multilabel") else "softmax",
        shortest_s=float(np.min(corpus.n_samples[everything] / corpus.fs[everything])),
        threshold=point.threshold,
        temperature=point.temperature,
        threshold_rule=point.rule,
        calibrated_on=point.chosen_on,
    )


def _fetched_code(study: StoredStudy, manifest: Manifest, folder: Path) -> Path | None:
    """Fetch the study's grid file and what it has beside it, if the pipeline needs them."""
    from ecg_mlflow.pipeline.spec import functions_of

    if not functions_of(manifest.pipeline):
        return None
    code = folder / "design"
    study.fetch_code(code)
    return code
