from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.errors import BadRecordsError, DataNotFoundError
from ecg_mlflow.records import Corpus, catalogue, load_corpus, read_record, sources
from ecg_mlflow.records.formats import FORMATS
from ecg_mlflow.records.sources import load_groups
from ecg_mlflow.reports.data_summary import CorpusSummary, summary_text

_READ = np.fromfile
AF_RBBB = "164889003,59118001"
LOAD_SLOWLY = """
import sys, time
from ecg_mlflow.records import load_corpus
reads = []
def wait(done, total):
    reads.append(done)
    if len(sys.argv) > 2 and done == 4:
        print('half', flush=True)
        time.sleep(3600)
    time.sleep(0.1)
print(load_corpus(sys.argv[1], on_progress=wait).path, len(reads))
"""


@pytest.fixture
def count_reads(monkeypatch):
    """Ids of the records read from their files, in order."""
    reads = []
    read = sources.read_digital
    monkeypatch.setattr(
        sources,
        "read_digital",
        lambda path, *args, **kwargs: reads.append(path.stem) or read(path, *args, **kwargs),
    )
    return reads


def load(folder, *args, **kwargs):
    return load_corpus(str(folder), *args, **kwargs)


def test_channels_that_are_no_ecg_are_noted_once(tmp_path, write_record):
    for name in ("R1", "R2"):
        write_record(tmp_path, name, leads=["II", "PLETH"])
    write_record(tmp_path, "R3", leads=["II"])
    (tmp_path / "REFERENCE.csv").write_text("R1,N\nR2,A\nR3,N\n")
    for _ in range(2):  # packed, and opened again
        corpus = load(tmp_path)
        assert corpus.leads == (("II",),) * 3
        assert corpus.provenance.notes == (
            "ignored channels that are no leads: PLETH (mV, 250 Hz) of 2 records",
        )
    assert f"note:     {corpus.provenance.notes[0]}" in summary_text(CorpusSummary(corpus))


def test_leads_are_chosen_by_name(tmp_path, write_record):
    for name, leads in (("R1", ["I", "AVR", "V5"]), ("R2", ["avr", "V5"]), ("R3", ["I", "V5"])):
        write_record(tmp_path, name, leads=leads)
    (tmp_path / "REFERENCE.csv").write_text("R1,N\nR2,A\nR3,N\n")
    corpus = load(tmp_path, leads="V5,aVR")
    assert (corpus.ids, corpus.leads) == (("R1", "R2"), (("V5", "aVR"),) * 2)
    whole = load(tmp_path)
    np.testing.assert_array_equal(corpus.record(1).signal, whole.record(1).signal[:, ::-1])
    assert [(one.id, one.reason) for one in corpus.bad] == [("R3", "no lead aVR: it has I, V5")]
    assert load(tmp_path, leads=("V5", "aVR")).digest == corpus.digest
    for wrong in ("V5,,I", "V5,V5"):
        with pytest.raises(DataNotFoundError, match="must be names with commas between them"):
            load(tmp_path, leads=wrong)


def test_gaps_are_refused_or_interpolated(tmp_path, write_record):
    signal = np.tile(np.arange(100.0)[:, None] / 100, 2)
    signal[10:15, 0] = signal[:3, 1] = np.nan
    for name, missing in (("R1", 5), ("R2", 0), ("R3", 20)):
        values = np.where(np.isnan(signal) & (missing > 0), -32.768, np.nan_to_num(signal))
        values[40 : 40 + missing * (missing > 5)] = -32.768
        write_record(tmp_path, name, values, fs=100, leads=["I", "II"])
    (tmp_path / "REFERENCE.csv").write_text("R1,N\nR2,A\nR3,N\n")
    assert load(tmp_path).ids == ("R2",)
    corpus = load(tmp_path, gaps="interpolate:0.05")
    assert corpus.ids == ("R1", "R2")
    assert "of more than 0.05 s, the first is number 40 of lead 'I'" in corpus.bad[0].reason
    assert corpus.provenance.notes == ("interpolated 8 samples in gaps of 1 records",)
    found = corpus.record(0).signal
    np.testing.assert_allclose(found[:, 0], np.arange(100) / 100, atol=1e-6)
    np.testing.assert_allclose(found[:4, 1], 0.03)  # nothing is before it
    with pytest.raises(DataNotFoundError, match="gaps='fill' must be refuse, interpolate: and the"):
        load(tmp_path, gaps="fill")


