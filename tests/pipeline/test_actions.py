"""Each action on one record, against the values of the reference semantics."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import butter, sosfiltfilt

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.pipeline.actions.base import interpolate, resampled_length
from ecg_mlflow.pipeline.actions.every_batch import (
    CenterFlip,
    RandomResampleSignals,
    RandomSplitSignals,
    SplitSignals,
)
from ecg_mlflow.pipeline.actions.label_actions import DropLabels, KeepLabels, RenameLabels
from ecg_mlflow.pipeline.actions.records import (
    ApplyStep,
    BandPassSignals,
    DropLeads,
    DropShortSignals,
    KeepLeads,
    ReorderLeads,
    ResampleSignals,
    StandardiseSignals,
)


def one_lead(*samples):
    return np.array(samples, dtype=np.float32)[:, None]


# --- Labels ------------------------------------------------------------------------------------


def labels_of(pipeline, *labels):
    stages = pipeline.split_signals(3, 3).stages()
    return [stages.label(label) for label in labels]


def test_each_of_several_labels_is_looked_at():
    given = ("AF,RBBB", "RBBB", "PVC", "")
    assert labels_of(Pipeline().drop_labels(["AF"]), *given) == [None, "RBBB", "PVC", ""]
    assert labels_of(Pipeline().keep_labels(["AF", "RBBB"]), *given) == [
        "AF,RBBB",
        "RBBB",
        None,
        None,
    ]
    assert labels_of(Pipeline().select_labels(["AF"]), *given) == ["AF", "", "", ""]
    renamed = Pipeline().rename_labels({"RBBB": "block", "AF": "block"})
    assert labels_of(renamed, *given) == ["block", "block", "PVC", ""]
    assert labels_of(Pipeline().drop_labels([]), "RBBB,AF", "AF, RBBB") == ["AF,RBBB", "AF,RBBB"]
    rest = Pipeline().select_labels(["AF"]).rename_labels({"": "other"})
    assert labels_of(rest, *given) == ["AF", "other", "other", "other"]
    in_order = Pipeline().drop_labels(["~"]).rename_labels({"N": "~", "O": "N"})
    assert labels_of(in_order, "N", "O", "A", "~") == ["~", "N", "A", None]


def test_of_several_labels_the_one_with_most_windows_counts():
    random = RandomSplitSignals(10, {"AF": 6, "RBBB": 2, "": 1})
    assert SplitSignals(10, {"AF": 5, "RBBB": 10}).value("AF,RBBB") == 5
    assert [random.count(10, label) for label in ("AF,RBBB", "RBBB", "")] == [6, 2, 1]
    assert len(random.starts(10, "RBBB", np.zeros(6))) == 2
    with pytest.raises(PipelineError, match=r"label 'PVC' is not among \['AF'\]"):
        SplitSignals(10, {"AF": 5}).value("AF,PVC")


# --- Resampling --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("samples", "n_samples", "expected"),
    [
        ([0, 1, 4, 9, 16], 4, [0, 2, 22 / 3, 16]),
        ([7, 8, 9], 1, [7]),
        ([7, 8, 9], 5, [7, 7.5, 8, 8.5, 9]),
        ([5], 3, [5, 5, 5]),
        ([1, 2, 3], 3, [1, 2, 3]),
    ],
)
def test_interpolation_is_linear_from_first_to_last_sample(samples, n_samples, expected):
    found = interpolate(one_lead(*samples), n_samples)
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-6)
    assert found.dtype == np.float32


def test_the_length_after_resampling():
    given = [(9000, 310), (9000, 299.99), (5, 240), (3, 1), (9000, 0), (9000, -20)]
    found = [resampled_length(n_samples, 300, fs_new) for n_samples, fs_new in given]
    assert found == [9300, 8999, 4, 1, 9000, 9000]
    action = ResampleSignals(150)
    assert len(action.apply(one_lead(*range(300)), 300, ("I",))) == action.output_fs(300) == 150


def test_chance_draws_one_frequency_for_each_record_and_a_sign_for_each_lead():
    rng = np.random.default_rng(1)
    drawn = RandomResampleSignals("normal", {"loc": 300, "scale": 10}).draw(rng, 2000, 3)
    assert drawn.shape == (2000,)
    assert (drawn.mean(), drawn.std()) == pytest.approx((300, 10), abs=1)
    signs = CenterFlip(False).draw(rng, 4000, 2)
    assert signs.shape == (4000, 2)
    assert set(np.unique(signs)) == {-1, 1}
    assert np.abs(signs.mean(axis=0)).max() < 0.06
    assert abs(np.mean(signs[:, 0] * signs[:, 1])) < 0.06


def test_random_resampling_interpolates_and_keeps_a_record_where_the_draw_is_not_positive():
    action, signal = RandomResampleSignals("normal", {"loc": 300}), one_lead(0, 1, 4, 9, 16)
    np.testing.assert_allclose(action.apply(signal, 300, 240)[:, 0], [0, 2, 22 / 3, 16], rtol=1e-6)
    np.testing.assert_array_equal(action.apply(signal, 300, -1), signal)


# --- Splitting ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("n_samples", "step", "starts"),
    [
        (10, 3, [0, 3, 6]),
        (9, 3, [0, 3]),
        (4, 3, [0]),
        (3, 3, [0]),
        (1, 1, [0]),
        (5, 1, [0, 1]),
    ],
)
def test_split_signals_drops_the_tail(n_samples, step, starts):
    action = SplitSignals(4, step)
    found = action.starts(n_samples, "N")
    assert (found.tolist(), action.count(n_samples, "N")) == (starts, len(starts))
    windows = action.cut(one_lead(*range(10)), found)
    assert windows[:, :, 0].tolist() == [[*range(start, start + 4)] for start in starts]


def test_short_records_get_zeros_on_the_left():
    action = RandomSplitSignals(5, 3)
    starts = action.starts(2, "N", np.array([0.0, 0.5, 0.999999]))
    windows = action.cut(one_lead(1, 2), starts)
    assert windows[:, :, 0].tolist() == [[0, 0, 0, 1, 2]] * 3


def test_random_starts_cover_every_place_and_no_more():
    action = RandomSplitSignals(4, 500)
    places = action.draw(np.random.default_rng(0), 2, 1)
    assert places.shape == (2, 500)
    assert sorted(set(action.starts(10, "N", places[1]).tolist())) == list(range(7))
    assert action.starts(10, "N", np.array([1 - 2**-53])).tolist() == [6]


# --- Centring, scaling, filtering --------------------------------------------------------------


def test_center_flip_subtracts_each_leads_mean_and_applies_its_sign():
    signal = np.array([[1, 10], [2, 20], [6, 60]], dtype=np.float32)
    found = CenterFlip(False).apply(signal, np.array([1, -1], np.float32))
    assert found.tolist() == [[-2, 20], [-1, 10], [3, -30]]


def test_standardise_scales_each_lead_and_makes_a_flat_one_zero():
    signal = np.random.default_rng(0).normal(5, 3, (1001, 3)).astype(np.float32)
    signal[:, 1] = 0.1
    found = StandardiseSignals().apply(signal, 300, ("I", "II", "III"))
    np.testing.assert_allclose(found.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(found.std(axis=0), [1, 0, 1], atol=1e-6)


@pytest.mark.parametrize(("low", "high"), [(1, 40), (1, None), (None, 40)])
def test_band_pass_is_scipys_filter_run_forth_and_back(low, high):
    signal = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    kind = "bandpass" if low and high else "highpass" if low else "lowpass"
    sections = butter(3, [low, high] if low and high else low or high, kind, fs=300, output="sos")
    found = BandPassSignals(low, high, 3).apply(signal, 300, ("I", "II"))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, sosfiltfilt(sections, signal, axis=0), atol=1e-6)


@pytest.mark.parametrize("n_samples", [1, 2, 15, 21, 22])
def test_band_pass_takes_short_signals_and_edges_below_half_the_frequency(n_samples):
    signal = np.ones((n_samples, 1), np.float32)
    found = BandPassSignals(1, 40, 3).apply(signal, 300, ("I",))
    assert found.shape == (n_samples, 1)
    assert np.isfinite(found).all()
    with pytest.raises(PipelineError, match="at fs=70 Hz, edges must lie below 35 Hz"):
        BandPassSignals(1, 40, 3).apply(signal, 70, ("I",))


# --- Leads and lengths -------------------------------------------------------------------------


def test_leads_are_kept_dropped_and_reordered():
    signal, plain, twice = np.array([[1, 2, 3]], np.float32), ("I", "II", "V1"), ("I", "I", "V1")
    for action, leads, names, values in (
        (KeepLeads(("V1", "I")), plain, ("V1", "I"), [3, 1]),
        (KeepLeads(("V1", "I")), twice, ("V1", "I"), [3, 1]),
        (DropLeads(("II",)), plain, ("I", "V1"), [1, 3]),
        (DropLeads(("V1",)), twice, ("I", "I"), [1, 2]),
        (DropLeads(()), plain, plain, [1, 2, 3]),
        (ReorderLeads(("V1", "I", "II")), plain, ("V1", "I", "II"), [3, 1, 2]),
    ):
        assert action.output_leads(leads) == names
        assert action.apply(signal, 300, leads).tolist() == [values]


def test_recordings_are_kept_by_their_seconds():
    kept = [DropShortSignals(9).keeps(n, fs) for n, fs in ((2699, 300), (2700, 300), (2699, 250))]
    assert kept == [False, True, True]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (KeepLeads(("V9",)), r"the record has no lead \['V9'\]; it has \['I', 'II'\]"),
        (DropLeads(("V9",)), r"the record has no lead \['V9'\]"),
        (DropLeads(("I", "II")), "this leaves no lead"),
        (ReorderLeads(("II",)), r"lead \['I'\] is not in the order; use keep_leads"),
        (ReorderLeads(("I", "ii")), r"the record has no lead \['ii'\]; it has \['I', 'II'\]"),
    ],
)
def test_leads_that_do_not_fit(action, message):
    with pytest.raises(PipelineError, match=message):
        action.output_leads(("I", "II"))


# --- A step of one's own -----------------------------------------------------------------------


def test_a_step_gets_the_signal_and_its_frequency():
    def halve(signal, fs):
        assert signal.flags.c_contiguous
        return (signal / 2)[: int(fs) // 100].astype(np.float64)

    # Picking columns leaves them out of order in memory, which a typed @njit would refuse.
    signal = KeepLeads(("II", "I")).apply(np.ones((9, 2), np.float32), 300, ("I", "II"))
    found = ApplyStep(halve).apply(signal, 300, ("II", "I"))
    assert found.tolist() == [[0.5, 0.5]] * 3
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (lambda signal, fs: signal[5], r"for \(9, 2\) it returned \(2,\)"),
        (lambda signal, fs: signal[:, :1], r"as many leads as .* it returned \(9, 1"),
        (lambda signal, fs: signal[:0], r"it returned \(0, 2\)"),
        (lambda signal, fs: None, r"it returned \(\) of object"),
        (lambda signal, fs: signal * 1j, "real numbers"),
        (lambda signal, fs: 1 / 0, r"lambda>\) .* ZeroDivisionError: division"),
        (lambda signal, fs: signal / signal.n, r"failed on a signal of shape \(9, 2\) at 300 Hz: "),
    ],
)
def test_a_step_that_returns_no_signal_is_told_so(step, message):
    with pytest.raises(PipelineError, match=message):
        ApplyStep(step).apply(np.ones((9, 2), np.float32), 300, ("I", "II"))


# --- Arguments ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SplitSignals(0, 1), r"^split_signals\(length=0, step=1\): length must be a"),
        (lambda: SplitSignals(3.0, 1), "length must be a whole number"),
        (lambda: SplitSignals(True, 1), "length must be a whole number"),
        (lambda: SplitSignals(3, 0), "step must be a whole number of at least 1"),
        (lambda: SplitSignals(3, {"N": 1, "A": 0}), "step must be a whole number"),
        (lambda: RandomSplitSignals(3, 0), "n must be a whole number of at least 1"),
        (lambda: RandomSplitSignals(3, {}), "n must be a whole number"),
        (lambda: RandomSplitSignals(3, {"A": "6"}), "n must be a whole number"),
        (lambda: ResampleSignals(0), "fs must be a positive frequency in Hz"),
        (lambda: ResampleSignals(float("nan")), "fs must be a positive frequency"),
        (lambda: DropShortSignals(-1), "seconds must be positive"),
        (lambda: BandPassSignals(None, None, 3), "give low, high or both"),
        (lambda: BandPassSignals(40, 1, 3), "low below high"),
        (lambda: BandPassSignals(5, 5, 3), "low below high"),
        (lambda: BandPassSignals(1, 40, 0), "order must be at least 1"),
        (lambda: KeepLeads(()), "leads must be a list of names, at least one"),
        (lambda: KeepLeads(("I", "I")), "at least one and none twice"),
        (lambda: KeepLeads("I"), "leads must be a list of names"),
        (lambda: DropLabels("~"), "labels must be a list of names"),
        (lambda: KeepLabels(()), "labels must be a list of names, at least one"),
        (lambda: RenameLabels(["N"]), "names must be a dict"),
        (lambda: RenameLabels({"N": 3}), "names must be a dict"),
        (lambda: ApplyStep("halve"), "step must be a function"),
        (lambda: CenterFlip("no"), "flip_at_test must be True or False"),
        (lambda: RandomResampleSignals("gauss", {}), "method of numpy.random.Generator"),
        (lambda: RandomResampleSignals("normal", {"mean": 3}), "method of numpy.random.Generator"),
        (lambda: RandomResampleSignals("normal", {"scale": -1}), "numpy.random.Generator"),
        (lambda: RandomResampleSignals("normal", {"loc": np.nan}), "one finite number per record"),
        (lambda: RandomResampleSignals("dirichlet", {"alpha": [1, 2]}), "one finite number"),
    ],
)
def test_wrong_arguments_are_refused_when_the_action_is_made(make, message):
    with pytest.raises(PipelineError, match=message):
        make()
