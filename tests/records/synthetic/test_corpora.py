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
from ecg_mlflow.records import SNOMED, load_corpus
from ecg_mlflow.records.synthetic import corpora, write_demo
from ecg_mlflow.records.synthetic.corpora import (
    DEMO12_BLOCK,
    DEMO_BLOCK,
    demo12_recording,
    demo_recording,
    spread_evenly,
)
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS
from ecg_mlflow.records.wfdb_signals import import_wfdb

BLOCKS = {"demo": DEMO_BLOCK, "demo12": DEMO12_BLOCK}
LABELS = spread_evenly(DEMO_BLOCK, 12, seed=0)
DIAGNOSES = spread_evenly(DEMO12_BLOCK, 12, seed=0)
GOLDEN = [
    [-438, -360, -288, -234, -196, -167, -147, -143],
    [-19, -31, -32, -24, -16, -8, -5, -6],
    [997, 918, 834, 748, 658, 565, 478, 397],
    [135, 121, 102, 69, 3, -87, -171, -245],
    [-413, -405, -392, -382, -385, -390, -382, -372],
    [64, 70, 76, 76, 72, 65, 63, 72],
    [-50, -48, -46, -48, -54, -62, -62, -52],
    [-25, -20, -16, -17, -22, -30, -31, -22],
    [-85, -62, -39, -18, -1, 15, 39, 73],
    [243, 248, 252, 252, 248, 241, 241, 251],
    [-179, -180, -182, -188, -198, -210, -215, -209],
]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folders of both corpora by name, twelve records each."""
    folder = tmp_path_factory.mktemp("written")
    return {kind: write_demo(folder / kind, 12, seed=0, kind=kind) for kind in BLOCKS}


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("kind", "name", "made", "comments"),
    [
        ("demo", "D00003", demo_recording(3, "A", 0), ["# synthetic ECG: AF"]),
        (
            *("demo12", "E00004", demo12_recording(4, DIAGNOSES[3], 0)),
            ["#Age: ", "#Sex: ", "#Dx: ", f"# synthetic ECG: {', '.join(DIAGNOSES[3])}"],
        ),
    ],
)
def test_files_are_those_of_the_challenges(written, kind, name, made, comments):
    names = {f"{name[0]}{number:05d}.{end}" for number in range(1, 13) for end in ("hea", "mat")}
    reference = {"REFERENCE.csv"} if kind == "demo" else set()
    assert set(files(written[kind])) == names | reference
    lines = (written[kind] / f"{name}.hea").read_text().splitlines()
    n_samples, n_leads = made.samples.shape
    assert lines[0] == f"{name} {n_leads} {made.fs:g} {n_samples}"
    sums = (made.samples.sum(axis=0, dtype=int) + 32768) % 65536 - 32768  # modulo 65536
    assert lines[1 : 1 + n_leads] == [
        f"{name}.mat 16+24 1000/mV 16 0 {first} {checksum} 0 {lead}"
        for first, checksum, lead in zip(made.samples[0], sums, made.leads, strict=True)
    ]
    for line, start in zip(lines[1 + n_leads :], comments, strict=True):
        assert line.startswith(start)
    # Other software reads what was made.
    record = import_wfdb().rdrecord(str(written[kind] / name))
    assert (record.fs, tuple(record.sig_name)) == (made.fs, made.leads)
    np.testing.assert_allclose(record.p_signal, made.samples / 1000)
    value = scipy.io.loadmat(written[kind] / f"{name}.mat")["val"]
    assert value.dtype == np.int16
    np.testing.assert_array_equal(value.T, made.samples)


def test_labels_are_those_of_the_kinds(written):
    assert list(load_corpus(str(written["demo"])).labels) == LABELS
    corpus = load_corpus(str(written["demo12"]))
    found = [tuple(SNOMED[code] for code in label.split(",")) for label in corpus.labels]
    assert found == DIAGNOSES
    assert (corpus.bad, set(corpus.leads)) == ((), {STANDARD_LEADS})
    for header in written["demo12"].glob("*.hea"):
        age, sex = header.read_text().splitlines()[13:15]
        assert 19 <= int(age.removeprefix("#Age: ")) <= 89
        assert sex in ("#Sex: Male", "#Sex: Female")


def test_a_record_depends_on_seed_and_number_alone(written, tmp_path):
    code = (
        "import sys; from ecg_mlflow.records.synthetic import write_demo; "
        "[write_demo(f'{sys.argv[1]}/{kind}', 2, 0, kind=kind) for kind in ('demo', 'demo12')]"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    for kind, folder in written.items():
        for name, content in files(tmp_path / kind).items():
            assert files(folder)[name].startswith(content)
    for make, label in ((demo_recording, "N"), (demo12_recording, ("NSR",))):
        found = {make(n, label, s).samples[:2000].tobytes() for n, s in ((1, 0), (1, 1), (2, 0))}
        assert len(found) == 3


def test_the_corpora_stay_the_same_over_versions():
    # A change makes earlier results on the demo corpora incomparable; the tolerance is for other
    # processors' sines.
    assert LABELS == ["N", "O", "A", "N", "N", "N", "O", "N", "O", "A", "N", "N"]
    found = [
        demo_recording(number, label, seed=0).samples[1500:1508, 0]
        for number, label in ((1, "N"), (3, "A"), (2, "O"), (15, "~"))
    ]
    bedside = (1, "AF LBBB"), (2, "STach RBBB LAD"), (2, "SB IAVB LAD"), (2, "NSR PVC")
    found += [
        demo12_recording(number, diagnoses.split(), seed=0).samples[2500:2508, 1]
        for number, diagnoses in (*bedside, (2, "AFL"), (2, "NSR PAC"), (2, "NSR VBig"))
    ]
    np.testing.assert_allclose(found, GOLDEN, atol=2)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_every_stretch_holds_all_kinds_in_their_shares(block):
    for seed in range(5):
        kinds = spread_evenly(block, 400, seed)
        assert kinds[:60] == spread_evenly(block, 60, seed) != spread_evenly(block, 60, seed + 1)
        for start in range(0, 400, 25):
            assert Counter(kinds[start : start + 25]) == block
        for n_records in (200, 250, 300, 400):
            test = Counter(kinds[: n_records // 5])
            for kind, count in block.items():
                assert test[kind] == pytest.approx(count / 25 * n_records / 5, abs=1.6)
    # Even a small corpus tests on fibrillation.
    assert all("A" in spread_evenly(DEMO_BLOCK, 50, seed)[:10] for seed in range(20))


def test_each_class_has_its_diagnoses_and_a_rhythm_that_can_be_read_but_in_noise():
    told, readable = {}, {}
    for label in DEMO_BLOCK:
        made = [demo_recording(number, label, seed=0) for number in range(70)]
        told[label] = {recording.diagnoses for recording in made}
        steps = [np.abs(np.diff(recording.samples[:, 0].astype(int))) for recording in made]
        # How much QRS complexes stand out.
        readable[label] = np.median([np.quantile(one, 0.98) / np.median(one) for one in steps])
    assert (told["N"], told["A"]) == ({("NSR",)}, {("AF",)})
    assert told["~"] > {("NSR",), ("AF",)}
    assert not told["O"] & {("NSR",), ("AF",)}
    others = {"SB", "STach", "AFL", "PAC", "PVC", "VBig", "VTrig", "IAVB", "LBBB", "RBBB"}
    assert {name for diagnoses in told["O"] for name in diagnoses} == {"NSR", *others}
    assert all((value < 6) if label == "~" else (value > 12) for label, value in readable.items())


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
    ("n_records", "seed", "message"),
    [
        (0, 0, "0 records; allowed are 1 to 99999"),
        (100_000, 0, "100000 records"),
        (3, -1, "seed is -1; allowed is a whole number >= 0"),
    ],
)
def test_arguments_out_of_range(tmp_path, n_records, seed, message):
    with pytest.raises(RecordError, match=message):
        write_demo(tmp_path / "corpus", n_records, seed)
    assert files(tmp_path) == {}


def test_a_corpus_appears_whole_in_an_empty_folder_or_not_at_all(tmp_path, monkeypatch):
    def fail(number, *_):
        if number == 2:
            raise KeyboardInterrupt
        return demo_recording(number, *_)

    with monkeypatch.context() as patch:
        patch.setattr(corpora, "demo_recording", fail)
        with pytest.raises(KeyboardInterrupt):
            write_demo(tmp_path / "corpus", 3, 0)
    assert files(tmp_path) == {}
    folder = write_demo(tmp_path, 1, 0)
    content = files(folder)
    assert len(content) == 3
    with pytest.raises(RecordError, match="holds something already"):
        write_demo(folder, 2, 1)
    assert files(folder) == content
