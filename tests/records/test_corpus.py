from __future__ import annotations

import io
import pickle
from dataclasses import replace

import numpy as np
import pytest

from ecg_mlflow.errors import CorpusError
from ecg_mlflow.records.corpus import Corpus, Provenance
from ecg_mlflow.records.packing import pack
from ecg_mlflow.records.record import BadRecord, DigitalRecord


def digital(name, samples, gain=1000.0, baseline=0.0, fs=300.0, leads=None) -> DigitalRecord:
    samples = np.asarray(samples, np.int16)
    leads = tuple(leads or [f"L{i}" for i in range(samples.shape[1])])
    scale = np.full(len(leads), gain, np.float32), np.full(len(leads), baseline, np.float32)
    return DigitalRecord(name, fs, leads, samples, *scale)


@pytest.fixture
def records():
    return [
        (digital("A", [[100], [200], [300]], gain=200, baseline=100), "N"),
        (digital("B", [[1, 2, 3], [4, 5, 6]], fs=500, leads=["I", "II", "V1"]), "A"),
        (digital("C", [[-7], [9]]), "N"),
    ]


@pytest.fixture
def corpus(tmp_path, records):
    return pack(records, tmp_path, "test")


def test_samples_of_all_records_follow_each_other_time_first(corpus):
    signals = corpus.signals
    types = [array.dtype for array in (signals.data, signals.offset, signals.gain)]
    assert types == [np.int16, np.int64, np.float32]
    assert signals.data.tolist() == [100, 200, 300, 1, 2, 3, 4, 5, 6, -7, 9]
    assert signals.offset.tolist() == [0, 3, 9]
    assert signals.n_samples.tolist() == corpus.n_samples.tolist() == [3, 2, 2]
    assert signals.n_leads.tolist() == [1, 3, 1]
    assert signals.gain.tolist() == [[200, 1, 1], [1000, 1000, 1000], [1000, 1, 1]]
    assert signals.baseline.tolist() == [[100, 0, 0], [0, 0, 0], [0, 0, 0]]
    for array in (signals.data, signals.offset, signals.gain, signals.samples(0), corpus.fs):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_records_come_out_in_millivolts_with_their_description(corpus, records, tmp_path):
    assert (len(corpus), corpus.ids, corpus.labels) == (3, ("A", "B", "C"), ("N", "A", "N"))
    assert corpus.fs.tolist() == [300, 500, 300]
    assert corpus.leads == (("L0",), ("I", "II", "V1"), ("L0",))
    assert corpus.path == tmp_path / corpus.digest
    for i, (packed, label) in enumerate(records):
        record = corpus.record(i)
        np.testing.assert_array_equal(record.signal, packed.millivolts())
        assert (record.id, record.label, record.leads) == (packed.id, label, packed.leads)
    assert (corpus.record(-1).id, corpus.index("B")) == ("C", 1)
    with pytest.raises(IndexError):
        corpus.record(3)
    with pytest.raises(KeyError, match="no record 'X' among the 3"):
        corpus.index("X")


def test_one_record_beyond_16_bits_makes_all_of_them_float(tmp_path, records):
    signal = np.float32([[1.5, 2.5], [1e6, -3.25]])
    large = DigitalRecord.from_millivolts("D", signal, 300.0, ("L0", "L1"))
    for count in (3, 0):  # with int16 records before it, and alone
        packed = [*records[:count], (large, "O")]
        corpus = pack(packed, tmp_path, "test")
        assert corpus.signals.data.dtype == np.float32
        assert (corpus.signals.gain == 1).all()
        assert (corpus.signals.baseline == 0).all()
        for i, (record, _) in enumerate(packed):
            np.testing.assert_array_equal(corpus.record(i).signal, record.millivolts())
        corpus.verify()
        assert sorted(file.name for file in corpus.path.iterdir()) == ["index.bin", "signals.bin"]


def test_copies_are_one_recording_at_any_gain_and_baseline(tmp_path):
    samples = [[1], [2], [3], [4]]
    records = [
        digital("A", samples),
        digital("B", samples, gain=500),
        digital("C", samples),
        digital("D", np.reshape(samples, (2, 2))),
        digital("E", samples, baseline=1),
        digital("F", samples, leads=["other"]),
        digital("G", samples[:3]),
    ]
    corpus = pack([(record, "N") for record in records], tmp_path, "test")
    assert corpus.copies == Corpus.open(corpus.path).copies == (("A", "B", "C", "E", "F"),)


