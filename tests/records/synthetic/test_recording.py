import numpy as np
import pytest
from scipy.signal import find_peaks

from ecg_mlflow.records.synthetic import recording as recording_module
from ecg_mlflow.records.synthetic.recording import synthesize

CLASSES = ("N", "A", "O", "~")


def make(label, number, fs=300.0, n_leads=1):
    return synthesize(label, np.random.SeedSequence(5, spawn_key=(number,)), fs, n_leads)


@pytest.mark.parametrize("label", CLASSES)
def test_samples_are_digital_and_of_the_challenges_lengths(label):
    lengths = []
    for number in range(30):
        recording = make(label, number)
        assert recording.samples.dtype == np.int16
        assert recording.samples.shape[1] == 1
        assert recording.samples.min() > -32768
        assert recording.samples.std() > 20
        lengths.append(len(recording.samples))
    assert min(lengths) >= 2714
    assert max(lengths) <= 18286
    assert np.median(lengths) == 9000


def test_length_says_nothing_about_the_class():
    lengths = [[len(make(label, number).samples) for number in range(20)] for label in CLASSES]
    assert lengths == [lengths[0]] * 4


def test_first_lead_does_not_depend_on_how_many_follow():
    one, twelve = make("A", 3), make("A", 3, n_leads=12)
    np.testing.assert_array_equal(one.samples[:, 0], twelve.samples[:, 0])
    assert one.leads == ("ECG",)
    assert twelve.leads == (
        "I", "II", "III", "aVR", "aVL", "aVF", "V1", "V2", "V3", "V4", "V5", "V6",
    )  # fmt: skip


def test_twelve_leads_see_one_heart():
    samples = make("N", 1, n_leads=12).samples.astype(float)
    np.testing.assert_allclose(samples[:, 0] + samples[:, 2], samples[:, 1], atol=1.5)
    assert len({round(column.std()) for column in samples.T}) > 6
    assert abs(np.corrcoef(samples[:, 9], samples[:, 10])[0, 1]) > 0.6


def test_sampling_frequency_changes_samples_but_not_the_heart():
    slow, quick = make("O", 4), make("O", 4, fs=600.0)
    assert len(quick.samples) == 2 * len(slow.samples)
    assert quick.rhythm == slow.rhythm


def intervals_s(samples, fs=300.0):
    """RR intervals by the steepest slopes, good enough on readable recordings."""
    steep = np.convolve(np.diff(samples.astype(float)) ** 2, np.ones(30), "same")
    peaks, _ = find_peaks(steep, height=0.3 * np.quantile(steep, 0.98), distance=round(0.27 * fs))
    return np.diff(peaks) / fs


def test_fibrillation_shows_in_the_intervals_of_the_signal():
    spread = {}
    for label in ("N", "A"):
        intervals = [intervals_s(make(label, n).samples[:, 0]) for n in range(40)]
        spread[label] = [np.std(rr) / np.mean(rr) for rr in intervals]
    assert np.median(spread["N"]) < 0.08
    assert np.median(spread["A"]) > 0.16


def test_hands_exchanged_turn_the_heart_but_not_the_noise_over(monkeypatch):
    monkeypatch.setattr(recording_module, "_INVERTED_SHARE", 0.0)
    upright = make("N", 1).samples[:, 0]
    monkeypatch.setattr(recording_module, "_INVERTED_SHARE", 1.0)
    inverted = make("N", 1).samples[:, 0]
    assert np.corrcoef(upright, inverted)[0, 1] < -0.5
    monkeypatch.setattr(recording_module, "disturb", lambda rng, heart_mv, *_: heart_mv)
    inverted = make("N", 1).samples
    monkeypatch.setattr(recording_module, "_INVERTED_SHARE", 0.0)
    np.testing.assert_array_equal(inverted, -make("N", 1).samples)


def test_about_one_recording_in_seven_is_upside_down(monkeypatch):
    turned = []
    monkeypatch.setattr(recording_module, "swap_arms", lambda signal: turned.append(1) or -signal)
    for number in range(100):
        make("N", number)
    assert 8 <= len(turned) <= 23


def test_the_strongest_disturbance_fits_into_int16(monkeypatch):
    saturated = [8.0, -8.0] * 4  # I and II opposite make III the largest lead that there can be
    columns = iter(saturated)
    monkeypatch.setattr(
        recording_module, "disturb", lambda rng, heart_mv, *_: np.full(len(heart_mv), next(columns))
    )
    samples = make("~", 1, n_leads=12).samples
    assert samples[0, 2] == -16000
