"""``ecg-mlflow promote``: the winner of a study replaces the champion if it is better."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import ModelError, PromotionError
from ecg_mlflow.reports.study_corpus import open_study_corpus, unseen
from ecg_mlflow.reports.study_results import read_results
from ecg_mlflow.reports.winner import Choice, choose_run
from ecg_mlflow.serving.gate import GateDecision, PromotionRequest, ServingCost, apply_gate
from ecg_mlflow.serving.held_out import Answers, at_own_threshold, classify
from ecg_mlflow.serving.promotion_report import decision_report, decision_tags
from ecg_mlflow.serving.served_model import OperatingPoint, ServedModel, log_served_model
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.logged_models import open_model, trained_on
from ecg_mlflow.tracking.promotion_lock import open_promotion
from ecg_mlflow.tracking.registry import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus

#: How far a served model's probabilities may be from those that its study logged.
TOLERANCE = 1e-5
#: Fewer records than this don't allow a comparison with the champion.
LEAST_RECORDS = 30


@dataclass(frozen=True)
class Challenger:
    """A served model, and its answers to held-out recordings.

    Attributes
    ----------
    served, point
        The model, and its threshold and temperature.
    corpus, rows
        The recordings.
    predictions
        Its answers, as it is served.
    candidates
        Those of all models that it was picked from by these records.
    ms_per_record
        Time that a recording takes here.
    """

    served: ServedModel
    point: OperatingPoint
    corpus: Corpus
    rows: npt.NDArray[np.int64]
    predictions: Predictions
    candidates: tuple[Predictions, ...]
    ms_per_record: float


def promote(client: MlflowClient, request: PromotionRequest) -> int:
    """Register a study's winner, and give it the alias if it passes the gate.

    Returns
    -------
    0 where it was promoted, 3 where it was refused.

    Raises
    ------
    EcgMlflowError
        If it can't be judged: no such study, other recordings, a model that can't be kept or
        doesn't reproduce what the study has logged.
    """
    results = read_results(client, [request.study])
    request = request.with_metric(results.usual_metric)
    choice = choose_run(results, request.options, request.run_id)
    study, run = results.studies[0], choice.run
    corpus = open_study_corpus(study.plan, study.request, request.location)
    point = OperatingPoint.of_run(run, request.threshold)
    served = log_served_model(client, study, run, corpus, point)
    _say(f"{choice}: model {served.model_id}, trained by run {run.record.run_id}")
    challenger = _reproduced(client, served, choice, corpus, point)
    with open_promotion(
        client,
        request.name,
        served.source,
        run_id=run.record.run_id,
        model_id=served.model_id,
        alias=request.alias,
        on_wait=lambda what: _say(f"waiting: {what}"),
    ) as promotion:
        while True:
            champion = promotion.champion()
            decision = _compared(client, challenger, champion, request, promotion.beat)
            version = promotion.version
            text = decision_report(request, choice, results, point, decision, version)
            if promotion.decide(
                promoted=decision.promoted,
                reason=str(decision),
                against=champion,
                report=text,
                tags=decision_tags(study, choice, point, decision, request.requirements.metric),
            ):
                break
            _say("the champion has changed meanwhile: comparing with the new one")
    client.log_text(study.run_id, text, f"promotions/{request.name}-v{version}.md")
    if decision.promoted:
        print(f"version {version} of {request.name} is the new {request.alias}: {decision}")
        print(f"Use it with: ecg-mlflow predict models:/{request.name}@{request.alias} RECORDS")
        return 0
    print(f"version {version} of {request.name} is not promoted: {decision}")
    return 3


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _reproduced(
    client: MlflowClient,
    served: ServedModel,
    choice: Choice,
    corpus: Corpus,
    point: OperatingPoint,
) -> Challenger:
    """Classify the test records with the served model, and compare with what the study logged.

    Raises
    ------
    ModelError
        If the answers differ.
    """
    logged = choice.run.test
    assert logged is not None
    rows = np.array([corpus.index(name) for name in logged.records], dtype=np.int64)
    with open_model(client, served.source) as model:
        answers = classify(model.predict, corpus, rows, logged.classes, "the model")
    _check_same(answers, logged, choice.run.record.run_id)
    kept = np.flatnonzero(answers.known)
    return Challenger(
        served,
        point,
        corpus,
        rows[kept],
        replace(logged.take(kept), threshold=point.threshold),
        tuple(one.take(kept) for one in choice.candidates),
        answers.ms_per_record,
    )


def _check_same(answers: Answers, logged: Predictions, run_id: str) -> None:
    known = answers.known
    if not known.any():
        raise ModelError("the model has no answer to any of the test records")
    if not known.all():
        silent = [logged.records[i] for i in np.flatnonzero(~known)]
        _say(
            f"note: the model has no answer to {len(silent)} of {len(known)} test records, such "
            f"as {', '.join(silent[:5])}: flat or unreadable; they are left out"
        )
    differences = np.abs(answers.probabilities - logged.probabilities).max(axis=1)
    worst = int(np.nanargmax(differences))
    if differences[worst] > TOLERANCE:
        raise ModelError(
            f"the model doesn't reproduce what run {run_id} has logged: for record "
            f"{logged.records[worst]} the probabilities differ by {differences[worst]:.2g}, more "
            f"than {TOLERANCE:g}; were other versions of libraries installed when it was trained?"
        )


def _compared(
    client: MlflowClient,
    challenger: Challenger,
    champion: RegisteredVersion | None,
    request: PromotionRequest,
    beat: Callable[[], None],
) -> GateDecision:
    """Classify the same records with the champion, and apply the gate."""
    served, own = challenger.served, challenger.predictions
    cost = ServingCost(served.size_mb, challenger.ms_per_record)
    temperature = challenger.point.temperature
    if champion is None:
        return apply_gate(own, None, request.requirements, cost, temperature=temperature)
    if champion.model_id == served.model_id:
        raise PromotionError(
            f"this very model is the {request.alias} already, as {champion}: nothing is changed"
        )
    fair, notes = _fair_records(client, challenger, champion)
    rows = challenger.rows[fair]
    with open_model(client, champion.source) as model:
        answers = classify(model.predict, challenger.corpus, rows, own.classes, str(champion), beat)
    known = answers.known
    if not known.all():
        notes.append(
            f"the champion has no answer to {int((~known).sum())} of {len(known)} records; they "
            "are left out of the comparison"
        )
    kept = fair[known]
    reduced = own.take(kept)
    if len(kept) < LEAST_RECORDS or not 0 < reduced.is_positive.sum() < len(reduced):
        raise PromotionError(
            f"{champion} can't be judged on the study's test records: only {len(kept)} of "
            f"{len(own)} are new to it and answered, {int(reduced.is_positive.sum())} of them "
            f"{own.positive}. Give the study test records that no champion was trained on: "
            "split=Split(records={'test': [...]})"
        )
    decision = apply_gate(
        reduced,
        at_own_threshold(answers.take(known), reduced),
        request.requirements,
        cost,
        candidates=tuple(one.take(kept) for one in challenger.candidates),
        temperature=temperature,
    )
    return replace(decision, champion=champion, notes=tuple(notes))


def _fair_records(
    client: MlflowClient, challenger: Challenger, champion: RegisteredVersion
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the places of the records that the champion has not seen while it was made."""
    seen = trained_on(client, champion.source)
    everything = np.arange(len(challenger.rows))
    if seen is None:
        return everything, [
            f"{champion} doesn't tell what it was trained on: it may have seen these records, "
            "which would be to its advantage"
        ]
    is_new = unseen(challenger.corpus, challenger.rows, frozenset(seen["digests"]))
    fair: npt.NDArray[np.int64] = everything[is_new]
    if len(fair) == len(everything):
        return fair, []
    return fair, [
        f"{len(everything) - len(fair)} of {len(everything)} test records are left out of the "
        "comparison: the champion was trained on them, or its threshold was chosen by them"
    ]
