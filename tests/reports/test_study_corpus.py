"""The recordings of an earlier study, and which of them its networks have seen."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.records import load_corpus, packed_path
from ecg_mlflow.reports.study_corpus import (
    DataLocation,
    open_study_corpus,
    seen_digests,
    unseen,
)


@pytest.fixture
def folder(tmp_path, write_record):
    rng = np.random.default_rng(0)
    for i, seconds in enumerate((12, 9, 30, 20)):
        write_record(tmp_path / "data", f"r{i}", rng.normal(0, 0.3, (250 * seconds, 1)))
    (tmp_path / "data" / "REFERENCE.csv").write_text("r0,A\nr1,N\nr2,A\nr3,N\n")
    return tmp_path / "data"


def plan_of(corpus):
    return {
        "corpus": {"digest": corpus.digest, "source": corpus.source},
        "split": {"train": ["r0", "r1"], "validation": ["r2"], "test": ["r3"]},
    }


def test_recordings_are_the_packed_ones_or_where_the_study_had_them_or_where_they_are_now(
    folder, monkeypatch
):
    plan, request = plan_of(load_corpus(str(folder))), {"data": str(folder)}
    ids = ("r0", "r1", "r2", "r3")
    moved = folder.rename(folder.parent / "moved")
    assert open_study_corpus(plan, request).ids == ids
    monkeypatch.setenv("ECG_MLFLOW_CACHE", str(folder.parent / "elsewhere"))
    assert not packed_path(plan["corpus"]["digest"]).exists()
    location = DataLocation(str(moved))
    assert open_study_corpus(plan, request, location).ids == ids
    moved.rename(folder)
    monkeypatch.setenv("ECG_MLFLOW_CACHE", str(folder.parent / "another"))
    assert open_study_corpus(plan, request).ids == ids


def test_made_up_recordings_are_made_again(monkeypatch, tmp_path):
    corpus = load_corpus("demo:12:3")
    plan = {"corpus": {"digest": corpus.digest, "source": corpus.source}}
    monkeypatch.setenv("ECG_MLFLOW_CACHE", str(tmp_path / "elsewhere"))
    assert open_study_corpus(plan, {}).digest == corpus.digest


def test_other_recordings_are_refused(folder):
    plan = plan_of(load_corpus(str(folder)))
    plan["corpus"]["digest"] = "0" * 64
    with pytest.raises(CorpusError, match="not those that the study was run on"):
        open_study_corpus(plan, {"data": str(folder)})


def test_what_was_trained_or_validated_on_was_seen(folder, write_record):
    corpus = load_corpus(str(folder))
    seen = seen_digests(plan_of(corpus), corpus)
    assert len(seen) == 9, "three of each record"
    assert unseen(corpus, np.arange(4), seen).tolist() == [False, False, False, True]


def test_a_copy_under_another_name_and_in_another_form_was_seen_too(folder, tmp_path, write_record):
    corpus = load_corpus(str(folder))
    other = tmp_path / "other"
    # A recording beside it that needs 32 bits makes the whole corpus one of float32.
    write_record(other, "big", np.arange(3000)[:, None] * 1.0, fmt="32")
    signal = corpus.signals.samples(0) / 1000
    write_record(other, "copy", signal)
    (other / "REFERENCE.csv").write_text("big,A\ncopy,A\n")
    again = load_corpus(str(other))
    assert again.signals.data.dtype != corpus.signals.data.dtype
    seen = set(corpus.fingerprints[0])
    assert unseen(again, [again.index("big"), again.index("copy")], seen).tolist() == [True, False]


def test_models_of_earlier_versions_tell_what_they_saw_by_digests_of_millivolts(folder):
    corpus = load_corpus(str(folder))
    digest = hashlib.sha256(corpus.signals.millivolts(2).tobytes()).hexdigest()[:16]
    assert unseen(corpus, np.arange(4), {digest}).tolist() == [True, True, False, True]
