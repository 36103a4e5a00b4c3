from __future__ import annotations

import io
import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.records.corpus import Corpus, Provenance
from ecg_mlflow.records.packing import pack
from ecg_mlflow.records.record import BadRecord, DigitalRecord


def digital(name, samples, gain=1000.0, baseline=0.0, fs=300.0, leads=None) -> DigitalRecord:
    samples = np.asarray(samples, np.int16)
    n_leads = samples.shape[1]
    return DigitalRecord(
        id=name,
        fs=fs,
        leads=tuple(leads or [f"L{i}" for i in range(n_leads)]),
        digital=samples,
        physical=None,
        gain=np.full(n_leads, gain, np.float32),
        baseline=np.full(n_leads, baseline, np.float32),
        units=("mV",) * n_leads,
        files=(Path(f"{name}.hea"),),
    )


def physical(name, samples) -> DigitalRecord:
    record = digital(name, np.zeros_like(samples), gain=1)
    return replace(record, digital=None, physical=np.asarray(samples, np.float32))


@pytest.fixture
def records():
    return [
        (digital("A", [[100], [200], [300]], gain=200, baseline=100), "N"),
        (digital("B", [[1, 2, 3], [4, 5, 6]], fs=500, leads=["I", "II", "V1"]), "A"),
        (digital("C", [[-7], [9]]), "N"),
    ]


def test_samples_of_all_records_stand_one_after_the_other_time_first(tmp_path, records):
    corpus = pack(records, tmp_path, "test")
    signals = corpus.signals
    assert signals.data.dtype == np.int16
    assert signals.data.tolist() == [100, 200, 300, 1, 2, 3, 4, 5, 6, -7, 9]
    assert signals.offset.tolist() == [0, 3, 9]
    assert signals.n_samples.tolist() == corpus.n_samples.tolist() == [3, 2, 2]
    assert signals.n_leads.tolist() == [1, 3, 1]
    assert signals.gain.tolist() == [[200, 1, 1], [1000, 1000, 1000], [1000, 1, 1]]
    assert signals.baseline.tolist() == [[100, 0, 0], [0, 0, 0], [0, 0, 0]]
    for array, dtype in [(signals.offset, np.int64), (signals.gain, np.float32)]:
        assert array.dtype == dtype


def test_what_a_corpus_tells(tmp_path, records):
    corpus = pack(records, tmp_path, "test")
    assert (len(corpus), corpus.ids, corpus.labels) == (3, ("A", "B", "C"), ("N", "A", "N"))
    assert corpus.fs.tolist() == [300, 500, 300]
    assert corpus.leads == (("L0",), ("I", "II", "V1"), ("L0",))
    assert corpus.path == tmp_path / corpus.digest
    assert corpus.index("B") == 1
    with pytest.raises(KeyError, match="no record 'X' among the 3"):
        corpus.index("X")


def test_records_come_out_in_millivolts(tmp_path, records):
    corpus = pack(records, tmp_path, "test")
    for i, (packed, label) in enumerate(records):
        record = corpus.record(i)
        np.testing.assert_array_equal(record.signal, packed.millivolts())
        assert (record.id, record.label, record.leads) == (packed.id, label, packed.leads)
    assert corpus.record(-1).id == "C"
    with pytest.raises(IndexError):
        corpus.record(3)


def test_everything_is_read_only(tmp_path, records):
    corpus = pack(records, tmp_path, "test")
    signals = corpus.signals
    for array in (signals.data, signals.offset, signals.gain, signals.samples(0), corpus.fs):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_one_record_beyond_16_bits_makes_all_of_them_float(tmp_path, records):
    signal = [[1.5, 2.5], [1e6, -3.25]]
    corpus = pack([*records, (physical("D", signal), "O")], tmp_path, "test")
    assert corpus.signals.data.dtype == np.float32
    assert (corpus.signals.gain == 1).all()
    assert (corpus.signals.baseline == 0).all()
    for i, (packed, _) in enumerate(records):
        np.testing.assert_array_equal(corpus.record(i).signal, packed.millivolts())
    np.testing.assert_array_equal(corpus.record(3).signal, signal)
    corpus.verify()
    assert sorted(file.name for file in corpus.path.iterdir()) == ["index.bin", "signals.bin"]


def test_float_records_alone(tmp_path):
    corpus = pack([(physical("D", [[1.5], [2.5]]), "O")], tmp_path, "test")
    np.testing.assert_array_equal(corpus.record(0).signal, [[1.5], [2.5]])
    corpus.verify()


def test_copies_have_equal_samples_gain_and_baseline(tmp_path):
    samples = [[1], [2], [3], [4]]
    corpus = pack(
        [
            (digital("A", samples), "N"),
            (digital("B", samples, gain=500), "N"),
            (digital("C", samples), "A"),
            (digital("D", np.reshape(samples, (2, 2))), "N"),
            (digital("E", samples, baseline=1), "N"),
            (digital("F", samples, leads=["other"]), "N"),
            (digital("G", samples[:3]), "N"),
        ],
        tmp_path,
        "test",
    )
    assert corpus.copies == (("A", "C", "F"),)
    assert Corpus.open(corpus.path).copies == corpus.copies


