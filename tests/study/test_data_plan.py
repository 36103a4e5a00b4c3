from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from studies import ROOT, small_research

from ecg_mlflow import Option, Pipeline, load_corpus
from ecg_mlflow.errors import ResearchError
from ecg_mlflow.records.splits import Split, split_records
from ecg_mlflow.study.data_plan import batch_sources, plan_data, uncovered_labels


def settings(**changes):
    design = {
        "grid": Option("layout", ["c"]),
        "train": ROOT.random_split_signals(100, {"A": 3, "N": 1}),
        "test": ROOT.split_signals(100, 50),
        "batch_size": 5,
    }
    research = small_research(**{**design, **changes})
    return research.settings(research.grid[0])


def parts_of(corpus, split=None):
    rows = np.arange(len(corpus))
    return split_records(split or Split(0.8), corpus.ids, corpus.labels, corpus.copies, rows)


def test_each_side_has_its_own_pipeline(corpus):
    one = settings()
    plan = plan_data(corpus, parts_of(corpus, Split((0.5, 0.2, 0.3))), one)
    assert {name: len(side.rows) for name, side in plan.sides.items()} == {
        "train": 10,
        "validation": 4,
        "test": 6,
    }
    # Half of the training records are A.
    assert plan.windows_per_epoch == 5 * 3 + 5 * 1
    sources = batch_sources(corpus, replace(one, drop_last=True), plan.sides)
    rows = np.concatenate([b.rows for b in sources["test"].epoch(0, 0, 0, shuffle=False)])
    assert rows.tolist() == plan.sides["test"].rows.tolist(), "a test shows every record once"
    (batch, *_) = sources["validation"].epoch(0, 0, 0, shuffle=False)
    assert batch.counts.tolist() == [(int(corpus.n_samples[r]) - 100) // 50 + 1 for r in batch.rows]


def test_uncovered_labels_name_the_renaming(corpus):
    one = settings(
        train=Pipeline().rename_labels({"N": "NO"}).random_split_signals(100, 1), classes=["A", "N"]
    )
    found = uncovered_labels(corpus, np.arange(len(corpus)), one)
    assert {record.id for record in found} == {
        name for name, label in zip(corpus.ids, corpus.labels, strict=True) if label == "N"
    }
    assert "'NO' (from 'N'); classes are ['A', 'N']" in found[0].reason


def write_mixed(folder, write_record, **by_place):
    """Write eight records that differ by their places, and read them."""
    for i in range(8):
        options = {name: values[i] for name, values in by_place.items()}
        write_record(folder, f"R{i}", n_samples=300, **options)
    labels = "".join(f"R{i},{'AN'[i % 2]}\n" for i in range(8))
    (folder / "REFERENCE.csv").write_text(labels)
    return load_corpus(str(folder))


def test_different_frequencies_are_noted(tmp_path, write_record):
    corpus = write_mixed(tmp_path, write_record, fs=[250] * 6 + [500] * 2)
    plan = plan_data(corpus, parts_of(corpus, Split(0.5)), settings())
    (note,) = plan.notes
    assert note.startswith("train windows of 100 samples span different times")
    assert "250, 500 Hz" in note
    even = settings(
        train=Pipeline().resample_signals(250).random_split_signals(100, 1),
        test=Pipeline().resample_signals(250).split_signals(100, 50),
    )
    assert plan_data(corpus, parts_of(corpus, Split(0.5)), even).notes == ()


def test_different_leads_can_not_share_a_model(tmp_path, write_record):
    corpus = write_mixed(tmp_path, write_record, leads=[["V1"]] + [["I"]] * 7)
    with pytest.raises(ResearchError, match=r"the test records: .*do not have the same leads"):
        plan_data(corpus, parts_of(corpus, Split(0.5)), settings())
