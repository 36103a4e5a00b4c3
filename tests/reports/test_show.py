from __future__ import annotations

import os
import struct

import numpy as np
import pytest
from edfio import Edf, EdfSignal

from ecg_mlflow.cli import main
from ecg_mlflow.errors import DataNotFoundError, RecordError
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS
from ecg_mlflow.reports.show import find_record, show_record


@pytest.fixture
def twelve(tmp_path, write_record):
    """A record of twelve leads with its diagnoses in its header, and one of two leads."""
    rng = np.random.default_rng(0)
    header = write_record(
        tmp_path / "x", "E1", rng.normal(0, 0.1, (1500, 12)), leads=STANDARD_LEADS
    )
    with header.open("a") as file:
        file.write("#Age: 70\n#Sex: Female\n#Dx: 164889003,59118001\n")
    signal = rng.normal(0, 0.1, (7500, 2))
    signal[:, 1] = 0.0
    write_record(tmp_path / "x", "E2", signal, leads=["V1", "II"])
    return tmp_path / "x"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


def pixels(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">2I", data[16:24])


def test_arrays_are_drawn(tmp_path, here):
    np.savez(tmp_path / "A1.npz", signal=np.random.default_rng(0).normal(0, 1, 900), fs=300)
    for name in ("A1", "A1.npz"):
        assert show_record(str(tmp_path / name)).startswith("A1: 900 samples at 300 Hz")


def test_a_record_is_drawn_and_described(twelve, here):
    lines = show_record(str(twelve / "E1.hea")).splitlines()
    assert lines == [
        f"E1: 1500 samples at 250 Hz, 6.0 s ({twelve / 'E1.hea'})",
        f"leads:    12: {', '.join(STANDARD_LEADS)}",
        "label:    164889003 (AF), 59118001 (RBBB)",
        "patient:  Age 70, Sex Female",
        "gain:     1000 units per mV",
        lines[5],
        "picture:  E1.png",
    ]
    assert lines[5].startswith("range:    -0.")
    width, _ = pixels(here / "E1.png")
    assert width == pytest.approx(6 * (6 * 25 + 15 + 5 + 10), abs=6)


def test_faults_are_warned_of(twelve, tmp_path, write_record):
    told = show_record(str(twelve / "E2"))
    assert "label:    unknown" in told
    assert "warning:  lead II is flat" in told
    signal = np.random.default_rng(0).normal(0, 0.1, (1000, 1))
    signal[100:350] = -32.768
    told = show_record(str(write_record(tmp_path / "y", "R1", signal)))
    assert "warning:  lead L1 has no numbers (NaN) for 1.0 s" in told
    assert "gain:     none: samples are kept in mV" in told


def test_labels_of_the_file_beside_it_or_another(twelve, tmp_path):
    (twelve / "REFERENCE.csv").write_text("E1,N\nE2,O\n")
    other = tmp_path / "mine.csv"
    other.write_text("E1,~\n")
    name = str(twelve / "E1")
    assert "label:    N\n" in show_record(name)
    assert "label:    ~\n" in show_record(name, labels=str(other))
    assert "(AF), 59118001 (RBBB)\n" in show_record(name, labels="headers")
    (twelve / "REFERENCE.csv").rename(twelve / "REFERENCE-1.csv")
    (twelve / "REFERENCE-2.csv").touch()
    assert "label:    unknown\n" in show_record(name)


def test_labels_of_a_data_set_by_name(ptbxl, here):
    assert "label:    NORM\n" in show_record("00001_lr", data=f"ptbxl@{ptbxl}")
    assert "label:    LVOLT\n" in show_record("00001_lr", data=f"ptbxl:form@{ptbxl}")