@pytest.mark.parametrize(
    "changed",
    [
        lambda record: (replace(record, fs=301.0), "N"),
        lambda record: (replace(record, leads=("II",)), "N"),
        lambda record: (replace(record, gain=record.gain * 2), "N"),
        lambda record: (replace(record, baseline=record.baseline + 1), "N"),
        lambda record: (replace(record, digital=record.digital + np.int16(1)), "N"),
        lambda record: (replace(record, digital=record.digital[:-1]), "N"),
        lambda record: (replace(record, id="AA"), "N"),
        lambda record: (record, "A"),
    ],
)
def test_the_digest_follows_the_content(tmp_path, records, changed):
    before = pack(records, tmp_path, "test")
    again = pack(records, tmp_path / "elsewhere", "other")
    assert before.digest == again.digest
    after = pack([changed(records[0][0]), *records[1:]], tmp_path, "test")
    assert after.digest != before.digest


def test_a_corpus_without_patients_keeps_the_digest_that_it_always_had(tmp_path, records):
    # Earlier studies' runs and caches are found by it.
    digest = "750a212f4519f52b2cf397421ebf7db1804604e8c3e59d2cfd6bf789bd378967"
    for place, patients in enumerate([None, {}, {"A": ""}, {"Z": "P1"}]):
        corpus = pack(records, tmp_path / str(place), "test", patients=patients)
        assert (corpus.digest, corpus.patients) == (digest, None)
        with np.load(io.BytesIO(index_of(corpus))) as archive:
            assert b"patients" not in archive["tables"].tobytes()


def test_patients_are_packed(tmp_path, records):
    corpus = pack(records, tmp_path, "test", patients={"C": "P1", "A": "P1", "Z": "P2"})
    assert corpus.patients == ("P1", "", "P1")
    assert Corpus.open(corpus.path).patients == ("P1", "", "P1")
    assert pickle.loads(pickle.dumps(corpus)).patients == ("P1", "", "P1")
    np.testing.assert_array_equal(corpus.record(2).signal, records[2][0].millivolts())
    corpus.verify()


def test_the_digest_follows_the_patients(tmp_path, records):
    patients = [{}, {"A": "P1"}, {"A": "P2"}, {"B": "P1"}, {"A": "P1", "B": "P1"}]
    digests = [pack(records, tmp_path, "test", patients=whose).digest for whose in patients]
    assert len(set(digests)) == 5
    assert pack(records, tmp_path, "test", patients={"A": "P1"}).digest == digests[1]


def index_of(corpus) -> bytes:
    """Return the archive in a corpus's index, without the line before it."""
    return (corpus.path / "index.bin").read_bytes().partition(b"\n")[2]


def test_pickling_takes_the_path_only(tmp_path, records):
    bad = (BadRecord("X", "X.hea", "no label"),)
    corpus = pack(records, tmp_path, "test", Provenance("a folder", "abc", bad))
    data = pickle.dumps(corpus)
    assert len(data) < 1000
    twin = pickle.loads(data)
    assert (twin.source, twin.labels_sha256, twin.bad) == ("a folder", "abc", bad)
    np.testing.assert_array_equal(twin.signals.data, corpus.signals.data)


def test_equal_content_from_two_places_is_kept_once(tmp_path, records):
    first = pack(records, tmp_path, "one", Provenance("one"))
    second = pack(records, tmp_path, "two", Provenance("two"))
    assert first.path == second.path
    assert (first.source, second.source) == ("one", "two")
    assert [path.name for path in tmp_path.iterdir()] == [first.digest]


def test_a_failed_build_leaves_nothing(tmp_path, records):
    def broken():
        yield records[0]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        pack(broken(), tmp_path, "test")
    assert list(tmp_path.iterdir()) == []


def test_records_must_be_sorted_and_some(tmp_path, records):
    with pytest.raises(ValueError, match="'A' comes after 'A'"):
        pack([records[0], records[0]], tmp_path, "test")
    with pytest.raises(ValueError, match="no records"):
        pack([], tmp_path, "test")


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file, position=-1):
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: cut(path / "signals.bin"), "signals.bin has 21 bytes, its index says 22"),
        (lambda path: (path / "signals.bin").unlink(), "signals.bin is missing"),
        (lambda path: (path / "index.bin").unlink(), "index.bin: No such file"),
        (lambda path: cut(path / "index.bin"), "checksum of index.bin"),
        (lambda path: flip(path / "index.bin"), "checksum of index.bin"),
        (lambda path: flip(path / "index.bin", 18), "another version or damaged"),
        (lambda path: (path / "index.bin").write_bytes(b""), "another version or damaged"),
    ],
)
def test_damage_is_found_when_opening(tmp_path, records, damage, message):
    corpus = pack(records, tmp_path, "test")
    damage(corpus.path)
    with pytest.raises(CorpusError, match=f"{message}.*Delete the folder and run again") as caught:
        Corpus.open(corpus.path)
    assert str(corpus.path) in str(caught.value)
    assert isinstance(caught.value, OSError)
    with pytest.raises(CorpusError):
        pack(records, tmp_path, "test")


def test_damaged_samples_are_found_by_verify(tmp_path, records):
    corpus = pack(records, tmp_path, "test")
    seen = []
    corpus.verify(lambda done, total: seen.append((done, total)))
    assert seen == [(1, 3), (2, 3), (3, 3)]
    flip(corpus.path / "signals.bin")
    with pytest.raises(CorpusError, match="Delete the folder"):
        Corpus.open(corpus.path).verify()