def test_records_are_cut_at_their_gaps(tmp_path, write_record):
    """The stretches of a record stay together: they are one patient."""
    signal = np.random.default_rng(0).normal(0, 0.3, (1000, 2))
    signal[100:110, 0] = signal[400, 1] = signal[450:460] = -32.768
    write_record(tmp_path, "R1", signal, fs=100, leads=["I", "II"])
    write_record(tmp_path, "R10", signal[:100], fs=100, leads=["I", "II"])
    write_record(tmp_path, "R2", signal[90:150], fs=100, leads=["I", "II"])
    (tmp_path / "REFERENCE.csv").write_text("record,label,patient\nR1,N,p\nR10,A,q\nR2,N,r\n")
    corpus = load(tmp_path, gaps="avoid:1")
    assert corpus.ids == ("R1#0000", "R1#0110", "R1#0460", "R10")
    assert corpus.labels == ("N", "N", "N", "A")
    assert corpus.patients == ("p", "p", "p", "q")
    assert corpus.n_samples.tolist() == [100, 290, 540, 100]
    np.testing.assert_allclose(corpus.record(1).signal, signal[110:400], atol=1e-3)
    assert [(one.id, one.reason) for one in corpus.bad] == [
        ("R2", "NaN among the samples: no stretch without gaps lasts 1 s")
    ]
    expected = "cut 1 records with gaps into 3 stretches; 0.7 s are left out"
    assert corpus.provenance.notes == (expected,)
    (tmp_path / "REFERENCE.csv").write_text("R1,N\nR10,A\nR2,N\n")
    assert load(tmp_path, gaps="avoid:1").patients == ("R1", "R1", "R1", "")


def test_one_damaged_file_is_one_bad_record(small_folder, monkeypatch):
    def read(file, *args, **kwargs):
        return 1 / 0 if file.stem == "R2" else _READ(file, *args, **kwargs)

    monkeypatch.setattr(np, "fromfile", read)
    corpus = load(small_folder)
    [bad] = corpus.bad
    assert (bad.id, bad.reason) == ("R2", "unreadable file: ZeroDivisionError: division by zero")
    assert len(corpus) == 5


def test_a_folder_of_records(small_folder, cache, count_reads):
    seen = []
    corpus = load(small_folder, on_progress=lambda *progress: seen.append(progress))
    assert corpus.ids == ("R1", "R2", "R3", "R4", "R5", "R6")
    assert corpus.labels == ("N", "A", "N", "A", "N", "A")
    assert corpus.n_samples.tolist() == [450, 500, 550, 600, 650, 700]
    assert (corpus.source, corpus.bad, corpus.copies) == (str(small_folder), (), ())
    assert corpus.path == cache / "corpora" / corpus.digest
    expected = read_record(small_folder / "R3.hea").signal
    np.testing.assert_array_equal(corpus.record(2).signal, expected)
    assert seen == [(i, 6) for i in range(1, 7)]
    # Nothing is read again while nothing changes.
    again = load(small_folder)
    assert count_reads == list(corpus.ids)
    assert (again.digest, again.provenance) == (corpus.digest, corpus.provenance)


@pytest.mark.parametrize("name", ["R2.hea", "R2.dat", "REFERENCE.csv"])
def test_a_file_that_was_touched_or_changes_while_it_is_read_is_read_again(
    small_folder, count_reads, name
):
    def touch(*_):
        os.utime(small_folder / name, ns=(0, (small_folder / name).stat().st_mtime_ns + 1))

    first = load(small_folder, on_progress=touch)
    assert load(small_folder).digest == first.digest
    touch()
    assert load(small_folder).digest == load(small_folder).digest == first.digest
    assert len(count_reads) == 18


def test_a_header_that_names_another_file_while_files_are_listed_is_read_again(
    small_folder, monkeypatch
):
    header, wfdb = small_folder / "R2.hea", FORMATS[".hea"]

    def files(path):
        listed = wfdb.files(path)
        if path == header:
            (small_folder / "R2.dat").replace(small_folder / "moved.dat")
            header.write_text(header.read_text().replace("R2.dat", "moved.dat"))
        return listed

    with monkeypatch.context() as meanwhile:
        meanwhile.setitem(FORMATS, ".hea", replace(wfdb, files=files))
        first = load(small_folder)
    (small_folder / "moved.dat").write_bytes((small_folder / "moved.dat").read_bytes()[::-1])
    assert load(small_folder).digest != first.digest


