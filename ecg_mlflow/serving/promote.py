"""``ecg-mlflow promote``: the winner of a study replaces the champion if it is better."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import ModelError, PromotionError
from ecg_mlflow.reports.study_corpus import open_study_corpus, unseen
from ecg_mlflow.reports.study_results import read_results
from ecg_mlflow.reports.winner import choose_run
from ecg_mlflow.serving.gate import GateDecision, PromotionRequest, apply_gate
from ecg_mlflow.serving.held_out import Answers, at_own_threshold, classify
from ecg_mlflow.serving.promotion_report import decision_report, decision_tags
from ecg_mlflow.serving.served_model import ServedModel, log_served_model
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.logged_models import open_model, trained_on
from ecg_mlflow.tracking.registry import (
    RegisteredVersion,
    champion,
    check_alias,
    register_decision,
)

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
    served
        The model.
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
    check_alias(request.alias)
    current = champion(client, request.name, request.alias)
    results = read_results(client, [request.study])
    request = replace(request, options=request.options.with_metric(results.usual_metric))
    choice = choose_run(results, request.options, request.run_id)
    study, run_id = results.studies[0], choice.run.record.run_id
    corpus = open_study_corpus(study.plan, study.request, request.location)
    served = log_served_model(client, study, choice, corpus, request.threshold)
    _say(f"{choice}: model {served.model_id}, trained by run {run_id}")
    challenger = _reproduced(client, served, corpus)
    while True:
        decision = _compared(client, challenger, current, request)
        text = decision_report(request, results, served, decision)
        version = register_decision(
            client,
            request.name,
            served.source,
            promoted=decision.promoted,
            reason=str(decision),
            against=current,
            run_id=run_id,
            model_id=served.model_id,
            alias=request.alias,
            report=text,
            tags=decision_tags(results, served, decision, request.options.metric),
        )
        if version is not None:
            break
        _say("the champion has changed meanwhile: comparing with the new one")
        current = champion(client, request.name, request.alias)
    client.log_text(study.run_id, text, f"promotions/{request.name}-v{version.version}.md")
    if decision.promoted:
        print(f"{version} is the new {request.alias}: {decision}")
        print(f"Use it with: ecg-mlflow predict models:/{request.name}@{request.alias} RECORDS")
        return 0
    print(f"{version} is not promoted: {decision}")
    return 3


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _reproduced(client: MlflowClient, served: ServedModel, corpus: Corpus) -> Challenger:
    """Classify the test records with the served model, and compare with what the study logged.

    Raises
    ------
    ModelError
        If the answers differ.
    """
    logged = served.choice.run.test
    rows = np.array([corpus.index(name) for name in logged.records], dtype=np.int64)
    with open_model(client, served.source) as model:
        answers = classify(model.predict, corpus, rows, logged.classes, "the model")
    _check_same(answers, logged, served.choice.run.record.run_id)
    kept = np.flatnonzero(answers.known)
    return Challenger(
        served,
        corpus,
        rows[kept],
        replace(logged.take(kept), threshold=served.manifest.threshold),
        tuple(one.take(kept) for one in served.choice.candidates),
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
    current: RegisteredVersion | None,
    request: PromotionRequest,
) -> GateDecision:
    """Classify the same records with the champion, and apply the gate."""
    served, own = challenger.served, challenger.predictions
    rows = np.arange(len(own))
    other, notes = None, list[str]()
    if current is not None:
        if current.model_id == served.model_id:
            raise PromotionError(
                f"this very model is the {request.alias} already, as {current}: nothing is changed"
            )
        rows, notes = _fair_records(client, challenger, current)
        with open_model(client, current.source) as model:
            answers = classify(
                model.predict, challenger.corpus, challenger.rows[rows], own.classes, str(current)
            )
        known = answers.known
        if not known.all():
            notes.append(
                f"the champion has no answer to {int((~known).sum())} of {len(known)} records; "
                "they are left out of the comparison"
            )
        rows = rows[known]
        reduced = own.take(rows)
        if len(rows) < LEAST_RECORDS or not 0 < reduced.is_positive.sum() < len(reduced):
            raise PromotionError(
                f"{current} can't be judged on the study's test records: only {len(rows)} of "
                f"{len(own)} are new to it and answered, {int(reduced.is_positive.sum())} of them "
                f"{own.positive}. Give the study test records that no champion was trained on: "
                "split=Split(records={'test': [...]})"
            )
        other = at_own_threshold(answers.take(known), reduced)
    decision = apply_gate(
        own.take(rows),
        other,
        request.options,
        request.requirements,
        {"size_mb": served.size_mb, "ms_per_record": challenger.ms_per_record},
        candidates=tuple(one.take(rows) for one in challenger.candidates),
        temperature=served.manifest.temperature,
    )
    return replace(decision, champion=current, notes=tuple(notes))


def _fair_records(
    client: MlflowClient, challenger: Challenger, current: RegisteredVersion
) -> tuple[npt.NDArray[np.int64], list[str]]:
    """Return the places of the records that the champion has not seen while it was made."""
    seen = trained_on(client, current.source)
    everything = np.arange(len(challenger.rows))
    if seen is None:
        return everything, [
            f"{current} doesn't tell what it was trained on: it may have seen these records, "
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
