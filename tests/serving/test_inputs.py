"""Rows of an input table: paths, bytes and arrays, and everything that is none of them."""

from __future__ import annotations

import base64
import re
import sys
import tempfile

import numpy as np
import pandas as pd
import pytest
from edfio import Edf, EdfSignal

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import read_digital
from ecg_mlflow.serving.inputs import read_row, row_name

TRAINED = ("I", "II")


@pytest.fixture
def header(tmp_path, write_record):
    return write_record(tmp_path, "R7", leads=["I", "II"], gain=800, baseline=5)


def equal(one, other) -> bool:
    return (
        (one.id, one.fs, one.leads) == (other.id, other.fs, other.leads)
        and np.array_equal(one.samples, other.samples)
        and one.samples.dtype == other.samples.dtype
        and np.array_equal(one.gain, other.gain)
        and np.array_equal(one.baseline, other.baseline)
    )


@pytest.mark.parametrize("nothing", [None, float("nan"), np.float64("nan"), pd.NA])
@pytest.mark.parametrize("suffix", ["", ".hea"])
def test_a_path(header, suffix, nothing):
    row = {"record": f"{header.with_suffix('')}{suffix}", "signal": nothing, "fs": nothing}
    assert equal(read_row(row, 0, TRAINED), read_digital(header))
    assert row_name(row, 3) == "R7"


def test_a_path_of_an_edf_file(tmp_path, monkeypatch):
    path = tmp_path / "E1.edf"
    wave = np.sin(np.arange(500) / 20)
    Edf([EdfSignal(wave, 250, label="ECG II", physical_dimension="mV")]).write(path)
    assert read_row({"record": str(path)}, 0, TRAINED).leads == ("II",)
    monkeypatch.setitem(sys.modules, "edfio", None)
    with pytest.raises(RecordError, match="pip install"):
        read_row({"record": str(path)}, 0, TRAINED)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, "base64"])
def test_bytes_of_a_record(header, kind):
    files = [header.read_bytes(), header.with_suffix(".dat").read_bytes()]
    if kind == "base64":
        files = [base64.encodebytes(file).decode() for file in files]
    else:
        files = [kind(file) for file in files]
    row = dict(zip(("header", "signal_file"), files, strict=True))
    assert equal(read_row(row, 0, TRAINED), read_digital(header))
    assert row_name(row, 3) == "row 3"
    cut = {"header": row["header"], "signal_file": b"x" * 20}
    with pytest.raises(RecordError, match=re.escape("truncated signal file: R7.dat has 20 bytes")):
        read_row(cut, 0, TRAINED)


SIGNAL = np.arange(12, dtype=np.float64).reshape(6, 2) / 10


@pytest.mark.parametrize(
    "signal",
    [
        SIGNAL,
        SIGNAL.astype(np.float32),
        SIGNAL.tolist(),
        pd.DataFrame({"s": [SIGNAL.tolist()]})["s"][0],
        np.array([np.array(row) for row in SIGNAL] + [None], dtype=object)[:-1],
    ],
)
def test_an_array(signal):
    record = read_row({"signal": signal, "fs": 300}, 4, TRAINED)
    assert (record.id, record.fs, record.leads) == ("row 4", 300.0, TRAINED)
    np.testing.assert_array_equal(record.millivolts(), SIGNAL.astype(np.float32))


def test_one_lead_needs_no_columns():
    record = read_row({"signal": [1, 2, 3], "fs": np.int64(250), "leads": np.array(["V1"])}, 0, ())
    assert record.leads == ("V1",)
    assert record.millivolts().tolist() == [[1], [2], [3]]


GOOD = {"signal": SIGNAL, "fs": 300}


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({}, "a row needs either .* this one has nothing"),
        ({"record": "a", **GOOD}, "has fs, record, signal$"),
        ({"signal": SIGNAL}, "signal and fs .*has signal$"),
        ({"header": b"x"}, "header and signal_file .*has header$"),
        ({"record": "a", "leads": ["I"]}, "has leads, record$"),
        ({"record": ["a", "b"]}, "one row per record"),
        ({"record": "a\0b"}, "as text"),
        ({"record": "/no/such/record"}, "unreadable header"),
        ({**GOOD, "fs": 0}, "positive sampling frequency in Hz; it is 0"),
        ({**GOOD, "fs": float("inf")}, "positive"),
        ({**GOOD, "fs": "300"}, "positive"),
        ({**GOOD, "fs": True}, "positive"),
        ({**GOOD, "leads": ["I"]}, r"2 columns, and leads are \['I'\]$"),
        ({**GOOD, "signal": SIGNAL.T}, "6 columns, .* as trained on: name them in leads; .*turned"),
        ({**GOOD, "leads": "I"}, "a list of names"),
        ({**GOOD, "leads": [1, 2]}, "a list of names"),
        ({**GOOD, "signal": [[1, 2], [3]]}, "must be numbers in mV"),
        ({**GOOD, "signal": "abc"}, "must be numbers in mV"),
        ({**GOOD, "signal": []}, r"it is \(0, 1\)"),
        ({**GOOD, "signal": np.zeros((2, 2, 2))}, r"it is \(2, 2, 2\)"),
        ({**GOOD, "signal": 3.0}, r"it is \(\)"),
        ({"header": 5, "signal_file": b"x"}, "header must be bytes, or base64 text; it is int"),
        ({"header": "no base64!", "signal_file": b"x"}, "no base64"),
        ({"header": b"# nothing", "signal_file": b"x"}, "it is empty"),
    ],
)
def test_rows_that_hold_no_recording(row, why):
    with pytest.raises(RecordError, match=why):
        read_row(row, 0, TRAINED)


LINE = "16 1000/mV 16 0 0 0 0 I"


@pytest.mark.parametrize(
    ("header", "why"),
    [
        (f"R 1 250 4\n../R.dat {LINE}", "the signal file is '../R.dat'; it should be"),
        (f"R 1 250 4\n~ {LINE}", "'~' is no plain file name"),
        (f"R 1 250 4\n.hidden {LINE}", "is no plain file name"),
        (f"R 1 250 4\n..\\R.dat {LINE}", "line 2: the signal file is"),
        (f"R 1 250 4\n{'x' * 150}.dat {LINE}", "is no plain file name"),
        (f"R 1 250 4\n{'x' * 250}.dat {LINE}", "line 2: the signal file is"),
        (f"../R 1 250 4\nR.dat {LINE}", "the record name is '../R'; it should be"),
        (f"R 2 250 4\nR.dat {LINE}\nS.dat {LINE}I", r"names \['R.dat', 'S.dat'\]"),
        ("R 0 250 4", "it declares 0 leads and describes 0"),
        ("R/1 1 250 4\nR1 4", "several segments"),
        (f"R 1 250 4\nR.hea {LINE}", "names itself"),
    ],
)
def test_bytes_that_name_other_files(header, why, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with pytest.raises(RecordError, match=why):
        read_row({"header": header.encode(), "signal_file": b"12345678"}, 0, TRAINED)
    assert not list(tmp_path.iterdir())