def test_a_note_that_can_not_be_used_is_written_anew(small_folder, cache, count_reads):
    corpus = load(small_folder)
    [note] = (cache / "sources").glob("*.json")
    text = note.read_text()
    for damaged in (text[:-9], text.replace('"form": 2', '"form": 1'), '{"form": 0}', text):
        note.write_text(damaged)
        if damaged is text:  # the corpus is
            os.truncate(corpus.path / "signals.bin", 10)
        assert load(small_folder).path == corpus.path
    assert len(count_reads) == 30
    assert [path.name for path in (cache / "corpora").iterdir()] == [corpus.digest]


def test_labels_of_records_that_are_not_here_are_told(small_folder):
    file = small_folder / "REFERENCE.csv"
    file.write_text(file.read_text() + "B1,N\nB2,A\n")
    said = "REFERENCE.csv names 2 records that are not here: B1, B2"
    assert load(small_folder).provenance.notes == (said,)
    assert load(small_folder).provenance.notes == (said,), "also where nothing is read again"
    assert load(f"{small_folder}/R[12].hea").provenance.notes == (), "a part was asked for"


def test_recordings_in_deeper_folders_are_told(small_folder, write_record):
    (small_folder / "one" / "two").mkdir(parents=True)
    write_record(small_folder / "one", "E1")
    said = "passed over 1 recordings in deeper folders: one"
    assert load(small_folder).provenance.notes == (said,)
    write_record(small_folder / "one" / "two", "E2")
    above = load(small_folder.parent)
    assert above.provenance.notes[0].endswith(
        "; passed over 2 recordings in deeper folders: small/one, small/one/two"
    )


def flip_a_bit(corpus):
    file = corpus.path / "signals.bin"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def test_what_was_damaged_in_the_cache_is_packed_again_from_its_files(
    small_folder, count_reads, caplog
):
    before = load(small_folder)
    flip_a_bit(before)
    after = load(small_folder)
    assert (after.digest, len(count_reads)) == (before.digest, 12)
    said = "damaged: the samples of R4 differ from those that were packed. They are packed again"
    assert said in caplog.text
    np.testing.assert_array_equal(
        after.record(3).signal, read_record(small_folder / "R4.hea").signal
    )
    caplog.clear()
    load(small_folder)
    assert (caplog.text, len(count_reads)) == ("", 12)


def test_other_selections_and_labels_are_other_corpora(small_folder, tmp_path, write_record):
    first = load(small_folder)
    with (small_folder / "REFERENCE.csv").open("a") as file:
        file.write("R7,N\n")
    write_record(small_folder, "R7")
    (small_folder / "R1.hea").unlink()
    assert load(small_folder).ids == (*first.ids[1:], "R7")
    assert load(f"{small_folder}/R[23].hea").ids == ("R2", "R3")
    other = tmp_path / "mine.csv"
    other.write_text("".join(f"R{i},X\n" for i in range(1, 7)))
    corpus = load(small_folder, labels=other)
    assert (set(corpus.labels), corpus.provenance.labels) == ({"X"}, str(other))
    assert set(load(small_folder).labels) == {"N", "A"}
    with pytest.raises(DataNotFoundError, match=r"can't read the label file .*none\.csv"):
        load(small_folder, labels="none.csv")


def test_patients_come_from_the_labels(small_folder, count_reads):
    def loaded(patients):
        labels = zip("NANANA", patients.split(","), strict=True)
        lines = [f"R{i},{label},{whose}\n" for i, (label, whose) in enumerate(labels, start=1)]
        (small_folder / "REFERENCE.csv").write_text("record,label,patient\n" + "".join(lines))
        return load(small_folder)

    plain, unknown = load(small_folder), loaded(",,,,,")
    assert (unknown.digest, unknown.patients, plain.patients) == (plain.digest, None, None)
    known = loaded("P1,P1,P2,,,P2")
    assert known.patients == load(small_folder).patients == ("P1", "P1", "P2", "", "", "P2")
    assert (known.ids, known.labels, known.bad) == (plain.ids, plain.labels, ())
    assert len(count_reads) == 18