def test_the_digest_follows_the_content(tmp_path, corpus, records):
    first, _ = records[0]
    changes = [
        *({"fs": 301.0}, {"leads": ("II",)}, {"gain": first.gain * 2}, {"id": "AA"}),
        *({"baseline": first.baseline + 1}, {"samples": first.samples + np.int16(1)}),
        {"samples": first.samples[:-1]},
    ]
    changed = [(replace(first, **change), "N") for change in changes] + [(first, "A")]
    packed = [pack([one, *records[1:]], tmp_path, "test").digest for one in changed]
    assert len({corpus.digest, *packed}) == 9
    assert pack(records, tmp_path / "elsewhere", "other").digest == corpus.digest


def test_a_corpus_without_patients_keeps_the_digest_that_it_always_had(tmp_path, records):
    # Earlier studies' runs and caches are found by it.
    digest = "750a212f4519f52b2cf397421ebf7db1804604e8c3e59d2cfd6bf789bd378967"
    for place, patients in enumerate([None, {}, {"A": ""}, {"Z": "P1"}]):
        corpus = pack(records, tmp_path / str(place), "test", patients=patients)
        assert (corpus.digest, corpus.patients) == (digest, None)
        archive = (corpus.path / "index.bin").read_bytes().partition(b"\n")[2]
        with np.load(io.BytesIO(archive)) as arrays:
            assert b"patients" not in arrays["tables"].tobytes()


def test_patients_are_packed_and_change_the_digest(tmp_path, records):
    corpus = pack(records, tmp_path, "test", patients={"C": "P1", "A": "P1", "Z": "P2"})
    for same in (corpus, Corpus.open(corpus.path), pickle.loads(pickle.dumps(corpus))):
        assert same.patients == ("P1", "", "P1")
    corpus.verify()
    patients = [{}, {"A": "P1"}, {"A": "P2"}, {"B": "P1"}, {"A": "P1", "B": "P1"}]
    digests = [pack(records, tmp_path, "test", patients=whose).digest for whose in patients]
    assert len({*digests, corpus.digest}) == 6
    assert pack(records, tmp_path, "test", patients={"A": "P1"}).digest == digests[1]


def test_pickling_takes_path_and_provenance_only(tmp_path, corpus, records):
    bad = (BadRecord("X", "X.hea", "no label"),)
    data = pickle.dumps(Corpus.open(corpus.path, Provenance("a folder", "abc", bad)))
    assert len(data) < 1000
    twin = pickle.loads(data)
    assert (twin.source, twin.labels_sha256, twin.bad) == ("a folder", "abc", bad)
    np.testing.assert_array_equal(twin.signals.data, corpus.signals.data)
    # Equal content is kept once.
    assert pack(records, tmp_path, "two").path == corpus.path
    assert [path.name for path in tmp_path.iterdir()] == [corpus.digest]


def test_a_failed_build_leaves_nothing(tmp_path, records):
    def broken():
        yield records[0]
        raise RuntimeError("power cut")

    for content, error in (
        (broken(), "power cut"),
        ([records[0], records[0]], "'A' comes after 'A'"),
        ([], "no records"),
    ):
        with pytest.raises((RuntimeError, ValueError), match=error):
            pack(content, tmp_path, "test")
    assert list(tmp_path.iterdir()) == []


def cut(file):
    file.write_bytes(file.read_bytes()[:-1])


def flip(file, position=-1):
    data = bytearray(file.read_bytes())
    data[position] ^= 1
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda path: cut(path / "signals.bin"), "signals.bin has 21 bytes, the index says 22"),
        (lambda path: (path / "signals.bin").unlink(), "No such file .*signals.bin"),
        (lambda path: (path / "index.bin").unlink(), "No such file .*index.bin"),
        (lambda path: cut(path / "index.bin"), "checksum of index.bin"),
        (lambda path: flip(path / "index.bin"), "checksum of index.bin"),
        (lambda path: flip(path / "index.bin", 17), "index.bin starts with 'ecg_mlflow index 3'"),
        (lambda path: (path / "index.bin").write_bytes(b""), "index.bin starts with ''"),
    ],
)
def test_damage_is_found_when_opening(tmp_path, corpus, records, damage, message):
    damage(corpus.path)
    with pytest.raises(CorpusError, match=message) as caught:
        Corpus.open(corpus.path)
    assert str(corpus.path) in str(caught.value)
    assert isinstance(caught.value, OSError)
    again = pack(records, tmp_path, "test")
    assert (again.path, again.digest) == (corpus.path, corpus.digest), "packed in its place"
    assert [path.name for path in tmp_path.iterdir()] == [corpus.digest]


@pytest.mark.parametrize(("position", "name"), [(0, "A"), (7, "B"), (-1, "C")])
def test_a_flipped_bit_in_the_samples_is_found_and_its_record_named(corpus, position, name):
    flip(corpus.path / "signals.bin", position)
    with pytest.raises(CorpusError, match=f"is damaged: the samples of {name} differ"):
        Corpus.open(corpus.path)
    assert Corpus.open(corpus.path, check=False).digest == corpus.digest
