"""``ecg-mlflow promote``: the winner of a study replaces the champion if it is better."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ecg_mlflow.errors import ModelError, PromotionError
from ecg_mlflow.reports.html import render
from ecg_mlflow.reports.study_corpus import open_study_corpus, unseen
from ecg_mlflow.reports.study_results import read_results
from ecg_mlflow.reports.winner import choose_run
from ecg_mlflow.serving.gate import GateDecision, PromotionRequest, apply_gate
from ecg_mlflow.serving.held_out import Answers, HeldOut, at_own_threshold, classify
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
    held_out, ms_per_record = _reproduced(client, served, corpus)
    cost = {"size_mb": served.size_mb, "ms_per_record": ms_per_record}
    while True:
        decision = _compared(client, request, served, held_out, current, cost)
        notes = (*results.notes, *decision.notes)
        text = render(
            "decision.md",
            request=request,
            study=study,
            served=served,
            decision=decision,
            notes=notes,
        )
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
            tags={
                "ecg_mlflow.study": study.run_id,
                "ecg_mlflow.run": run_id,
                **_tags(served, decision, request.options.metric),
            },
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


def _tags(served: ServedModel, decision: GateDecision, metric: str) -> Mapping[str, object]:
    """Return what a version's tags say of how it answers, and what was measured."""
    figures, threshold = decision.figures, served.manifest.threshold
    tags: dict[str, object] = {
        "threshold": "none" if threshold is None else threshold,
        "temperature": f"{served.manifest.temperature:.4g}",
        "held_out_records": decision.n_records,
    }
    if decision.champion is not None:
        tags["judged_against"] = decision.champion.version
        tags["gain_interval"] = f"{figures['gain_low']:+.4f} to {figures['gain_high']:+.4f}"
    # The UI lists all tags of all versions in one narrow column: the rest is in the report.
    for name in (metric, "gain", "p_value"):
        if name in figures:
            tags[name] = f"{figures[name]:.4g}"
    return {f"ecg_mlflow.{name}": value for name, value in tags.items()}


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _reproduced(client: MlflowClient, served: ServedModel, corpus: Corpus) -> tuple[HeldOut, float]:
    """Classify the test records with the served model, and compare with what the study logged.

    Returns
    -------
    The records that it has an answer to, and the milliseconds that one takes.

    Raises
    ------
    ModelError
        If the answers differ.
    """
    run = served.choice.run
    logged = replace(run.test, threshold=served.manifest.threshold)
    rows = np.array([corpus.index(name) for name in logged.records], dtype=np.int64)
    held_out = HeldOut(corpus, rows, logged, served.choice.candidates)
    with open_model(client, served.source) as model:
        answers = classify(model.predict, held_out, "the model")
    _check_same(answers, logged, run.record.run_id)
    return held_out.take(answers.known), answers.ms_per_record


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
    request: PromotionRequest,
    served: ServedModel,
    held_out: HeldOut,
    current: RegisteredVersion | None,
    cost: Mapping[str, float],
) -> GateDecision:
    """Classify the same records with the champion, and apply the gate."""
    other, notes = None, list[str]()
    if current is not None:
        if current.model_id == served.model_id:
            raise PromotionError(
                f"this very model is the {request.alias} already, as {current}: nothing is changed"
            )
        n_records = len(held_out.rows)
        held_out, notes = _unseen_records(client, held_out, current)
        with open_model(client, current.source) as model:
            answers = classify(model.predict, held_out, str(current))
        known = answers.known
        if not known.all():
            notes.append(
                f"the champion has no answer to {int((~known).sum())} of {len(known)} records; "
                "they are left out of the comparison"
            )
        held_out = held_out.take(known)
        own = held_out.predictions
        n_positive = int(own.is_positive.sum())
        if len(own) < LEAST_RECORDS or not 0 < n_positive < len(own):
            raise PromotionError(
                f"{current} can't be judged on the study's test records: only {len(own)} of "
                f"{n_records} are new to it and answered, {n_positive} of them {own.positive}. "
                "Give the study test records that no champion was trained on: "
                "split=Split(records={'test': [...]})"
            )
        other = at_own_threshold(answers.take(known), own)
    decision = apply_gate(
        held_out.predictions,
        other,
        request.options,
        request.requirements,
        cost,
        candidates=held_out.candidates,
        temperature=served.manifest.temperature,
    )
    return replace(decision, champion=current, notes=tuple(notes))


def _unseen_records(
    client: MlflowClient, held_out: HeldOut, current: RegisteredVersion
) -> tuple[HeldOut, list[str]]:
    """Return the records that the champion has not seen while it was made, and notes on that."""
    seen = trained_on(client, current.source)
    if seen is None:
        return held_out, [
            f"{current} doesn't tell what it was trained on: it may have seen these records, "
            "which would be to its advantage"
        ]
    is_new = unseen(held_out.corpus, held_out.rows, frozenset(seen["digests"]))
    if is_new.all():
        return held_out, []
    return held_out.take(is_new), [
        f"{int((~is_new).sum())} of {len(is_new)} test records are left out of the comparison: "
        "the champion was trained on them, or its threshold was chosen by them"
    ]
