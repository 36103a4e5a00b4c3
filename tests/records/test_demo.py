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
from ecg_mlflow.records import demo
from ecg_mlflow.records.demo import BLOCK, demo_labels, demo_recording, write_demo
from ecg_mlflow.records.wfdb_header import import_wfdb

GOLDEN = [
    [-95, -94, -92, -90, -88, -87, -83, -79],
    [77, 77, 79, 85, 91, 91, 87, 85],
    [-1, 4, 8, 12, 17, 22, 27, 32],
    [21, 38, 44, 30, 6, -8, -3, 12],
]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo") / "corpus", 12, seed=0)


def digital(folder, name):
    return np.fromfile(folder / f"{name}.mat", dtype="<i2", offset=24)


def test_files_are_the_challenges(corpus):
    names = [f"D{number:05d}" for number in range(1, 13)]
    assert sorted(path.name for path in corpus.iterdir()) == sorted(
        [f"{n}.hea" for n in names] + [f"{n}.mat" for n in names] + ["REFERENCE.csv"]
    )
    labels = demo_labels(12, 0)
    expected = "".join(f"{n},{label}\n" for n, label in zip(names, labels, strict=True))
    assert (corpus / "REFERENCE.csv").read_text() == expected


def test_header_has_the_challenges_form(corpus):
    first, signal, comment = (corpus / "D00003.hea").read_text().splitlines()
    samples = digital(corpus, "D00003")
    checksum = ((int(samples.sum(dtype=np.int64)) + 32768) % 65536) - 32768
    assert first == f"D00003 1 300 {len(samples)}"
    assert signal == f"D00003.mat 16+24 1000/mV 16 0 {samples[0]} {checksum} 0 ECG"
    assert comment.startswith("# synthetic ECG: ")


def test_wfdb_reads_what_was_made(corpus):
    label = demo_labels(12, 0)[4]
    made = demo_recording(5, label, seed=0)
    record = import_wfdb().rdrecord(str(corpus / "D00005"))
    assert (record.fs, record.sig_name, record.units) == (300, ["ECG"], ["mV"])
    np.testing.assert_allclose(record.p_signal, made.samples / 1000)


def test_matlab_reads_what_was_made(corpus):
    value = scipy.io.loadmat(corpus / "D00005.mat")["val"]
    assert value.dtype == np.int16
    np.testing.assert_array_equal(value[0], digital(corpus, "D00005"))


def test_twelve_leads_and_another_frequency(tmp_path):
    folder = write_demo(tmp_path / "twelve", 2, seed=1, fs=500, n_leads=12)
    record = import_wfdb().rdrecord(str(folder / "D00001"))
    assert record.fs == 500
    assert record.sig_name[:6] == ["I", "II", "III", "aVR", "aVL", "aVF"]
    np.testing.assert_allclose(
        record.p_signal[:, 0] + record.p_signal[:, 2], record.p_signal[:, 1], atol=0.0016
    )
    value = scipy.io.loadmat(folder / "D00001.mat")["val"]
    np.testing.assert_allclose(value.T / 1000, record.p_signal)


def test_a_record_does_not_depend_on_how_many_there_are(corpus, tmp_path):
    fewer = write_demo(tmp_path / "fewer", 4, seed=0)
    for suffix in ("hea", "mat"):
        for name in ("D00001", "D00004"):
            assert (fewer / f"{name}.{suffix}").read_bytes() == (
                corpus / f"{name}.{suffix}"
            ).read_bytes()


def test_another_process_makes_the_same_bytes(corpus, tmp_path):
    code = (
        "import sys; from ecg_mlflow.records.demo import write_demo; write_demo(sys.argv[1], 3, 0)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "other")], check=True)
    for path in (tmp_path / "other").glob("D*"):
        assert path.read_bytes() == (corpus / path.name).read_bytes()


def test_seeds_make_different_corpora():
    assert demo_labels(50, 0) != demo_labels(50, 1)
    one, other = (demo_recording(1, "N", seed=seed).samples for seed in (0, 1))
    assert not np.array_equal(one[:2000], other[:2000])


def test_the_corpus_stays_the_same_over_versions():
    # A change makes earlier results on the demo corpus incomparable; the tolerance is for other
    # processors' sines.
    found = [
        demo_recording(number, label, seed=0).samples[1500:1508, 0]
        for number, label in ((1, "N"), (3, "A"), (2, "O"), (15, "~"))
    ]
    np.testing.assert_allclose(found, GOLDEN, atol=2)


@pytest.mark.parametrize("seed", range(5))
def test_every_block_has_the_same_classes(seed):
    labels = demo_labels(100, seed)
    for start in range(0, 100, 25):
        assert Counter(labels[start : start + 25]) == BLOCK


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_records", [200, 250, 300, 400])
def test_the_first_fifth_holds_all_classes_in_their_shares(n_records, seed):
    labels = demo_labels(n_records, seed)
    assert len(labels) == n_records
    test = Counter(labels[: n_records // 5])
    for label, count in BLOCK.items():
        assert test[label] == pytest.approx(count / 25 * n_records / 5, abs=1.6)
    assert test["A"] >= 5
    assert test["~"] >= 1


@pytest.mark.parametrize("seed", range(20))
def test_even_a_small_corpus_tests_on_fibrillation(seed):
    assert "A" in demo_labels(50, seed)[:10]


def test_simple_figures_do_not_tell_fibrillation():
    labels = demo_labels(250, 3)
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
    ],
)
def test_arguments_out_of_range(tmp_path, changes, message):
    arguments = {"n_records": 3, "seed": 0} | changes
    with pytest.raises(RecordError, match=message):
        write_demo(tmp_path / "corpus", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten(tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(RecordError, match="holds something already"):
        write_demo(tmp_path, 1, 0)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "empty").mkdir()
    assert (write_demo(tmp_path / "empty", 1, 0) / "D00001.mat").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["empty"]


def test_a_corpus_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    def fail(number, *_):
        if number == 2:
            raise KeyboardInterrupt
        return demo_recording(number, *_)

    monkeypatch.setattr(demo, "demo_recording", fail)
    with pytest.raises(KeyboardInterrupt):
        write_demo(tmp_path / "corpus", 3, 0)
    assert list(tmp_path.iterdir()) == []
