import numpy as np
import pytest
from scipy.signal import find_peaks

from ecg_mlflow.records.synthetic import recording
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS, make_recording, standard_leads


def make(*diagnoses, seed=0, setting="handheld", fs=300.0, n_leads=1):
    return make_recording(np.random.default_rng(seed), diagnoses, setting, fs, n_leads)


def intervals_s(lead, fs):
    """RR intervals by the steepest slopes, good enough on readable recordings."""
    steep = np.convolve(np.diff(lead.astype(float)) ** 2, np.ones(round(fs / 10)), "same")
    height = 0.3 * np.quantile(steep, 0.98)
    return np.diff(find_peaks(steep, height=height, distance=round(0.27 * fs))[0]) / fs


def test_length_and_swapped_arms_depend_on_the_setting_and_not_on_the_diagnosis():
    leads = [make("NSR", seed=seed).samples[:, 0] for seed in range(100)]
    lengths = [len(lead) for lead in leads]
    assert 2714 <= min(lengths) < 9000 < max(lengths) <= 18286
    assert np.median(lengths) == 9000
    assert [len(make("AF", seed=seed).samples) for seed in range(20)] == lengths[:20]
    # About one hand in seven holds the recorder the wrong way round.
    assert 8 <= sum(np.mean((lead - lead.mean()) ** 3.0) < 0 for lead in leads) <= 23
    for seed in range(20):
        samples = make("NSR", seed=seed, setting="bedside", fs=500.0, n_leads=12).samples
        assert samples.shape == (5000, 12)
        assert samples[:, 0].max() > -samples[:, 0].min()


def test_swapped_arms_turn_the_heart_over_but_not_the_noise(monkeypatch):
    def both():
        for share in (0.0, 1.0):
            monkeypatch.setattr(recording, "_SWAPPED_SHARE", share)
            yield dict(
                zip(STANDARD_LEADS, make("NSR", n_leads=12).samples.T.astype(int), strict=True)
            )

    right, swapped = both()
    assert 2 < (right["I"] + swapped["I"]).std() < 0.6 * right["I"].std()
    monkeypatch.setattr(recording, "disturb", lambda rng, heart_mv, *_: heart_mv)
    right, swapped = both()
    np.testing.assert_array_equal(swapped["I"], -right["I"])
    for one, other in (("II", "III"), ("III", "II"), ("aVR", "aVL"), ("aVF", "aVF"), ("V1", "V1")):
        np.testing.assert_allclose(swapped[one], right[other], atol=2)


@pytest.mark.parametrize("setting", ["handheld", "bedside"])
def test_leads_are_the_first_of_twelve_that_one_heart_gives(setting):
    twelve = make("AF", n_leads=12, setting=setting)
    one, two, three, avr, avl, avf = twelve.samples[:, :6].T.astype(int)
    np.testing.assert_array_equal(one + three, two)
    assert np.abs(avr + avl + avf).max() <= 2
    assert np.abs(2 * avr + one + two).max() <= 2
    assert np.abs(avf - (two + three) / 2).max() <= 1
    for n_leads in range(1, 12):
        some = make("AF", n_leads=n_leads, setting=setting)
        assert some.leads == (STANDARD_LEADS[:n_leads] if n_leads > 1 else ("ECG",))
        first = twelve.samples[:, :1]
        np.testing.assert_array_equal(some.samples[:, :1], first)
        assert some.samples.shape == (len(first), n_leads)


def test_the_largest_signals_fit_into_int16():
    opposite = np.array([[8000], [-8000], *[[8000]] * 6], np.int16)
    assert standard_leads(opposite, 12)[0, :3].tolist() == [8000, -8000, -16000]


def test_sampling_frequency_changes_samples_but_not_the_heart():
    slow, quick = make("NSR", "PVC", seed=4), make("NSR", "PVC", seed=4, fs=600.0)
    assert len(quick.samples) == 2 * len(slow.samples)
    assert quick.diagnoses == slow.diagnoses == ("NSR", "PVC")
    assert np.corrcoef(slow.samples[:, 0], quick.samples[::2, 0])[0, 1] > 0.95


@pytest.mark.parametrize("setting", ["handheld", "bedside"])
def test_fibrillation_shows_in_the_intervals_of_the_signal(setting):
    spread = {}
    for diagnosis in ("NSR", "AF"):
        leads = [make(diagnosis, seed=n, setting=setting).samples[:, 0] for n in range(40)]
        intervals = [intervals_s(lead, 300.0) for lead in leads]
        spread[diagnosis] = [rr.std() / rr.mean() for rr in intervals]
    assert np.median(spread["NSR"]) < 0.08
    assert np.median(spread["AF"]) > 0.16