def test_all_bad_records_are_collected_with_their_reasons(small_folder, write_record):
    (small_folder / "R1.dat").unlink()
    os.truncate(small_folder / "R2.dat", 10)
    (small_folder / "R3.hea").write_text("R3 1\nbroken\n")
    write_record(small_folder, "R4", np.array([[0.5], [-32.768]]))
    write_record(small_folder, "R7")
    write_record(small_folder, "R8", unit="mmHg", gain=1)
    with (small_folder / "REFERENCE.csv").open("a") as file:
        file.write("R5,A\nR8,N\nR6;N\nX9,\n")
    corpus = load(small_folder)
    assert corpus.ids == ("R6",)
    assert {bad.id: bad.kind for bad in corpus.bad} == {
        "R1": "missing signal file",
        "R2": "truncated signal file",
        "R3": "broken header",
        "R4": "NaN among the samples",
        "R5": "two labels",
        "R6;N": "malformed line in the label file",
        "R7": "no label",
        "R8": "unit is not a voltage",
    }
    paths = {bad.id: bad.path for bad in corpus.bad}
    assert paths["R1"] == str(small_folder / "R1.hea")
    assert paths["R5"] == f"{small_folder / 'REFERENCE.csv'}:7"
    assert load(small_folder).bad == corpus.bad
    # A mended record is found.
    write_record(small_folder, "R1")
    assert load(small_folder).ids == ("R1", "R6")


def test_one_id_in_two_folders(small_folder, tmp_path):
    shutil.copytree(small_folder, tmp_path / "more")
    (tmp_path / "more/R1.hea").rename(tmp_path / "more/R9.hea")
    corpus = load(f"{tmp_path}/*/R[129].hea")
    assert corpus.ids == ("R1",)
    two = [str(tmp_path / folder / "R2.hea") for folder in ("more", "small")]
    assert [(bad.id, bad.path, bad.reason) for bad in corpus.bad[:2]] == [
        ("R2", two[0], f"one id twice: also {two[1]}"),
        ("R2", two[1], f"one id twice: also {two[0]}"),
    ]
    kinds = {(bad.id, bad.kind) for bad in corpus.bad[2:]}
    assert kinds == {("R9", "no label"), ("R9", "header of another record")}


def test_nothing_to_load(small_folder, tmp_path, write_record):
    write_record(tmp_path / "unlabelled", "R1")
    (small_folder / "REFERENCE.csv").write_text("X1,N\n")
    for data, labels, error, message in (
        (tmp_path / "nowhere", None, DataNotFoundError, "doesn't exist"),
        ("demo:many", None, DataNotFoundError, "demo:<records>:<seed>"),
        (small_folder, None, BadRecordsError, r"no record can be used[^$]*no label \(6\)"),
        (tmp_path / "unlabelled", None, DataNotFoundError, r"no label file.*labels=headers"),
        (tmp_path / "unlabelled", "headers", BadRecordsError, r"no label \(1\)[^$]*no #Dx in"),
    ):
        with pytest.raises(error, match=message):
            load(data, labels)


@pytest.fixture
def challenge_folder(tmp_path, write_record):
    """Five records as in CinC 2021, in both spellings, two without a diagnosis."""
    for name, comments in {
        "A1": f"#Age: 74\n#Sex: Male\n#Dx: {AF_RBBB}\n#Rx: Unknown\n",
        "A2": "# Age: NaN\n# Sex: Female\n# Dx: 426783006\n# Hx: Unknown\n",
        "A3": "#Age: 40\n#Dx: 427084000\n",
        "A4": "#Dx: Unknown\n",
        "A5": "",
    }.items():
        with write_record(tmp_path / "g1", name).open("a") as file:
            file.write(comments)
    return tmp_path / "g1"


def test_labels_come_from_headers_where_there_is_no_label_file(challenge_folder):
    corpus = load(challenge_folder)
    assert corpus.ids == ("A1", "A2", "A3")
    assert corpus.labels == (AF_RBBB, "426783006", "427084000")
    lines = f"A1\t{AF_RBBB}\nA2\t426783006\nA3\t427084000\n"
    assert corpus.labels_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    assert [(bad.id, bad.reason, bad.path) for bad in corpus.bad] == [
        (name, "no label: no #Dx in its header", str(challenge_folder / f"{name}.hea"))
        for name in ("A4", "A5")
    ]
    again = load(challenge_folder)
    assert (again.digest, again.provenance) == (corpus.digest, corpus.provenance)
    header = challenge_folder / "A3.hea"
    header.write_text(header.read_text().replace("#Dx: 427084000", "#Dx: 426177001"))
    changed = load(challenge_folder)
    assert changed.labels[2] == "426177001"
    assert changed.labels_sha256 != corpus.labels_sha256


