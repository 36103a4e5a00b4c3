"""Windows of whole pipelines: the fused kernel against the actions, one record at a time."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from numba import njit

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline import Pipeline, kernels, windows
from ecg_mlflow.pipeline.actions.every_batch import CenterFlip, RandomResampleSignals, SplitAction
from ecg_mlflow.pipeline.windows import cut_windows, fuse, prepare_record

LENGTH = 40
#: Shorter than a window, just as long, and longer.
N_SAMPLES = (1, 2, 7, 39, 40, 41, 100, 257)

CENTER = {"center": lambda p: p.center_flip()}
RESAMPLE = {
    # About every tenth draw is not positive; others make a record shorter than the window, or one
    # sample into several.
    "random": lambda p: p.random_resample_signals("normal", loc=400, scale=300),
    "fixed": lambda p: p.resample_signals(170, "linear"),
}
SPLIT = {
    "random_split": lambda p: p.random_split_signals(LENGTH, {"N": 2, "A": 5}),
    "split": lambda p: p.split_signals(LENGTH, {"N": 40, "A": 13}),
}
STEPS = {**CENTER, **RESAMPLE, **SPLIT}
ORDERS = [
    [name for name in order if name]
    for first, resample, second, split, third in product(
        ("center", ""), ("random", "fixed", ""), ("center", ""), SPLIT, ("center", "")
    )
    if (order := (first, resample, second, split, third)).count("center") <= 1
]


def pipeline_of(names):
    pipeline = Pipeline()
    for name in names:
        pipeline = STEPS[name](pipeline)
    return pipeline


def windows_by_definition(corpus, pipeline, row, draws):
    """Return a record's windows in training by each action's own definition."""
    record, n_once = corpus.record(row), len(pipeline.stages().once)
    pieces, fs = [record.signal], record.fs
    for place, action in enumerate(pipeline.actions, start=-n_once):
        if isinstance(action, CenterFlip):
            pieces = [action.apply(piece, draws[place][row]) for piece in pieces]
        elif isinstance(action, RandomResampleSignals):
            pieces = [action.apply(pieces[0], fs, draws[place][row])]
        elif isinstance(action, SplitAction):
            drawn = draws[place][row] if place in draws else None
            pieces = action.cut(pieces[0], action.starts(len(pieces[0]), record.label, drawn))
        else:
            pieces = [action.apply(pieces[0], fs, record.leads)]
            fs = action.output_fs(fs)
    return pieces


@pytest.fixture
def some_corpus(make_corpus):
    def make(dtype, n_leads):
        rng = np.random.default_rng(0)
        scale = 700 if dtype == "int16" else 0.7
        signals = [rng.normal(0.3 * scale, scale, (n, n_leads)).astype(dtype) for n in N_SAMPLES]
        return make_corpus(signals, gain=900, baseline=-80)

    return make


@pytest.mark.parametrize("names", ORDERS, ids="-".join)
@pytest.mark.parametrize(("dtype", "n_leads"), [("int16", 1), ("int16", 3), ("float32", 3)])
def test_the_kernel_equals_the_actions_in_every_order(
    some_corpus, make_windows, monkeypatch, names, dtype, n_leads
):
    corpus, pipeline, rows = some_corpus(dtype, n_leads), pipeline_of(names), np.array([5, 0, 7, 3])
    fused = make_windows(corpus, pipeline)
    assert fused._chain is not None
    monkeypatch.setattr(windows, "fuse", lambda stages: None)
    one_by_one = make_windows(corpus, pipeline)
    for epoch in range(3):
        draws = fused.draw(seed=3, repetition=1, epoch=epoch)
        expected = [windows_by_definition(corpus, pipeline, row, draws) for row in rows]
        for maker in (fused, one_by_one):
            found, counts = maker.make(rows, draws)
            assert counts.tolist() == [len(its_windows) for its_windows in expected]
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, np.concatenate(expected), rtol=0, atol=2e-6)


@pytest.mark.parametrize("names", [["center", "split"], ["split", "center"]])
def test_the_sign_is_plus_one_at_test_unless_asked(some_corpus, make_windows, names):
    corpus, pipeline, rows = some_corpus("int16", 3), pipeline_of(names), np.arange(8)
    in_training, in_test = (make_windows(corpus, pipeline, training=t) for t in (True, False))
    draws = in_test.draw(3, 0, 0)
    unflipped = {place: np.ones_like(signs) for place, signs in draws.items()}
    found, _ = in_test.make(rows, draws)
    np.testing.assert_array_equal(found, in_training.make(rows, unflipped)[0])
    assert not np.allclose(found, in_training.make(rows, draws)[0], atol=1e-3)
    asked = Pipeline().center_flip(flip_at_test=True).split_signals(LENGTH, 40)
    in_training, in_test = (make_windows(corpus, asked, training=t) for t in (True, False))
    draws = in_test.draw(3, 0, 0)
    np.testing.assert_array_equal(in_training.make(rows, draws)[0], in_test.make(rows, draws)[0])


def test_leads_that_are_chosen_first_are_those_of_the_windows(some_corpus, make_windows):
    corpus = some_corpus("int16", 3)
    pipeline = Pipeline().keep_leads(["L2", "L0"]).center_flip().split_signals(LENGTH, 40)
    maker = make_windows(corpus, pipeline, [6, 7], training=False)
    found, _ = maker.make(np.array([6]), maker.draw(0, 0, 0))
    signal = corpus.record(6).signal[:, [2, 0]].astype(np.float64)
    np.testing.assert_allclose(found[1], (signal - signal.mean(axis=0))[40:80], atol=2e-6)


# --- Chance ------------------------------------------------------------------------------------


def test_what_chance_gives_for_a_seed_repetition_and_epoch_stays(make_corpus, make_windows):
    pipeline = (
        Pipeline()
        .center_flip()
        .random_resample_signals("normal", loc=300, scale=30)
        .random_split_signals(16, {"N": 2, "A": 3})
    )
    corpus = make_corpus([np.zeros((20, 2), np.int16)] * 4)
    draws = make_windows(corpus, pipeline).draw(seed=7, repetition=2, epoch=5)
    assert draws[0].tolist() == [[1, 1], [1, 1], [-1, -1], [-1, 1]]
    np.testing.assert_allclose(
        draws[1], [274.565552, 355.949849, 332.259393, 367.002888], rtol=1e-8
    )
    places = [
        [0.976102, 0.228216, 0.739433],
        [0.818708, 0.354805, 0.018715],
        [0.720307, 0.456442, 0.259393],
        [0.054668, 0.889646, 0.605130],
    ]
    np.testing.assert_allclose(draws[2], places, rtol=0, atol=1e-6)


# --- Steps of one's own, and chains that don't fuse ---------------------------------------------


def squared(signal, fs):
    return signal**2 + np.float32(fs)


@pytest.mark.parametrize("step", [squared, njit(squared)])
def test_a_step_after_a_split_gets_windows_and_their_frequency(some_corpus, make_windows, step):
    corpus, rows = some_corpus("int16", 3), np.array([7, 2])
    pipeline = pipeline_of(["center", "random", "random_split"])
    before, after = make_windows(corpus, pipeline), make_windows(corpus, pipeline.apply(step))
    assert after._chain is not None
    draws = before.draw(0, 0, 1)
    fs = np.where(draws[1] > 0, draws[1], 300)[rows]
    found, counts = before.make(rows, draws)
    expected = found**2 + np.repeat(fs, counts)[:, None, None]
    np.testing.assert_allclose(after.make(rows, draws)[0], expected, rtol=1e-6)


def test_a_step_between_chance_and_split_gets_the_whole_record(some_corpus, make_windows):
    seen = []

    def note(signal, fs):
        seen.append((len(signal), fs))
        return signal + 1

    corpus = some_corpus("float32", 1)
    pipeline = (
        Pipeline()
        .center_flip()
        .resample_signals(600, "linear")
        .apply(note)
        .split_signals(LENGTH, 40)
    )
    maker = make_windows(corpus, pipeline, training=False)
    assert maker._chain is None
    found, _ = maker.make(np.array([6]), maker.draw(0, 0, 0))
    assert seen == [(200, 600.0)]
    signal = corpus.record(6).signal[:, 0].astype(np.float64)
    fine = np.interp(np.linspace(0, 99, 200), np.arange(100), signal - signal.mean()) + 1
    np.testing.assert_allclose(found[2, :, 0], fine[80:120], atol=2e-6)


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda s, fs: s[1:], r"R006: apply.* makes \(39, 1\) of a window \(40, 1\); after spl"),
        (lambda s, fs: s[:, 0], r"record R006: apply.* it returned \(40,\)"),
        (lambda s, fs: s * np.inf, "R006: after apply.*NaN or infinite.* correct the function"),
        (lambda s, fs: s.peaks, "record R006: apply.*failed.*AttributeError"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered in multiply:RuntimeWarning")
def test_a_bad_step_after_a_split_names_the_record(
    some_corpus, make_windows, monkeypatch, step, message, fused
):
    if not fused:
        monkeypatch.setattr(windows, "fuse", lambda stages: None)
    pipeline = Pipeline().split_signals(LENGTH, 40).apply(step)
    maker = make_windows(some_corpus("int16", 1), pipeline)
    with pytest.raises(PipelineError, match=message):
        maker.make(np.array([6]), {})


def test_what_fuses_and_what_does_not():
    split = Pipeline().split_signals(LENGTH, 40)
    flipped = Pipeline().center_flip()
    assert fuse(split.stages()).center == kernels.NO_CENTER
    assert fuse(split.center_flip().stages()).center == kernels.CENTER_WINDOW
    assert fuse(split.standardise_signals().stages()).tail
    assert fuse(split.standardise_signals().center_flip().stages()) is None
    assert fuse(flipped.center_flip().split_signals(LENGTH, 40).stages()) is None
    assert fuse(flipped.standardise_signals().split_signals(LENGTH, 40).stages()) is None
    assert fuse(flipped.resample_signals(90, "linear").split_signals(LENGTH, 40).stages())
    assert fuse(flipped.resample_signals(90).split_signals(LENGTH, 40).stages()) is None


# --- Recordings in memory -------------------------------------------------------------------------

IN_MEMORY = {
    "fused": Pipeline().center_flip().split_signals(60, 20),
    "resampled": Pipeline().center_flip().resample_signals(210, "linear").split_signals(60, 60),
    "filtered once": Pipeline().band_pass_signals(1, 40).center_flip().split_signals(60, 25),
    "leads": Pipeline().keep_leads(["L1"]).split_signals(60, 60),
    "tail": Pipeline().center_flip().split_signals(60, 30).standardise_signals(),
    "in numpy": Pipeline().center_flip().apply(squared).resample_signals(250).split_signals(60, 60),
    "equal steps": Pipeline().split_signals(60, {"N": 20, "A": 20}),
    "long enough": Pipeline().drop_short_signals(0.01).split_signals(60, 60),
}


@pytest.mark.parametrize("dtype", [np.int16, np.float32])
@pytest.mark.parametrize("pipeline", IN_MEMORY.values(), ids=IN_MEMORY)
def test_windows_are_those_of_a_packed_corpus(
    make_records, make_corpus, make_windows, pipeline, dtype
):
    rng = np.random.default_rng(0)
    lengths = (30, 60, 61, 200, 333)
    signals = [rng.normal(0, 500, (n, 2)).astype(dtype) for n in lengths]
    how = {"fs": [300, 300, 200, 360, 300], "gain": 750, "baseline": 12}
    maker = make_windows(make_corpus(signals, **how), pipeline, training=False)
    rows = np.arange(len(signals))
    windows, counts = maker.make(rows, maker.draw(3, 1, 4))
    stages = pipeline.stages()
    prepared = [prepare_record(record, stages) for record, _ in make_records(signals, **how)]
    found, found_counts = cut_windows(prepared, stages)
    assert found_counts.tolist() == counts.tolist()
    np.testing.assert_array_equal(found, windows)
    alone, _ = cut_windows(prepared[3:4], stages)
    np.testing.assert_array_equal(alone, windows[counts[:3].sum() : counts[:4].sum()])


def test_what_fails_names_the_record(make_records):
    ((record, _),) = make_records([np.ones((50, 1), np.float32)], fs=50)
    stages = Pipeline().band_pass_signals(1, 40).split_signals(10, 10).stages()
    with pytest.raises(PipelineError, match=r"record R000: .*edges must lie below 25 Hz"):
        prepare_record(record, stages)
