from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.errors import BadRecordsError, CorpusError, DataNotFoundError
from ecg_mlflow.records import Corpus, load_corpus, read_record

LOAD_SLOWLY = """
import sys, time
from ecg_mlflow.records import load_corpus
reads = []
def wait(done, total):
    reads.append(done)
    time.sleep(0.1)
print(load_corpus(sys.argv[1], on_progress=wait).path, len(reads))
"""


@pytest.fixture
def count_reads(monkeypatch):
    """Ids of the records read from their files, in order."""
    from ecg_mlflow.records import reading

    reads = []
    read = reading.read_digital
    monkeypatch.setattr(reading, "read_digital", lambda path: reads.append(path.stem) or read(path))
    return reads


def touch(path: Path) -> None:
    """Give a file a later time, as an editor that saves it does."""
    status = path.stat()
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))


def test_a_folder_of_records(small_folder, cache):
    corpus = load_corpus(str(small_folder))
    assert corpus.ids == ("R1", "R2", "R3", "R4", "R5", "R6")
    assert corpus.labels == ("N", "A", "N", "A", "N", "A")
    assert corpus.n_samples.tolist() == [450, 500, 550, 600, 650, 700]
    assert (corpus.source, corpus.bad, corpus.copies) == (str(small_folder), (), ())
    assert corpus.path == cache / "corpora" / corpus.digest
    expected = read_record(small_folder / "R3.hea").signal
    np.testing.assert_array_equal(corpus.record(2).signal, expected)


def test_nothing_is_read_again_while_nothing_changes(small_folder, count_reads):
    first = load_corpus(str(small_folder))
    assert count_reads == ["R1", "R2", "R3", "R4", "R5", "R6"]
    second = load_corpus(str(small_folder))
    assert len(count_reads) == 6
    assert (first.digest, first.source, first.labels_sha256) == (
        second.digest,
        second.source,
        second.labels_sha256,
    )


@pytest.mark.parametrize("name", ["R2.hea", "R2.dat", "REFERENCE.csv"])
def test_a_touched_file_is_read_again(small_folder, count_reads, name):
    first = load_corpus(str(small_folder))
    touch(small_folder / name)
    assert load_corpus(str(small_folder)).digest == first.digest
    assert len(count_reads) == 12


def test_a_changed_selection_is_another_corpus(small_folder, write_record, count_reads):
    first = load_corpus(str(small_folder))
    with (small_folder / "REFERENCE.csv").open("a") as file:
        file.write("R7,N\n")
    write_record(small_folder, "R7")
    assert load_corpus(str(small_folder)).ids == (*first.ids, "R7")
    (small_folder / "R1.hea").unlink()
    assert load_corpus(str(small_folder)).ids == (*first.ids[1:], "R7")
    assert load_corpus(f"{small_folder}/R[23].hea").ids == ("R2", "R3")


def test_other_labels(small_folder, tmp_path):
    other = tmp_path / "mine.csv"
    other.write_text("".join(f"R{i},X\n" for i in range(1, 7)))
    assert set(load_corpus(str(small_folder), labels=other).labels) == {"X"}
    assert set(load_corpus(str(small_folder)).labels) == {"N", "A"}
    with pytest.raises(DataNotFoundError, match=r"can't read the label file .*none\.csv"):
        load_corpus(str(small_folder), labels="none.csv")


def name_patients(folder: Path, patients: list[str]) -> None:
    """Write the labels of `small_folder` anew, with a patient per record."""
    lines = [f"R{i},{'NA'[(i + 1) % 2]},{whose}\n" for i, whose in enumerate(patients, start=1)]
    (folder / "REFERENCE.csv").write_text("record,label,patient\n" + "".join(lines))


def test_patients_come_from_the_labels_and_are_kept(small_folder, count_reads):
    plain = load_corpus(str(small_folder))
    assert plain.patients is None
    name_patients(small_folder, ["P1", "P1", "P2", "", "", "P2"])
    corpus = load_corpus(str(small_folder))
    assert corpus.patients == ("P1", "P1", "P2", "", "", "P2")
    assert (corpus.ids, corpus.labels, corpus.bad) == (plain.ids, plain.labels, ())
    assert len(count_reads) == 12
    assert load_corpus(str(small_folder)).patients == corpus.patients
    assert len(count_reads) == 12


