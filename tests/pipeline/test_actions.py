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
    RemoveBaseline,
    RemovePowerline,
    RenameLeads,
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
    for method in ("linear", "polyphase"):
        action = ResampleSignals(150, method)
        assert len(action.apply(one_lead(*range(300)), 300, ("I",))) == action.output_fs(300) == 150


def test_resampling_is_linear_or_removes_what_the_new_frequency_cannot_hold():
    times = np.arange(5000) / 500
    high, low = one_lead(*np.sin(2 * np.pi * 70 * times)), one_lead(*np.sin(2 * np.pi * 9 * times))

    def left_of(signal, method):
        found = ResampleSignals(100, method).apply(signal, 500, ("I",))[50:-50]
        return found.std() / signal.std()

    assert left_of(high, "polyphase") < 0.001
    assert left_of(high, "linear") > 0.6
    assert left_of(low, "polyphase") == pytest.approx(1, abs=1e-3)
    found = ResampleSignals(100, "linear").apply(high, 500, ("I",))
    np.testing.assert_array_equal(found, interpolate(high, 1000))


@pytest.mark.parametrize("fs", [100, 500, 360, 257.3, 1e-3, 8000])
@pytest.mark.parametrize("n_samples", [1, 2, 3, 1000])
def test_filtered_resampling_keeps_offsets_and_lengths(fs, n_samples):
    signal = np.full((n_samples, 2), 1.5, np.float32)
    found = ResampleSignals(fs, "polyphase").apply(signal, 360, ("I", "II"))
    assert found.shape == (resampled_length(n_samples, 360, fs), 2)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1.5, rtol=1e-3)


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


# --- Interference ------------------------------------------------------------------------------


@pytest.mark.parametrize("mains", [50, 60])
def test_a_notch_removes_the_mains_and_nothing_else(mains):
    times = np.arange(3000) / 300
    ecg = np.sin(2 * np.pi * 8 * times) + 0.5 * np.sin(2 * np.pi * (mains - 5) * times)
    hum = 0.3 * np.sin(2 * np.pi * mains * times)
    found = RemovePowerline(mains, 30).apply(one_lead(*(ecg + hum)), 300, ("I",))
    assert found.dtype == np.float32
    # It rings at the ends, where the hum begins and stops.
    np.testing.assert_allclose(found[300:-300, 0], ecg[300:-300], atol=0.02)


def test_a_notch_takes_short_signals_and_frequencies_below_half():
    for n_samples in (1, 2, 9, 299):
        found = RemovePowerline(50, 30).apply(np.ones((n_samples, 1), np.float32), 300, ("I",))
        np.testing.assert_allclose(found, 1, atol=1e-5)
    with pytest.raises(PipelineError, match="at fs=100 Hz, frequency must lie below 50 Hz; filter"):
        RemovePowerline(50, 30).apply(np.ones((9, 1), np.float32), 100, ("I",))


@pytest.mark.parametrize("fs", [100, 360])
def test_baseline_removal_keeps_beats_where_they_are(fs):
    times = np.arange(10 * fs) / fs
    beat = np.exp(-0.5 * ((times % 1 - 0.5) / 0.012) ** 2)
    wander = 0.8 * np.sin(2 * np.pi * 0.2 * times) + 3
    signal = np.stack([beat + wander, wander], axis=1).astype(np.float32)
    found = RemoveBaseline().apply(signal, fs, ("I", "II"))
    assert found.dtype == np.float32
    inner = slice(fs, -fs)
    np.testing.assert_allclose(found[inner, 0], beat[inner], atol=0.1)
    np.testing.assert_allclose(found[inner, 1], 0, atol=0.1)
    still = np.full((1, 1), 2, np.float32)
    assert RemoveBaseline().apply(still, fs, ("I",)).tolist() == [[0]]


# --- Leads and lengths -------------------------------------------------------------------------


def test_leads_are_kept_dropped_and_reordered():
    signal, plain, twice = np.array([[1, 2, 3]], np.float32), ("I", "II", "V1"), ("I", "I", "V1")
    for action, leads, names, values in (
        (KeepLeads(("V1", "I")), plain, ("V1", "I"), [3, 1]),
        (KeepLeads(("v1", "ECG I")), plain, ("v1", "ECG I"), [3, 1]),
        (DropLeads(("I",)), twice, ("V1",), [3]),
        (DropLeads(("II",)), plain, ("I", "V1"), [1, 3]),
        (DropLeads(("V1",)), twice, ("I", "I"), [1, 2]),
        (DropLeads(()), plain, plain, [1, 2, 3]),
        (ReorderLeads(("V1", "I", "II")), plain, ("V1", "I", "II"), [3, 1, 2]),
    ):
        assert action.output_leads(leads) == names
        assert action.apply(signal, 300, leads).tolist() == [values]


def test_two_leads_of_one_name_are_refused_where_it_is_asked_for():
    for leads in (("I", "I"), ("I", "ECG I")):
        with pytest.raises(PipelineError, match=r"several leads of the record are called \['I'\]"):
            KeepLeads(("I",)).output_leads(leads)


def test_leads_are_renamed_in_any_spelling():
    rename = RenameLeads({"avr": "aVR", "ECG": "II", "V9": "V6"})
    assert rename.output_leads(("I", "AVR", "EEG EKG-Ref")) == ("I", "aVR", "II")
    assert rename.output_leads(("V1",)) == ("V1",)


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
        (ReorderLeads(("I", "V1")), r"the record has no lead \['V1'\]; it has \['I', 'II'\]"),
        (RenameLeads({"I": "II"}), r"several leads would be called \['II'\]: \['II', 'II'\]"),
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
        (lambda: ResampleSignals(100, "cubic"), "method must be linear or polyphase"),
        (lambda: RemovePowerline(0, 30), "frequency must be that of the mains in Hz, 50 or 60"),
        (lambda: RemovePowerline(50, 0), "quality must be positive"),
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
