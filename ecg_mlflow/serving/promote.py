"""``ecg-mlflow promote``: the winner of a study replaces the champion if it is better."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from mlflow import MlflowClient

from ecg_mlflow.errors import ModelError, PromotionError, few
from ecg_mlflow.records import Corpus
from ecg_mlflow.records.named_sets import overlap
from ecg_mlflow.reports.html import render
from ecg_mlflow.reports.study_corpus import open_study_corpus, unseen
from ecg_mlflow.reports.study_results import read_results
from ecg_mlflow.reports.winner import Choice, choose_run
from ecg_mlflow.serving.gate import GateDecision, PromotionRequest, apply_gate
from ecg_mlflow.serving.held_out import at_own_threshold, classify
from ecg_mlflow.serving.manifest import Manifest
from ecg_mlflow.serving.opened_model import OpenedModel, open_model
from ecg_mlflow.serving.served_model import ServedModel, log_served_model
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.terminal import say
from ecg_mlflow.tracking.logged_models import trained_on
from ecg_mlflow.tracking.registry import RegisteredVersion, champion, check_names, register_decision
from ecg_mlflow.tracking.trusted_code import Consent

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
    UntrustedCodeError
        If code that came with the study or the champion would run here, without consent.
    EcgMlflowError
        If it can't be judged: no such study, other recordings, a model that can't be kept or
        doesn't reproduce what the study has logged.
    """
    check_names(request.name, request.alias)
    current = champion(client, request.name, request.alias)
    results = read_results(client, [request.study])
    request = replace(request, options=results.complete(request.options))
    choice = choose_run(results, request.options, request.run_id)
    study, run_id = results.studies[0], choice.run.record.run_id
    corpus = open_study_corpus(study.plan, study.request, request.location)
    consent = Consent(request.trust_code)

    def check(source: str, manifest: Manifest) -> tuple[list[Predictions], float]:
        logged = replace(choice.run.test, threshold=manifest.threshold)
        with open_model(client, source, consent) as model:
            return _reproduced(model, choice, logged, corpus)

    served, (models, ms_per_record) = log_served_model(
        client, study, choice, corpus, request.threshold, consent, check
    )
    _say(f"{choice}: model {served.model_id}, trained by run {run_id}")
    cost = {"size_mb": served.size_mb, "ms_per_record": ms_per_record}
    while True:
        decision, notes = _compared(client, request, served, corpus, models, current, cost)
        text = render(
            "decision.md",
            request=request,
            study=study,
            served=served,
            champion=current,
            decision=decision,
            notes=(*results.notes, *notes),
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
            tags=_tags(served, decision, current, request.options.metric, study.run_id),
        )
        if version is not None:
            break
        _say("the champion has changed meanwhile: comparing with the new one")
        current = champion(client, request.name, request.alias)
    client.log_text(study.run_id, text, f"promotions/{request.name}-v{version.version}.md")
    if decision.promoted:
        say(f"{version} is the new {request.alias}: {decision}")
        say(f"Use it with: ecg-mlflow predict models:/{request.name}@{request.alias} RECORDS")
        return 0
    say(f"{version} is not promoted: {decision}")
    return 3


def _tags(
    served: ServedModel,
    decision: GateDecision,
    against: RegisteredVersion | None,
    metric: str,
    study_id: str,
) -> Mapping[str, object]:
    """Return what a version's tags say of how it answers, and what was measured."""
    figures, threshold = decision.figures, served.manifest.threshold
    tags: dict[str, object] = {
        "study": study_id,
        "run": served.choice.run.record.run_id,
        "threshold": "none" if threshold is None else threshold,
        "temperature": f"{served.manifest.temperature:.4g}",
        "held_out_records": decision.n_records,
    }
    if against is not None:
        tags["judged_against"] = against.version
        tags["gain_interval"] = f"{figures['gain_low']:+.4f} to {figures['gain_high']:+.4f}"
    # The UI lists all tags of all versions in one narrow column: the rest is in the report.
    for name in (metric, "gain", "p_value"):
        if name in figures:
            tags[name] = f"{figures[name]:.4g}"
    return {f"ecg_mlflow.{name}": value for name, value in tags.items()}


def _say(text: str) -> None:
    say(text, file=sys.stderr)


