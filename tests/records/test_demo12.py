from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import SNOMED, load_corpus, read_digital
from ecg_mlflow.records.demo12 import BLOCK, demo12_diagnoses, demo12_recording, write_demo12
from ecg_mlflow.records.synthetic.leads import STANDARD_LEADS

FS = 500
LEAD = {name: column for column, name in enumerate(STANDARD_LEADS)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_demo12(tmp_path_factory.mktemp("demo12") / "corpus", 4, seed=0)


@pytest.fixture(scope="module")
def recordings():
    """The first 100 recordings with their diagnoses, in mV."""
    return [
        (set(diagnoses), demo12_recording(number, diagnoses, 0).samples / 1000)
        for number, diagnoses in enumerate(demo12_diagnoses(100, 0), start=1)
    ]


def beats(mv):
    """Samples of the R peaks: where all leads together change the most."""
    force = np.abs(np.diff(mv, axis=0)).sum(axis=1)
    force = np.convolve(force, np.ones(40) / 40, "same")
    peaks, level = [], 0.4 * np.quantile(force, 0.995)
    for at in np.flatnonzero(force > level):
        if not peaks or at - peaks[-1] > 0.25 * FS:
            peaks.append(at)
        elif force[at] > force[peaks[-1]]:
            peaks[-1] = at
    return np.array([at for at in peaks if 100 < at < len(mv) - 250])


def median_beat(mv, before=60, after=90):
    return np.median([mv[at - before : at + after] for at in beats(mv)], axis=0)


def share(recordings, have, lack, figure):
    """How often a figure is true of recordings with a diagnosis, and of those without others."""
    with_it = [figure(mv) for diagnoses, mv in recordings if have in diagnoses]
    without = [figure(mv) for diagnoses, mv in recordings if not diagnoses & ({have} | lack)]
    return np.mean(with_it), np.mean(without)


def test_files_are_those_of_the_challenge_of_2021(corpus):
    names = {f"E{number:05d}.{suffix}" for number in range(1, 5) for suffix in ("hea", "mat")}
    assert {path.name for path in corpus.iterdir()} == names
    first, *leads, age, sex, dx, made_up = (corpus / "E00003.hea").read_text().splitlines()
    assert first == "E00003 12 500 5000"
    assert [line.split()[-1] for line in leads] == list(STANDARD_LEADS)
    assert all(line.startswith("E00003.mat 16+24 1000/mV 16 0 ") for line in leads)
    assert 19 <= int(age.removeprefix("#Age: ")) <= 89
    assert sex in ("#Sex: Male", "#Sex: Female")
    codes = dx.removeprefix("#Dx: ").split(",")
    assert tuple(SNOMED[code] for code in codes) == demo12_diagnoses(4, 0)[2]
    assert made_up.startswith("# synthetic ECG; ")


def test_it_is_read_as_it_was_made(corpus):
    record = read_digital(corpus / "E00002.hea")
    made = demo12_recording(2, demo12_diagnoses(4, 0)[1], 0)
    np.testing.assert_array_equal(record.digital, made.samples)
    assert record.gain.tolist() == [1000] * 12


def test_loaded_by_its_word_with_labels_from_headers():
    corpus = load_corpus("demo12:6:3")
    assert corpus.source == "demo12: 6 made-up records of 12 leads, seed 3"
    assert (corpus.bad, corpus.copies, set(corpus.fs.tolist())) == ((), (), {500.0})
    expected = [set(diagnoses) for diagnoses in demo12_diagnoses(6, 3)]
    assert [{SNOMED[code] for code in label.split(",")} for label in corpus.labels] == expected
    assert load_corpus("demo12:6:3").digest == corpus.digest
    assert load_corpus("demo12:6:4").digest != corpus.digest


@pytest.mark.parametrize("seed", range(3))
def test_every_block_has_the_same_diagnoses(seed):
    diagnoses = demo12_diagnoses(100, seed)
    for start in range(0, 100, 25):
        assert Counter(diagnoses[start : start + 25]) == BLOCK


def test_the_first_fifth_holds_all_diagnoses():
    test = Counter(one for diagnoses in demo12_diagnoses(200, 0)[:40] for one in diagnoses)
    shares = Counter(one for diagnoses, n in BLOCK.items() for one in diagnoses * n)
    for name, n in shares.items():
        assert test[name] == pytest.approx(n / 25 * 40, abs=2.5)


def test_a_record_depends_on_seed_and_number_alone():
    one, other, another = (demo12_recording(1, ("NSR",), seed).samples for seed in (0, 0, 1))
    np.testing.assert_array_equal(one, other)
    assert not np.array_equal(one, another)
    assert demo12_diagnoses(10, 5) == demo12_diagnoses(60, 5)[:10]


def test_the_leads_are_those_of_one_heart(recordings):
    for _, mv in recordings[:20]:
        units = np.rint(mv * 1000).astype(int)
        one, two, three, avr, avl, avf = units[:, :6].T
        np.testing.assert_array_equal(one + three, two)
        assert np.abs(avr + avl + avf).max() <= 2
        assert np.abs(2 * avr + one + two).max() <= 2


def test_rate_tells_bradycardia_and_tachycardia(recordings):
    for diagnoses, mv in recordings:
        if "PVC" in diagnoses or "AF" in diagnoses:
            continue
        rate = 60 / (np.median(np.diff(beats(mv))) / FS)
        low, high = (
            (35, 58) if "SB" in diagnoses else (100, 150) if "STach" in diagnoses else (58, 101)
        )
        assert low < rate < high, diagnoses


def test_fibrillation_is_irregular(recordings):
    def irregular(mv):
        intervals = np.diff(beats(mv))
        return intervals.std() / intervals.mean() > 0.12

    with_it, without = share(recordings, "AF", {"PVC"}, irregular)
    assert with_it > 0.9
    assert without < 0.05


def test_right_block_ends_upwards_in_v1(recordings):
    def ends_upwards(mv):
        beat = median_beat(mv)
        late = beat[60:95]
        return late[:, LEAD["V1"]].max() - np.median(beat[:20, LEAD["V1"]]) > 0.15 and (
            late[:, LEAD["V6"]].min() < np.median(beat[:20, LEAD["V6"]])
        )

    with_it, without = share(recordings, "RBBB", {"LBBB", "PVC"}, ends_upwards)
    assert with_it > 0.85
    assert without < 0.15


def test_left_block_is_broad_and_negative_in_v1_positive_in_v6(recordings):
    def is_left_block(mv):
        beat = median_beat(mv)
        beat -= np.median(beat[:20], axis=0)
        complex_ = beat[35:100]
        upright = complex_[:, LEAD["V6"]]
        broad_ms = (upright > 0.25 * upright.max()).sum() / FS * 1000
        return broad_ms > 60 and complex_[:, LEAD["V1"]].sum() < 0

    with_it, without = share(recordings, "LBBB", {"RBBB", "PVC"}, is_left_block)
    assert with_it > 0.85
    assert without < 0.1


def test_a_left_axis_is_up_in_lead_one_and_down_in_avf(recordings):
    def is_left(mv):
        beat = median_beat(mv)[40:80]
        one, avf = (beat[:, LEAD[name]] - np.median(mv[:, LEAD[name]]) for name in ("I", "aVF"))
        return one.max() > -one.min() and -avf.min() > avf.max()

    with_it, without = share(recordings, "LAD", {"LBBB", "RBBB", "PVC"}, is_left)
    assert with_it > 0.85
    assert without < 0.1


def test_premature_beats_come_early_and_are_there():
    for number, diagnoses in enumerate(demo12_diagnoses(50, 1), start=1):
        recording = demo12_recording(number, diagnoses, 1)
        assert ("premature ventricular" in recording.rhythm) == ("PVC" in diagnoses)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"n_records": 0}, "n_records is 0; allowed is 1 to 99999"), ({"seed": -1}, "seed is -1")],
)
def test_arguments_out_of_range(tmp_path, changes, message):
    with pytest.raises(RecordError, match=message):
        write_demo12(tmp_path / "corpus", **({"n_records": 3, "seed": 0} | changes))
    assert list(tmp_path.iterdir()) == []
