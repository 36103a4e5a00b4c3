"""From a trained run to a logged model that reads recordings as users have them."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.models import Model

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.grids.user_code import needed_code
from ecg_mlflow.pipeline.spec import functions_of
from ecg_mlflow.records import Corpus
from ecg_mlflow.records.catalogue import asked_for
from ecg_mlflow.records.splits import TEST
from ecg_mlflow.reports.study_code import consented_code
from ecg_mlflow.reports.study_corpus import seen_digests
from ecg_mlflow.reports.study_results import TrainedRun
from ecg_mlflow.reports.winner import Choice
from ecg_mlflow.serving.manifest import Manifest
from ecg_mlflow.stats.calibration import choose_threshold, fit_temperature
from ecg_mlflow.tracking.logged_models import fetch_network, log_saved
from ecg_mlflow.tracking.stored_study import StoredStudy
from ecg_mlflow.tracking.trusted_code import Consent, trust

T = TypeVar("T")

NO_THRESHOLD = "none"


@dataclass(frozen=True)
class ServedModel:
    """A logged model that reads recordings.

    Attributes
    ----------
    choice
        The run that has trained it, and how that was chosen.
    manifest
        How it reads recordings and answers.
    data
        The recordings of the study, as ``ecg-mlflow run`` takes them.
    model_id, source
        Of the logged model, and where its files are.
    size_mb
        Of the network's file.
    """

    choice: Choice
    manifest: Manifest
    data: str
    model_id: str
    source: str
    size_mb: float


def log_served_model(
    client: MlflowClient,
    study: StoredStudy,
    choice: Choice,
    corpus: Corpus,
    rule: str,
    consent: Consent,
    check: Callable[[str, Manifest], T],
) -> tuple[ServedModel, T]:
    """Build the model of a run that reads recordings, and log it in the run.

    Nothing is trained: the network is the one that the run has logged, the pipeline the one that
    its configuration tells of.

    Parameters
    ----------
    client, study, choice, corpus
        The store, the study, its run, and the study's recordings.
    rule
        By which the threshold is chosen on validation records.
    consent
        To run the study's own code, where the pipeline has functions of the user's own.
    check
        Is given the place of the model's files and its manifest before they are sent, and raises
        if they may not be; if the run has the model already, the place where they are.

    Returns
    -------
    The model, and what `check` has returned.

    Raises
    ------
    UntrustedCodeError
        If that may not be run here.
    PromotionError
        If the run's pipeline can't be kept with a model.
    PredictionsError
        If the rule is none, or can't be met.
    ModelError
        If the model can't be saved, or can't answer.
    TrackingError
        If the store fails.
    """
    from ecg_mlflow.serving.saving import save_classifier

    run = choice.run
    manifest = _manifest(study, run, corpus, rule)
    trained_on: dict[str, Any] = {
        "study": study.run_id,
        "run": run.record.run_id,
        "data": asked_for(str(study.plan["corpus"]["source"])),
        "digests": seen_digests(study.plan, corpus),
    }
    example = corpus.record(corpus.index(run.test.records[0]))
    with tempfile.TemporaryDirectory(prefix="ecg_mlflow-") as folder:
        network = fetch_network(client, run.record.run_id, run.weights, Path(folder))
        code = consented_code(study, manifest.pipeline, Path(folder), consent)
        # Those of these files that the model keeps, should it have been logged by another machine.
        trust(needed_code(functions_of(manifest.pipeline), code).files)

        checked: list[T] = []

        def save(target: Path, description: Model) -> None:
            save_classifier(
                target,
                network,
                manifest,
                example,
                code=code,
                trained_on=trained_on,
                mlflow_model=description,
            )
            checked.append(check(str(target), manifest))

        size_mb = network.stat().st_size / 2**20
        # Another threshold makes another model, and the same one is not logged twice.
        name = f"classifier-{digest(asdict(manifest))[:8]}"
        metadata = {"classes": list(manifest.classes), "positive": manifest.positive}
        model_id = log_saved(client, run.record.run_id, name, save, metadata, show_progress=True)
    source = client.get_logged_model(model_id).artifact_location
    result = checked[0] if checked else check(source, manifest)
    return ServedModel(choice, manifest, trained_on["data"], model_id, source, size_mb), result


def _manifest(study: StoredStudy, run: TrainedRun, corpus: Corpus, rule: str) -> Manifest:
    configuration = run.record.configuration
    pipeline = configuration.get("test_pipeline")
    if pipeline is None:
        raise PromotionError(
            f"no model that reads recordings can be made of run {run.record.run_id}: its test "
            "pipeline draws by chance or has a function without a name (see `ecg-mlflow plan` of "
            "its grid file), or an older version of ecg_mlflow has trained it. Its test pipeline: "
            f"{'; '.join(configuration.get('test', [])) or 'unknown'}"
        )
    split = {
        side: [corpus.index(name) for name in part] for side, part in study.plan["split"].items()
    }
    rows = [row for side, part in split.items() if side != TEST for row in part]
    everything = [row for part in split.values() for row in part]
    return Manifest(
        classes=tuple(configuration["classes"]),
        positive=configuration["positive"],
        input_shape=tuple(configuration["input_shape"]),
        pipeline=tuple(pipeline),
        leads=Counter(corpus.leads[row] for row in rows).most_common(1)[0][0],
        fs=tuple(sorted({float(corpus.fs[row]) for row in rows})),
        activation="sigmoid" if configuration.get("multilabel") else "softmax",
        # The network was tried on the test records too: what it was scored on, it shall answer.
        shortest_s=float(corpus.seconds[everything].min()),
        **_operating_point(run, rule),
    )


def _operating_point(run: TrainedRun, rule: str) -> dict[str, Any]:
    """Choose threshold and temperature by a run's validation records, if it has any."""
    plain = "0.5 of each class" if run.test.is_multilabel else "the most probable class"
    if run.validation is None:
        return {"threshold_rule": plain, "calibrated_on": "nothing: no validation records"}
    chosen = rule != NO_THRESHOLD
    return {
        "threshold": choose_threshold(run.validation, rule) if chosen else None,
        "temperature": fit_temperature(run.validation),
        "threshold_rule": rule if chosen else plain,
        "calibrated_on": f"{len(run.validation)} validation records",
    }