def _kept(models: Sequence[Predictions], chosen: npt.NDArray[np.bool_]) -> list[Predictions]:
    """Return the predictions of the chosen records by each model."""
    return [one.take(np.flatnonzero(chosen)) for one in models]


def _reproduced(
    model: OpenedModel, choice: Choice, logged: Predictions, corpus: Corpus
) -> tuple[list[Predictions], float]:
    """Classify the test records with the served model, and compare with what the study logged.

    Returns
    -------
    The predictions by the model, and by the models that it was picked from, of the records that it
    has an answer to; and the milliseconds that one takes.

    Raises
    ------
    ModelError
        If the answers differ.
    """
    answers = classify(model.predict, corpus, logged, "the model")
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
            f"the model doesn't reproduce what run {choice.run.record.run_id} has logged: for "
            f"record {logged.records[worst]} the probabilities differ by {differences[worst]:.2g}, "
            f"more than {TOLERANCE:g}; were other versions of libraries installed when it was "
            "trained?"
        )
    return _kept([logged, *choice.candidates], known), answers.ms_per_record


def _compared(
    client: MlflowClient,
    request: PromotionRequest,
    served: ServedModel,
    corpus: Corpus,
    models: Sequence[Predictions],
    current: RegisteredVersion | None,
    cost: Mapping[str, float],
) -> tuple[GateDecision, list[str]]:
    """Classify the same records with the champion, and apply the gate; return notes, too."""
    other, notes = None, list[str]()
    if current is not None:
        if current.model_id == served.model_id:
            raise PromotionError(
                f"this very model is the {request.alias} already, as {current}: nothing is changed"
            )
        total = len(models[0])
        is_new, notes = _unseen_records(client, corpus, models[0], current, served.data)
        models = _enough(models, is_new, current, f"of {total} are new to it")
        with open_model(client, current.source, Consent(request.trust_code)) as model:
            answers = classify(model.predict, corpus, models[0], str(current))
        known = answers.known
        if not known.all():
            notes.append(
                f"the champion has no answer to {int((~known).sum())} of {len(known)} records; "
                "they are left out of the comparison"
            )
        models = _enough(models, known, current, f"of {total} are new to it and answered")
        other = at_own_threshold(answers, models[0])
    decision = apply_gate(
        models[0],
        other,
        request.options,
        request.requirements,
        cost,
        candidates=models[1:],
        temperature=served.manifest.temperature,
    )
    return decision, notes


def _enough(
    models: Sequence[Predictions],
    chosen: npt.NDArray[np.bool_],
    current: RegisteredVersion,
    chosen_are: str,
) -> list[Predictions]:
    """Return the predictions of the chosen records, if the champion can be judged by them."""
    positive = models[0].is_positive[chosen]
    if len(positive) < LEAST_RECORDS or not 0 < positive.sum() < len(positive):
        raise PromotionError(
            f"{current} can't be judged on the study's test records: only {len(positive)} "
            f"{chosen_are}, {positive.sum()} of them {models[0].positive}. Give the study test "
            "records that no champion was trained on: split=Split(records={'test': [...]})"
        )
    return _kept(models, chosen)


def _unseen_records(
    client: MlflowClient, corpus: Corpus, asked: Predictions, current: RegisteredVersion, data: str
) -> tuple[npt.NDArray[np.bool_], list[str]]:
    """Tell which records the champion has not seen while it was made, with notes on that."""
    seen = trained_on(client, current.source)
    if seen is None:
        return np.ones(len(asked), bool), [
            f"{current} doesn't tell what it was trained on: it may have seen these records, "
            "which would be to its advantage"
        ]
    rows = [corpus.index(name) for name in asked.records]
    is_new = unseen(corpus, rows, seen["digests"])
    how = overlap(seen.get("data", ""), data)
    notes = [f"the champion was trained on {seen['data']}, and {how}"] if how else []
    if not is_new.all():
        names = few([name for name, new in zip(asked.records, is_new, strict=True) if not new], 5)
        notes.append(
            f"{int((~is_new).sum())} of {len(is_new)} test records are left out of the comparison: "
            f"the champion was trained on them, or its threshold was chosen by them: {names}"
        )
    return is_new, notes