@pytest.mark.parametrize(
    ("comment", "label"),
    [
        ("# Dx: 123 #", "123"),
        ("#\xa0Dx: 456", "456"),
        ("#Dx\xa0: 457", "457"),
        ("#Dx: größer", "grer"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_labels_from_headers_are_read_as_ascii(tmp_path, write_record, comment, label, encoding):
    header = write_record(tmp_path, "R")
    header.write_bytes(header.read_bytes() + comment.encode(encoding))
    assert load(tmp_path, labels="headers").labels == (label,)


def test_a_label_file_goes_before_headers_unless_asked_otherwise(challenge_folder):
    ages = {"Age": {"A1": "74", "A3": "40"}, "Sex": {"A1": "Male", "A2": "Female"}}
    assert load_groups(str(challenge_folder)) == ages
    text = f'record,label,site\nA1,"{AF_RBBB}",here\nA2,N,\nA3,N,\n'
    (challenge_folder / "REFERENCE.csv").write_text(text)
    assert load(challenge_folder).labels == (AF_RBBB, "N", "N")
    assert load_groups(str(challenge_folder)) == {"site": {"A1": "here"}}
    by_header = load(challenge_folder, labels="headers")
    assert by_header.labels == (AF_RBBB, "426783006", "427084000")
    assert by_header.provenance.labels == "headers"
    assert load_groups(str(challenge_folder), labels="headers") == ages


def test_two_processes_build_it_once_and_a_killed_build_is_never_taken_for_whole(
    small_folder, cache
):
    def start(*args):
        code = [sys.executable, "-c", LOAD_SLOWLY, small_folder, *args]
        return subprocess.Popen(code, stdout=subprocess.PIPE, text=True)

    builder = start("stall")
    assert builder.stdout is not None
    assert builder.stdout.readline() == "half\n"
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert [entry.suffix for entry in (cache / "corpora").iterdir()] == [".part"]
    processes = [start() for _ in range(2)]
    printed = sorted(process.communicate(timeout=300)[0].split() for process in processes)
    assert [process.returncode for process in processes] == [0, 0]
    path = printed[0][0]
    assert printed == [[path, "0"], [path, "6"]]
    Corpus.open(path).verify()
    assert [entry.name for entry in (cache / "corpora").iterdir()] == [Path(path).name]


def test_cinc2017_is_what_was_fetched(small_folder, cache, monkeypatch):
    from ecg_mlflow.records import download

    def fetch(name, archive, root, on_progress):
        on_progress(1, 1)
        assert (name, archive.labels, root) == ("cinc2017", "REFERENCE-v3.csv", cache)
        return small_folder

    monkeypatch.setattr(download, "fetch_archive", fetch)
    seen = []
    corpus = load("cinc2017", on_progress=lambda *progress: seen.append(progress))
    assert len(corpus) == 6
    assert corpus.source == "cinc2017: PhysioNet/CinC Challenge 2017"
    assert note_of(small_folder, cache).exists()
    assert seen[0] == (1, 1)


def note_of(folder: Path, cache: Path) -> Path:
    """Return the note of a folder's corpus with the labels beside the records."""
    key = hashlib.sha256(f"{folder}\0{folder / 'REFERENCE.csv'}".encode()).hexdigest()
    return cache / "sources" / f"{key}.json"


def test_the_note_of_a_corpus_is_found_by_its_folder(small_folder, cache):
    load(small_folder)
    load("demo:6")
    notes = {note_of(small_folder, cache), note_of(catalogue.find_records("demo:6").root, cache)}
    assert {*(cache / "sources").glob("*.json")} == notes


def test_the_challenges_sample(sample_records):
    corpus = load(sample_records)
    assert len(corpus) == 300
    counts = {label: corpus.labels.count(label) for label in "NOA~"}
    assert counts == {"N": 148, "O": 65, "A": 47, "~": 40}
    assert (corpus.bad, corpus.signals.data.dtype) == ((), np.int16)
    assert set(corpus.fs.tolist()) == {300.0}