def test_a_part_of_it(twelve, here):
    show_record(str(twelve / "E2"), start_s=10, seconds=10, out=here / "part.png")
    show_record(str(twelve / "E2"), out=here / "whole.png")
    one = show_record(str(twelve / "E1"), leads=("v1",), out=here / "v1.png")
    show_record(str(twelve / "E1"), layout="rows", out=here / "rows.png")
    assert "leads:    12" in one
    heights = {name: pixels(here / f"{name}.png")[1] for name in ("part", "whole", "v1", "rows")}
    assert heights["whole"] > 2.2 * heights["part"]
    assert heights["rows"] > 4 * heights["v1"]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ({"start_s": 6.0}, "record E1 is 6.0 s long; there is nothing to show from 6 s on"),
        ({"leads": ("II", "V9")}, "record E1 has no lead 'V9'; its leads are I, II"),
        ({"seconds": 0.0}, "0 s of record E1 show nothing"),
        ({"leads": ("II",), "layout": "clinical"}, "a twelve-lead page needs each of"),
    ],
)
def test_what_a_record_does_not_have(twelve, part, message, here):
    with pytest.raises(RecordError, match=message):
        show_record(str(twelve / "E1"), **part)
    assert list(here.iterdir()) == []


def test_records_are_found_by_path_or_name(twelve, tmp_path, write_record):
    header = twelve / "E1.hea"
    for name in ("E1", "E1.hea", "E1.dat"):
        assert find_record(str(twelve / name)) == (header, twelve, None)
    assert find_record("E1", str(twelve)) == (header, twelve, None)
    assert find_record(os.path.relpath(header)) == (header.resolve(), twelve.resolve(), None)
    assert find_record("D00002", "demo:2")[0].name == "D00002.hea"
    for name, data, message in (
        ("nowhere/E1", None, "no recording .*nowhere/E1: give the path of a header"),
        ("E11", str(twelve), "no record 'E11' among the 2 of .*; called alike: E1"),
        ("quite another", str(twelve), "no record 'quite another' among the 2 of .*; one is E1"),
    ):
        with pytest.raises(DataNotFoundError, match=message):
            find_record(name, data)
    for folder in ("a", "b"):
        write_record(tmp_path / "t" / folder, "R1")
    with pytest.raises(DataNotFoundError, match="several records are called 'R1'"):
        find_record("R1", str(tmp_path / "t"))


def test_an_edf_file(tmp_path):
    path = tmp_path / "E7.edf"
    wave = np.sin(np.arange(1000) / 20)
    Edf([EdfSignal(wave, 250, label="EKG II", physical_dimension="mV")]).write(path)
    for name in (path, path.with_suffix("")):
        assert "leads:    1: II" in show_record(str(name))


def test_the_command(twelve, here, capsys):
    words = ["show", "E1", "--data", str(twelve), "--from", "1", "--seconds", "2"]
    assert main([*words, "--leads", "I,v2", "--output", "deep/er.png"]) == 0
    assert "picture:  deep/er.png" in capsys.readouterr().out
    assert pixels(here / "deep/er.png")
    assert main(["show", "E9", "--data", str(twelve)]) == 1
    assert "ecg-mlflow: error: no record 'E9'" in capsys.readouterr().err
    (here / "taken.png").mkdir()
    assert main(["show", "E1", "--data", str(twelve), "--output", "taken.png"]) == 1
    assert "can't write taken.png" in capsys.readouterr().err


def test_data_and_data_summary_are_the_same(small_folder, capsys, here):
    said = []
    for words in (["data", str(small_folder)], ["data", "summary", str(small_folder)]):
        assert main(words) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert "labels:   N 3, A 3" in said[0]
    # A folder of that name is meant where the word stands alone.
    (here / "summary").symlink_to(small_folder)
    assert main(["data", "summary"]) == 0
    assert "labels:   N 3, A 3" in capsys.readouterr().out
    assert main(["data", "one", "two"]) == 2
    assert "name one data set; given are one two" in capsys.readouterr().err


def test_data_writes_pages(small_folder, capsys, here):
    assert main(["data", str(small_folder), "--output", "report"]) == 0
    assert "written:  report/summary.html, report/records.csv" in capsys.readouterr().out
    assert "An example of each class" in (here / "report/summary.html").read_text()
    assert (here / "report/records.csv").read_text().startswith("record,label,patient,seconds")