def test_other_patients_are_read_again(small_folder):
    name_patients(small_folder, ["P1", "P1", "P2", "P2", "P3", "P3"])
    first = load_corpus(str(small_folder))
    name_patients(small_folder, ["P1", "P1", "P2", "P2", "P3", "P2"])
    second = load_corpus(str(small_folder))
    assert second.patients == ("P1", "P1", "P2", "P2", "P3", "P2")
    assert second.digest != first.digest


def test_patients_that_are_all_unknown_change_nothing(small_folder):
    plain = load_corpus(str(small_folder))
    name_patients(small_folder, [""] * 6)
    corpus = load_corpus(str(small_folder))
    assert (corpus.digest, corpus.patients) == (plain.digest, None)


def test_a_record_of_two_patients_is_left_out(small_folder):
    name_patients(small_folder, ["P1", "P1", "P2", "P2", "P3", "P3"])
    with (small_folder / "REFERENCE.csv").open("a") as file:
        file.write("R2,A,P9\n")
    corpus = load_corpus(str(small_folder))
    assert corpus.ids == ("R1", "R3", "R4", "R5", "R6")
    assert corpus.patients == ("P1", "P2", "P2", "P3", "P3")
    [bad] = corpus.bad
    assert (bad.id, bad.kind, bad.path) == (
        "R2",
        "two patients",
        f"{small_folder / 'REFERENCE.csv'}:8",
    )


def test_what_an_earlier_version_packed_is_found_again_without_a_word(
    small_folder, cache, count_reads
):
    corpus = load_corpus(str(small_folder))
    [note] = (cache / "sources").glob("*.json")
    note.write_text(note.read_text().replace('"form": 2', '"form": 1'))
    again = load_corpus(str(small_folder))
    assert (again.path, again.patients) == (corpus.path, None)
    assert [path.name for path in (cache / "corpora").iterdir()] == [corpus.digest]


