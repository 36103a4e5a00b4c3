"""What runs once per record: selection, leads, and signals that are kept."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline import Pipeline, prepare, select
from ecg_mlflow.pipeline.actions.records import ApplyStep
from ecg_mlflow.pipeline.prepare import output_leads


def doubled(signal, fs):
    return signal * 2


@pytest.fixture
def corpus(make_corpus):
    """Four records of 300 Hz and two leads, of 10, 20, 30 and 40 samples."""
    rng = np.random.default_rng(0)
    signals = [rng.integers(-900, 900, (n, 2)).astype(np.int16) for n in (10, 20, 30, 40)]
    return make_corpus(signals, ["N", "A", "~", "O"], baseline=7)


def test_records_are_selected_by_label_and_length(corpus):
    root = Pipeline().drop_labels(["~"]).rename_labels({"O": "N"}).drop_short_signals(20 / 300)
    selection = select(corpus, root.split_signals(5, 5).stages())
    assert selection.rows.tolist() == [1, 3]
    assert selection.labels == ("A", "N")
    assert select(corpus, root.split_signals(5, 5).stages(), [0, 2, 3]).rows.tolist() == [3]


def test_without_anything_to_run_once_the_corpus_itself_is_used(corpus, cache):
    stages = Pipeline().drop_short_signals(0.01).center_flip().split_signals(5, 5).stages()
    prepared = prepare(corpus, stages, np.array([0, 2]))
    assert prepared.signals is corpus.signals
    assert prepared.place.tolist() == [0, 1, 2, 3]
    assert prepared.leads == ("L0", "L1")
    assert not list(cache.iterdir())


def test_a_step_runs_once_for_each_record(corpus, make_source, monkeypatch):
    calls, apply = [], ApplyStep.apply

    def counted(self, signal, fs, leads):
        calls.append(len(signal))
        return apply(self, signal, fs, leads)

    monkeypatch.setattr(ApplyStep, "apply", counted)
    pipeline = Pipeline().keep_labels(["N", "A"]).apply(doubled)
    source = make_source(corpus, pipeline.center_flip().random_split_signals(5, 3), 2)
    first, second = (list(source.epoch(0, 0, epoch, shuffle=True)) for epoch in (0, 1))
    assert calls == [10, 20]
    assert not np.array_equal(first[0].windows, second[0].windows)
    prepare(corpus, pipeline.split_signals(5, 5).stages(), np.array([0, 1]))
    assert calls == [10, 20]


def test_other_actions_are_not_taken_from_what_was_kept(corpus):
    signals = [
        prepare(corpus, pipeline.split_signals(5, 5).stages(), np.arange(4)).signals.millivolts(0)
        for pipeline in (Pipeline().band_pass_signals(1, 40), Pipeline().band_pass_signals(1, 50))
    ]
    assert not np.allclose(*signals)


def test_what_was_kept_and_is_damaged_is_made_again(corpus, cache):
    stages, rows = Pipeline().band_pass_signals(1, 40).split_signals(5, 5).stages(), np.arange(4)
    expected = [prepare(corpus, stages, rows).signals.millivolts(i) for i in rows]
    (packed,) = (cache / "corpora").glob("*/signals.bin")
    packed.write_bytes(bytes(packed.stat().st_size))
    again = prepare(corpus, stages, rows)
    for i in rows:
        np.testing.assert_array_equal(again.signals.millivolts(i), expected[i])


def test_resampling_once_changes_the_frequency_and_what_follows_sees_it(make_corpus):
    seen = []

    def note(signal, fs):
        seen.append((len(signal), fs))
        return signal

    signals = [np.ones((100, 1), np.float32), np.ones((200, 1), np.float32)]
    corpus = make_corpus(signals, fs=[100, 400])
    stages = Pipeline().resample_signals(200).apply(note).split_signals(5, 5).stages()
    prepared = prepare(corpus, stages, np.arange(2))
    assert seen == [(200, 200.0), (100, 200.0)]
    assert prepared.fs.tolist() == [200, 200]


def test_a_step_that_makes_nan_names_the_record(corpus):
    stages = Pipeline().apply(lambda s, fs: np.log(np.abs(s) * 0 - 1)).split_signals(5, 5).stages()
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(
            PipelineError, match=r"record R001: after apply.* NaN or .*correct the function"
        ),
    ):
        prepare(corpus, stages, np.array([1]))


def test_a_step_that_fails_names_the_record_and_nothing_is_kept(corpus):
    broken = [True]

    def fail_once(signal, fs):
        if len(signal) == 40 and broken:
            broken.clear()
            raise KeyError("R peaks")
        return signal * 2

    stages = Pipeline().keep_leads(["L1"]).apply(fail_once).split_signals(5, 5).stages()
    rows = np.array([1, 3])
    with pytest.raises(PipelineError, match=r"record R003: apply.*failed.*KeyError: 'R peaks'"):
        prepare(corpus, stages, rows)
    prepared = prepare(corpus, stages, rows)
    assert prepared.place.tolist() == [-1, 0, -1, 1]
    assert prepared.leads == ("L1",)
    expected = corpus.record(3).signal[:, 1:] * 2
    np.testing.assert_allclose(prepared.signals.millivolts(1), expected, atol=1e-6)


def test_renamed_leads_are_found_by_their_new_names(make_corpus):
    corpus = make_corpus([np.array([[1, 2]] * 9, np.float32)], leads=[["I", "AVR"]])
    rows = np.array([0])
    renamed = Pipeline().rename_leads({"avr": "V1"}).split_signals(5, 5).stages()
    assert prepare(corpus, renamed, rows).signals is corpus.signals
    kept = Pipeline().rename_leads({"avr": "V1"}).keep_leads(["V1"]).split_signals(5, 5).stages()
    prepared = prepare(corpus, kept, rows)
    assert prepared.leads == ("V1",)
    np.testing.assert_allclose(prepared.signals.millivolts(0), [[2]] * 9)


def test_records_must_end_with_the_same_leads(make_corpus):
    both = np.array([[1, 2]] * 9, dtype=np.float32)
    corpus = make_corpus([both, both[:, ::-1], both], leads=[["I", "II"], ["II", "I"], ["I", "II"]])
    plain = Pipeline().split_signals(5, 5).stages()
    with pytest.raises(
        PipelineError, match=r"2 records have \['I', 'II'\] \(such as R000\); 1 rec"
    ):
        output_leads(corpus, plain, np.arange(3))
    assert output_leads(corpus, plain, np.array([0, 2])) == ("I", "II")
    ordered = Pipeline().reorder_leads(["I", "II"]).split_signals(5, 5).stages()
    assert output_leads(corpus, ordered, np.arange(3)) == ("I", "II")
    prepared = prepare(corpus, ordered, np.arange(3))
    assert [prepared.signals.millivolts(i)[0].tolist() for i in range(3)] == [[1, 2]] * 3
