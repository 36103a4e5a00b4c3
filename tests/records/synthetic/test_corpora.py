import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
import scipy.io
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.model_selection import cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import SNOMED, read_digital
from ecg_mlflow.records.synthetic import corpora, write_demo
from ecg_mlflow.records.synthetic.corpora import (
    DEMO12_BLOCK,
    DEMO_BLOCK,
    demo12_recording,
    demo_recording,
    spread_evenly,
)
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS
from ecg_mlflow.records.wfdb_reader import import_wfdb

LABELS = spread_evenly(DEMO_BLOCK, 12, seed=0)
DIAGNOSES = spread_evenly(DEMO12_BLOCK, 50, seed=0)
GOLDEN = [
    [-438, -360, -288, -234, -196, -167, -147, -143],
    [-19, -31, -32, -24, -16, -8, -5, -6],
    [997, 918, 834, 748, 658, 565, 478, 397],
    [135, 121, 102, 69, 3, -87, -171, -245],
    [-413, -405, -392, -382, -385, -390, -382, -372],
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo") / "corpus", 12, seed=0)


@pytest.fixture(scope="module")
def demo12(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo12") / "corpus", 4, seed=0, kind="demo12")


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def signal_lines(name, samples, leads):
    """The lines of a header, with WFDB's 16-bit checksums."""
    sums = (samples.sum(axis=0, dtype=int) + 32768) % 65536 - 32768
    return [
        f"{name}.mat 16+24 1000/mV 16 0 {first} {checksum} 0 {lead}"
        for first, checksum, lead in zip(samples[0], sums, leads, strict=True)
    ]


def test_files_are_those_of_the_challenge_of_2017(demo):
    names = [f"D{number:05d}" for number in range(1, 13)]
    assert set(files(demo)) == {f"{n}.{end}" for n in names for end in ("hea", "mat")} | {
        "REFERENCE.csv"
    }
    reference = "".join(f"{n},{label}\n" for n, label in zip(names, LABELS, strict=True))
    assert (demo / "REFERENCE.csv").read_text() == reference
    first, signal, made_up = (demo / "D00003.hea").read_text().splitlines()
    samples = read_digital(demo / "D00003.hea").samples
    assert first == f"D00003 1 300 {len(samples)}"
    assert signal == signal_lines("D00003", samples, ["ECG"])[0]
    assert made_up == "# synthetic ECG: atrial fibrillation"


def test_files_are_those_of_the_challenge_of_2021(demo12):
    names = {f"E{number:05d}.{end}" for number in range(1, 5) for end in ("hea", "mat")}
    assert set(files(demo12)) == names
    first, *leads, age, sex, dx, made_up = (demo12 / "E00004.hea").read_text().splitlines()
    assert first == "E00004 12 500 5000"
    samples = read_digital(demo12 / "E00004.hea").samples
    assert np.abs(samples.sum(axis=0, dtype=int)).max() > 32767, "one checksum is modulo 65536"
    assert leads == signal_lines("E00004", samples, STANDARD_LEADS)
    assert 19 <= int(age.removeprefix("#Age: ")) <= 89
    assert sex in ("#Sex: Male", "#Sex: Female")
    assert tuple(SNOMED[code] for code in dx.removeprefix("#Dx: ").split(",")) == DIAGNOSES[3]
    assert made_up == (
        "# synthetic ECG; sinus tachycardia, right bundle branch block, left axis deviation"
    )


def test_other_software_reads_what_was_made(demo, tmp_path):
    write_demo(tmp_path / "leads", 2, seed=1, fs=500, n_leads=12)
    for path, made in (
        (demo / "D00005", demo_recording(5, LABELS[4], seed=0)),
        (tmp_path / "leads" / "D00001", demo_recording(1, "N", seed=1, fs=500, n_leads=12)),
    ):
        record = import_wfdb().rdrecord(str(path))
        assert (record.fs, tuple(record.sig_name)) == (500 if made.leads[1:] else 300, made.leads)
        np.testing.assert_allclose(record.p_signal, made.samples / 1000)
        value = scipy.io.loadmat(f"{path}.mat")["val"]
        assert value.dtype == np.int16
        np.testing.assert_array_equal(value.T, made.samples)


def test_a_record_depends_on_seed_and_number_alone(demo, demo12, tmp_path):
    code = (
        "import sys; from ecg_mlflow.records.synthetic import write_demo; "
        "[write_demo(sys.argv[1] + k, 2, 0, kind=k[1:]) for k in ('/demo', '/demo12')]"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    for fewer, more in ((tmp_path / "demo", demo), (tmp_path / "demo12", demo12)):
        for name, content in files(fewer).items():
            assert files(more)[name].startswith(content)
    for make, label in ((demo_recording, "N"), (demo12_recording, ("NSR",))):
        one, other, next_one = (
            make(n, label, s).samples[:2000] for n, s in ((1, 0), (1, 1), (2, 0))
        )
        assert not np.array_equal(one, other)
        assert not np.array_equal(one, next_one)


def test_the_corpora_stay_the_same_over_versions():
    # A change makes earlier results on the demo corpora incomparable; the tolerance is for other
    # processors' sines.
    assert LABELS == ["N", "O", "A", "N", "N", "N", "O", "N", "O", "A", "N", "N"]
    found = [
        demo_recording(number, label, seed=0).samples[1500:1508, 0]
        for number, label in ((1, "N"), (3, "A"), (2, "O"), (15, "~"))
    ]
    found.append(demo12_recording(1, ("AF", "LBBB"), seed=0).samples[2500:2508, 1])
    np.testing.assert_allclose(found, GOLDEN, atol=2)


@pytest.mark.parametrize("block", [DEMO_BLOCK, DEMO12_BLOCK], ids=["demo", "demo12"])
def test_every_stretch_holds_all_kinds_in_their_shares(block):
    for seed in range(5):
        kinds = spread_evenly(block, 400, seed)
        assert kinds[:60] == spread_evenly(block, 60, seed)
        assert kinds[:60] != spread_evenly(block, 60, seed + 1)
        for start in range(0, 400, 25):
            assert Counter(kinds[start : start + 25]) == block
        for n_records in (200, 250, 300, 400):
            test = Counter(kinds[: n_records // 5])
            for kind, count in block.items():
                assert test[kind] == pytest.approx(count / 25 * n_records / 5, abs=1.6)


def test_even_a_small_corpus_tests_on_fibrillation():
    assert all("A" in spread_evenly(DEMO_BLOCK, 50, seed)[:10] for seed in range(20))


def test_each_class_has_its_rhythms():
    found = {
        label: {demo_recording(number, label, seed=0, fs=100).rhythm for number in range(150)}
        for label in DEMO_BLOCK
    }
    sinus, fibrillation = "sinus rhythm", "atrial fibrillation"
    assert found["N"] == {sinus}
    assert found["A"] == {fibrillation}
    assert found["~"] > {sinus, fibrillation}
    assert not found["O"] & {sinus, fibrillation}
    told = " ".join(found["O"])
    for words in ("ventricular beats", "atrial beats", "bigeminy", "trigeminy", "bradycardia",
                  "tachycardia", "left bundle", "right bundle", "flutter", "AV block"):  # fmt: skip
        assert words in told


def test_the_rhythm_can_be_read_but_in_class_noise():
    def steepness(number, label):
        """How much QRS complexes stand out."""
        steps = np.abs(np.diff(demo_recording(number, label, 0, fs=100).samples[:, 0].astype(int)))
        return np.quantile(steps, 0.98) / np.median(steps)

    for label in DEMO_BLOCK:
        typical = np.median([steepness(number, label) for number in range(15)])
        assert (typical < 6) if label == "~" else (typical > 12)


def test_what_the_diagnoses_say_is_recorded():
    for number, diagnoses in enumerate(DIAGNOSES, start=1):
        recording = demo12_recording(number, diagnoses, seed=0)
        assert ("fibrillation" in recording.rhythm) == ("AF" in diagnoses)
        assert len(recording.rhythm.split(", ")) == len(diagnoses)
        assert ("premature ventricular" in recording.rhythm) == ("PVC" in diagnoses)


def test_simple_figures_do_not_tell_fibrillation():
    labels = spread_evenly(DEMO_BLOCK, 250, seed=3)
    rows = []
    for number, label in enumerate(labels, start=1):
        mv = demo_recording(number, label, seed=3).samples[:, 0] / 1000
        rows.append((mv.std(), len(mv), np.abs(mv).max(), np.abs(np.diff(mv)).mean()))
    positive = np.array(labels) == "A"
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced"))
    found = cross_val_predict(model, np.array(rows), positive, cv=5)
    assert f1_score(positive, found) < 0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_records": 0}, "n_records is 0; allowed is 1 to 99999"),
        ({"n_records": 100_000}, "n_records is 100000"),
        ({"seed": -1}, "seed is -1; allowed is a whole number >= 0"),
        ({"fs": 50}, "fs is 50; allowed is 100 to 2000 Hz"),
        ({"n_leads": 13}, "n_leads is 13; allowed is 1 to 12"),
        ({"kind": "demo12", "seed": -1}, "seed is -1"),
    ],
)
def test_arguments_out_of_range(tmp_path, changes, message):
    with pytest.raises(RecordError, match=message):
        write_demo(tmp_path / "corpus", **({"n_records": 3, "seed": 0} | changes))
    assert files(tmp_path) == {}


@pytest.mark.parametrize("kind", ["demo", "demo12"])
def test_an_empty_folder_is_filled_and_a_full_one_left_alone(tmp_path, kind):
    folder = write_demo(tmp_path, 1, 0, kind=kind)
    written = files(folder)
    assert len(written) >= 2
    with pytest.raises(RecordError, match="holds something already"):
        write_demo(folder, 2, 1, kind=kind)
    assert files(folder) == written


def test_a_corpus_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(number, *_):
        if number == 2:
            raise KeyboardInterrupt
        return demo_recording(number, *_)

    monkeypatch.setattr(corpora, "demo_recording", fail)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "corpus", 3, 0)
    assert files(tmp_path) == {}
