from __future__ import annotations

import numpy as np
import pytest
from studies import ROOT, small_plan

from ecg_mlflow import Pipeline, load_corpus
from ecg_mlflow.errors import ResearchError
from ecg_mlflow.study.data_plan import batch_sources

CUT = {
    "train": ROOT.random_split_signals(100, {"A": 3, "N": 1}),
    "test": ROOT.split_signals(100, 50),
    "batch_size": 5,
}


def test_each_side_has_its_own_pipeline(corpus):
    one = small_plan(corpus, split=(0.5, 0.2, 0.3), drop_last=True, **CUT).configs[0]
    sides = one.data.sides
    n_records = {name: len(side.rows) for name, side in sides.items()}
    assert n_records == {"train": 10, "validation": 4, "test": 6}
    # Half of the training records are A.
    assert one.data.windows_per_epoch == 5 * 3 + 5 * 1
    sources = batch_sources(corpus, one.settings, sides)
    rows = np.concatenate([b.rows for b in sources["test"].epoch(0, 0, 0, shuffle=False)])
    assert rows.tolist() == sides["test"].rows.tolist(), "a test shows every record once"
    (batch, *_) = sources["validation"].epoch(0, 0, 0, shuffle=False)
    assert batch.counts.tolist() == [(int(corpus.n_samples[r]) - 100) // 50 + 1 for r in batch.rows]


@pytest.fixture
def plan_mixed(tmp_path, write_record):
    """Plan a study on eight records that differ by their places."""

    def plan(changes=None, n_samples=300, **by_place):
        for i in range(8):
            options = {name: values[i] for name, values in by_place.items()}
            write_record(tmp_path, f"R{i}", n_samples=n_samples, **options)
        labels = "".join(f"R{i},{'AN'[i % 2]}\n" for i in range(8))
        (tmp_path / "REFERENCE.csv").write_text(labels)
        return small_plan(
            load_corpus(str(tmp_path)), split=0.5, **{**CUT, "batch_size": 4, **(changes or {})}
        )

    return plan


def test_different_frequencies_are_noted(plan_mixed):
    frequencies = [250] * 6 + [500] * 2
    (note,) = plan_mixed(fs=frequencies).notes
    assert note.startswith("train windows of 100 samples span different times")
    assert "250, 500 Hz" in note
    even = Pipeline().resample_signals(250)
    changes = {"train": even.random_split_signals(100, 1), "test": even.split_signals(100, 50)}
    assert plan_mixed(changes, fs=frequencies).notes == ()


def test_different_leads_can_not_share_a_model(plan_mixed):
    with pytest.raises(ResearchError, match=r"the test records: .*do not have the same leads"):
        plan_mixed(leads=[["V1"]] + [["I"]] * 7)


@pytest.mark.parametrize("fs", [250, 125])
@pytest.mark.parametrize(
    "cut", [lambda one, n: one.split_signals(n, 9), lambda one, n: one.random_split_signals(n, 2)]
)
def test_a_window_longer_than_every_record_is_refused(corpus, cut, fs):
    side = small_plan(corpus, split=0.5).configs[0].data.sides["train"]
    longest = int(max(corpus.n_samples[side.rows])) * fs // 250

    def plan(length):
        train = cut(ROOT.resample_signals(fs), length)
        return small_plan(corpus, split=0.5, train=train, test=ROOT.split_signals(length, 9))

    with pytest.raises(ResearchError, match=f"train records: .*has {longest} samples there"):
        plan(longest + 1)


def test_batches_larger_than_the_data_are_noted(corpus):
    changes = {**CUT, "batch_size": 64, "split": 0.5}
    assert any(
        "batch_size=64 is more than the 10 training records" in note
        for note in small_plan(corpus, **changes).notes
    )


def test_a_window_as_long_as_the_longest_record_is_taken_at_any_frequency(plan_mixed):
    """At 333.3 Hz, 102 samples times that and divided by it again are a little less than 102."""
    even = Pipeline().band_pass_signals(1, 40)
    changes = {"train": even.split_signals(102, 51), "test": even.split_signals(102, 51)}
    assert plan_mixed(changes, fs=[333.3] * 8, n_samples=102).configs[0].data.input_shape == (
        102,
        1,
    )
    longer = {name: even.split_signals(103, 51) for name in changes}
    with pytest.raises(ResearchError, match="has 102 samples there"):
        plan_mixed(longer, fs=[333.3] * 8, n_samples=102)
