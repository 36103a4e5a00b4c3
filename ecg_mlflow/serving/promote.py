"""``ecg-mlflow promote``: a study's winner becomes the champion, if it is better beyond chance."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import ModelError, PromotionError
from ecg_mlflow.reports.study_corpus import open_study_corpus, unseen
from ecg_mlflow.reports.study_results import TrainedRun, read_results
from ecg_mlflow.reports.winner import Choice, choose_run
from ecg_mlflow.serving.build import Operation, ServedModel, log_served_model
from ecg_mlflow.serving.gate import Machine, Verdict, judge
from ecg_mlflow.serving.held_out import Answers, as_said, ask
from ecg_mlflow.serving.promotion_report import report, version_tags
from ecg_mlflow.serving.promotion_request import PromotionRequest
from ecg_mlflow.stats.predictions import Predictions
from ecg_mlflow.tracking.entering import enter
from ecg_mlflow.tracking.stored_models import open_classifier, trained_on
from ecg_mlflow.tracking.versions import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

    from ecg_mlflow.records import Corpus

#: What a served model's probabilities may differ by from those that its study logged.
TOLERANCE = 1e-5
#: Records without which a comparison with the champion says nothing.
LEAST_RECORDS = 30


@dataclass(frozen=True)
class HeldOut:
    """Recordings on which a model is judged, and what it said of them.

    Attributes
    ----------
    corpus, rows
        Where they are.
    predictions
        The model's own, as it is served.
    candidates
        Those of all models that it was picked from by these records.
    ms_per_record
        Time that one takes here.
    """

    corpus: Corpus
    rows: npt.NDArray[np.int64]
    predictions: Predictions
    candidates: tuple[Predictions, ...]
    ms_per_record: float


@dataclass(frozen=True)
class Gate:
    """A verdict, and what it rests on.

    Attributes
    ----------
    verdict
        The verdict.
    champion
        Against whom; None where there was nobody.
    n_records
        Records that were compared.
    notes
        What the reader should know.
    """

    verdict: Verdict
    champion: RegisteredVersion | None
    n_records: int
    notes: tuple[str, ...]


def promote(client: MlflowClient, request: PromotionRequest) -> int:
    """Register a study's winner, and give it the alias if the gate passes.

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
    request = request.about(results.usual_metric)
    choice = choose_run(results, request.question, request.run_id)
    study, run = results.studies[0], choice.run
    corpus = open_study_corpus(study.plan, study.request, request.place)
    operation = Operation.of_run(run, request.threshold)
    served = log_served_model(client, study, run, corpus, operation)
    _say(f"{choice}: model {served.model_id}, trained by run {run.record.run_id}")
    held_out = _reproduced(client, served, run, choice, corpus, operation)
    with enter(
        client,
        request.name,
        served.source,
        run_id=run.record.run_id,
        model_id=served.model_id,
        alias=request.alias,
    ) as ticket:
        ticket.wait_for_turn(on_wait=lambda whom: _say(f"waiting for {whom}"))
        while True:
            champion = ticket.champion()
            gate = _judge(client, held_out, champion, request, served, operation, ticket.beat)
            verdict = gate.verdict
            text = report(request, choice, results, operation, gate, ticket.version)
            if ticket.decide(
                promoted=verdict.promoted,
                reason=str(verdict),
                against=champion,
                report=text,
                tags=version_tags(study, run, operation, gate, request.requirements.metric),
            ):
                break
            _say("the champion has changed meanwhile: judging against the new one")
    client.log_text(study.run_id, text, f"promotions/{request.name}-v{ticket.version}.md")
    what = f"version {ticket.version} of {request.name}"
    if verdict.promoted:
        print(f"{what} is the new {request.alias}: {verdict}")
        print(f"Use it with: ecg-mlflow predict models:/{request.name}@{request.alias} RECORDS")
        return 0
    print(f"{what} is not promoted: {verdict}")
    return 3


def _say(text: str) -> None:
    print(text, file=sys.stderr)


def _reproduced(
    client: MlflowClient,
    served: ServedModel,
    run: TrainedRun,
    choice: Choice,
    corpus: Corpus,
    operation: Operation,
) -> HeldOut:
    """Ask the served model about the test records, and compare with what the study has logged.

    Raises
    ------
    ModelError
        If it says something else.
    """
    assert run.test is not None
    logged = run.test
    rows = np.array([corpus.index(name) for name in logged.records], dtype=np.int64)
    with open_classifier(client, served.source) as classifier:
        answers = ask(classifier, corpus, rows, logged.classes, "the model")
    known = answers.known
    _check_same(answers, logged, run)
    kept = np.flatnonzero(known)
    return HeldOut(
        corpus,
        rows[kept],
        replace(logged.take(kept), threshold=operation.threshold),
        tuple(one.take(kept) for one in choice.candidates),
        answers.ms_per_record,
    )


def _check_same(answers: Answers, logged: Predictions, run: TrainedRun) -> None:
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
            f"the model doesn't reproduce what run {run.record.run_id} has logged: for record "
            f"{logged.records[worst]} the probabilities differ by {differences[worst]:.2g}, more "
            f"than {TOLERANCE:g}; were other versions of libraries installed when it was trained?"
        )


def _judge(
    client: MlflowClient,
    held_out: HeldOut,
    champion: RegisteredVersion | None,
    request: PromotionRequest,
    served: ServedModel,
    operation: Operation,
    beat: Callable[[], None],
) -> Gate:
    """Score the champion on the same records, and judge."""
    machine = Machine(served.size_mb, held_out.ms_per_record)
    own = held_out.predictions
    if champion is None:
        verdict = judge(own, None, request.requirements, machine, temperature=operation.temperature)
        return Gate(verdict, None, len(own), ())
    if champion.model_id == served.model_id:
        raise PromotionError(
            f"this very model is the {request.alias} already, as {champion}: nothing is changed"
        )
    notes: list[str] = []
    fair = _fair_records(client, held_out, champion, notes)
    rows = held_out.rows[fair]
    with open_classifier(client, champion.source) as classifier:
        answers = ask(classifier, held_out.corpus, rows, own.classes, str(champion), beat)
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
    theirs = as_said(
        Answers(answers.predicted[known], answers.probabilities[known], answers.ms_per_record),
        reduced,
    )
    verdict = judge(
        reduced,
        theirs,
        request.requirements,
        machine,
        candidates=tuple(one.take(kept) for one in held_out.candidates),
        temperature=operation.temperature,
    )
    return Gate(verdict, champion, len(kept), tuple(notes))


def _fair_records(
    client: MlflowClient, held_out: HeldOut, champion: RegisteredVersion, notes: list[str]
) -> npt.NDArray[np.int64]:
    """Return the places of the records that the champion has not seen while it was made."""
    seen = trained_on(client, champion.source)
    everything = np.arange(len(held_out.rows))
    if seen is None:
        notes.append(
            f"{champion} doesn't tell what it was trained on: it may have seen these records, "
            "which would be to its advantage"
        )
        return everything
    is_new = unseen(held_out.corpus, held_out.rows, frozenset(seen["digests"]))
    fair: npt.NDArray[np.int64] = everything[is_new]
    if len(fair) < len(everything):
        notes.append(
            f"{len(everything) - len(fair)} of {len(everything)} test records are left out of the "
            "comparison: the champion was trained on them, or its threshold was chosen by them"
        )
    return fair