def test_all_bad_records_are_collected_with_their_reasons(small_folder, write_record):
    (small_folder / "R1.dat").unlink()
    os.truncate(small_folder / "R2.dat", 10)
    (small_folder / "R3.hea").write_text("R3 1\nbroken\n")
    write_record(small_folder, "R4", np.array([[0.5], [-32.768]]))
    write_record(small_folder, "R7")
    write_record(small_folder, "R8", unit="mmHg", gain=1)
    with (small_folder / "REFERENCE.csv").open("a") as file:
        file.write("R5,A\nR8,N\nR6;N\nX9,\n")
    corpus = load_corpus(str(small_folder))
    assert corpus.ids == ("R6",)
    kinds = {bad.id: bad.kind for bad in corpus.bad}
    assert kinds == {
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
    assert load_corpus(str(small_folder)).bad == corpus.bad


def test_a_mended_record_is_found(small_folder):
    saved = (small_folder / "R2.dat").read_bytes()
    (small_folder / "R2.dat").unlink()
    assert [bad.id for bad in load_corpus(str(small_folder)).bad] == ["R2"]
    (small_folder / "R2.dat").write_bytes(saved)
    assert load_corpus(str(small_folder)).bad == ()


def test_one_id_in_two_folders(small_folder, tmp_path):
    shutil.copytree(small_folder, tmp_path / "more")
    (tmp_path / "more/R1.hea").rename(tmp_path / "more/R9.hea")
    corpus = load_corpus(f"{tmp_path}/*/R[129].hea")
    assert corpus.ids == ("R1",)
    kinds = [(bad.id, bad.kind) for bad in corpus.bad]
    assert kinds == [
        ("R2", "one id twice"),
        ("R2", "one id twice"),
        ("R9", "no label"),
        ("R9", "header of another record"),
    ]


def test_not_one_usable_record(small_folder):
    (small_folder / "REFERENCE.csv").write_text("X1,N\n")
    with pytest.raises(BadRecordsError, match=r"no record can be used[^$]*no label \(6\)"):
        load_corpus(str(small_folder))


def test_nothing_found(tmp_path):
    with pytest.raises(DataNotFoundError, match="doesn't exist"):
        load_corpus(str(tmp_path / "nowhere"))
    with pytest.raises(DataNotFoundError, match="demo:<records>:<seed>"):
        load_corpus("demo:many")


def test_progress_counts_records(small_folder):
    seen = []
    load_corpus(str(small_folder), on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(i, 6) for i in range(1, 7)]


def test_a_damaged_corpus_says_what_to_do_and_that_helps(small_folder):
    corpus = load_corpus(str(small_folder))
    os.truncate(corpus.path / "signals.bin", 10)
    with pytest.raises(CorpusError, match=f"{corpus.path}.*Delete the folder and run again"):
        load_corpus(str(small_folder))
    shutil.rmtree(corpus.path)
    assert load_corpus(str(small_folder)).digest == corpus.digest


def test_a_damaged_note_is_written_anew(small_folder, cache, count_reads):
    load_corpus(str(small_folder))
    [note] = (cache / "sources").glob("*.json")
    note.write_bytes(note.read_bytes()[:-9])
    load_corpus(str(small_folder))
    assert len(count_reads) == 12
    note.write_text('{"form": 0}')
    load_corpus(str(small_folder))
    assert len(count_reads) == 18


def test_two_processes_at_once_build_it_once(small_folder, cache):
    processes = [
        subprocess.Popen([sys.executable, "-c", LOAD_SLOWLY, small_folder], stdout=-1, text=True)
        for _ in range(3)
    ]
    printed = sorted(process.communicate(timeout=300)[0].split() for process in processes)
    assert [process.returncode for process in processes] == [0, 0, 0]
    path = printed[0][0]
    assert printed == [[path, "0"], [path, "0"], [path, "6"]]
    Corpus.open(path).verify()
    visible = [entry.name for entry in (cache / "corpora").iterdir()]
    assert visible == [Path(path).name]


def test_a_killed_build_is_never_taken_for_whole(small_folder, cache):
    code = (
        "import sys, time; from ecg_mlflow.records import load_corpus\n"
        "def stall(done, total):\n"
        "    if done == 4: print('half', flush=True); time.sleep(3600)\n"
        "load_corpus(sys.argv[1], on_progress=stall)"
    )
    builder = subprocess.Popen([sys.executable, "-c", code, small_folder], stdout=-1, text=True)
    assert builder.stdout is not None
    assert builder.stdout.readline() == "half\n"
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert [entry.suffix for entry in (cache / "corpora").iterdir()] == [".part"]
    corpus = load_corpus(str(small_folder))
    corpus.verify()
    assert [entry.name for entry in (cache / "corpora").iterdir()] == [corpus.digest]


def test_demo(cache):
    corpus = load_corpus("demo:12:3")
    assert len(corpus) == 12
    assert corpus.source == "demo: 12 made-up records, seed 3"
    assert (corpus.bad, corpus.copies) == ((), ())
    assert set(corpus.labels) <= {"N", "A", "O", "~"}
    assert load_corpus("demo:12:3").digest == corpus.digest
    assert load_corpus("demo:12:4").digest != corpus.digest
    assert len(load_corpus("demo:5").ids) == 5


def test_cinc2017_is_what_was_fetched(small_folder, cache, monkeypatch):
    from ecg_mlflow.records import download

    def fetch(root, on_progress=None):
        on_progress(1, 1)
        assert root == cache
        return small_folder

    monkeypatch.setattr(download, "fetch_cinc2017", fetch)
    seen = []
    corpus = load_corpus("cinc2017", on_progress=lambda *progress: seen.append(progress))
    assert len(corpus) == 6
    assert corpus.source.startswith("cinc2017")
    assert seen[0] == (1, 1)


def test_the_challenges_sample(sample_records):
    corpus = load_corpus(str(sample_records))
    assert len(corpus) == 300
    counts = {label: corpus.labels.count(label) for label in "NOA~"}
    assert counts == {"N": 148, "O": 65, "A": 47, "~": 40}
    assert (corpus.bad, corpus.signals.data.dtype) == ((), np.int16)
    assert set(corpus.fs.tolist()) == {300.0}


def test_the_challenges_copies(real_data, tmp_path):
    wanted = ("A00227", "A01176", "A00001")
    unpacked = subprocess.run(
        ["tar", "-xf", real_data / "train.tar.xz", "-C", tmp_path, "--wildcards"]
        + [f"*{name}.*" for name in wanted]
    )
    assert unpacked.returncode == 0
    labels = (real_data / "REFERENCE-train.csv").read_bytes()
    folder = next(tmp_path.rglob("A00001.hea")).parent
    (folder / "REFERENCE.csv").write_bytes(labels)
    assert load_corpus(str(folder)).copies == (("A00227", "A01176"),)
