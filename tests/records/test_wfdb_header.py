"""Headers are read to the end of each field, or the record is bad."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.wfdb_header import SignalLine, parse_header

SIGNAL = "R.dat 16 1000/mV 16 0 -127 31415 0 ECG"
FREQUENCY = "a frequency in Hz above 0, such as 500"
GAIN = "units of the converter per physical unit, such as 1000/mV or 1000(0)/mV"
NUMBER = "a whole number"


def header(record: str = "R 1 250 500", signal: str = SIGNAL) -> bytes:
    return f"{record}\n{signal}\n".encode()


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("R.dat 16", {}),
        ("R.dat 16 0", {}),
        ("R.dat 16 200", {}),
        ("R.dat 16 200.5/uV", {"gain": 200.5, "units": "uV"}),
        ("R.dat 16 1e3/mV", {"gain": 1000.0}),
        ("R.dat 16 -2(-64)/mV", {"gain": -2.0, "baseline": -64}),
        ("R.dat 16 200/mV 12 1024", {"baseline": 1024}),
        ("R.dat 16 200(7)/mV 12 1024", {"baseline": 7}),
        ("R.dat 16x4:3+24 200/mV", {"per_frame": 4, "skew": 3, "offset": 24}),
        ("R.dat 16 200/mV 12 0 -5 31 0 lead II, chest", {
            "initial": -5, "checksum": 31, "description": "lead II, chest"}),
        ("R.dat 16 200/mV ECG", {"description": "ECG"}),
        ("R.dat\t16  200/\u00b5V\t12 0 0 0 0 V1", {"units": "\u00b5V", "description": "V1"}),
    ],
)  # fmt: skip
def test_what_a_line_says_of_a_signal(signal, expected):
    (found,) = parse_header(header(signal=signal)).signals
    assert found == SignalLine("R.dat", "16", **expected)


@pytest.mark.parametrize(
    ("record", "fs", "n_frames"),
    [
        ("R 1", 250, None),
        ("R 1 360", 360, None),
        ("R 1 128.5 500", 128.5, 500),
        ("R 1 1e3 500", 1000, 500),
        ("R 1 360/72(0) 500", 360, 500),
        ("R 1 250/-1.5(-3) 500 10:30:00.125 25/11/1989", 250, 500),
        ("R 1 300 500 05-Feb-2020 11:39:16", 300, 500),
    ],
)
def test_what_the_first_line_says(record, fs, n_frames):
    found = parse_header(header(f"# before\n\n{record}\r") + b"# after #\n")
    assert (found.name, found.fs, found.n_frames) == ("R", fs, n_frames)
    assert found.comments == ("before", "after")


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (header("R"), f"line 1: the number of signals is missing; it should be {NUMBER}"),
        (header("R one 250"), f"line 1: the number of signals is 'one'; it should be {NUMBER}"),
        *(
            (header(f"R 1 {fs} 500"), f"line 1: the sampling frequency is '{fs}'; it should be "
             + FREQUENCY)
            for fs in ("nan", "abc", "-500", "300,5", "inf", "1e999", "0", "500Hz", "0x1F", "1_0",
                       "\u0663\u0660\u0660", "250/", "250(3)")
        ),
        *(
            (header(f"R 1 250 {n}"), f"the number of samples is '{n}'; it should be {NUMBER}")
            for n in ("9e3", "-1", "9.5", "nan", "9,000", "1" * 16)
        ),
        (header(f"R 1 250 500 {'1' * 100}"), "line 1: the time or date is '1111"),
        (header("R 1 250 500 noon"), "line 1: the time or date is 'noon'; it should be a time or"),
        (header("R 1 250 500 10:00 1/2/2020 3"), "line 1: the end of the line is '3'; it should"),
        (header("a/b/c 1"), "line 1: the record name is 'a/b/c'; it should be a name, or"),
        *(
            (header(signal=f"R.dat 16 {gain} 16 0 0 0 0 I"), f"line 2: the gain is '{gain}'; it "
             f"should be {GAIN}")
            for gain in ("1,000/mV", "mV", "nan/mV", "inf", "1000(", "1000(0.5)/mV", "/mV", "1e999")
        ),
        *(
            (header(signal=f"R.dat {fmt} 200"), f"line 2: the format is '{fmt}'; it should be a")
            for fmt in ("sixteen", "16x", "16:-3", "16+", "16x4+24:3", "-16")
        ),
        (header(signal="../R.dat 16"), "line 2: the signal file is '../R.dat'; it should be the"),
        (header(signal="R.dat"), "line 2: the format is missing; it should be a format such as"),
        (header(signal="R.dat 16 200/mV 12 0,5 0 0 0 I"), "the ADC zero is '0,5'; it should be"),
        (header(signal="R.dat 16 200/mV 12 0 x 0 0"), None),
        (header(signal="R.dat 16 200/mV 12 0 0 1.5 0"), "line 2: the checksum is '1.5'; it should"),
        (b"R/2 1 250 9\nR_1 5 6\nR_2 4\n", "line 2: the end of the line is '6'; it should be"),
        (b"R/2 1 250 9\nR_1 5\nR_2 x\n", "line 3: the number of samples is 'x'; it should be"),
        (b"R/2 1 250 9\nR_1 5\n", "it declares 2 segments and describes 1"),
        (b"R 2 250 9\nR.dat 16\n", "it declares 2 leads and describes 1"),
        (header(f"R 1 {'9' * 5000}"), f"line 1: the sampling frequency is '{'9' * 40}'; it should"),
        (b"# a comment\n\n", "it is empty"),
    ],
)  # fmt: skip
def test_a_field_that_is_none_is_named(data, said):
    if said is None:  # a description
        assert parse_header(data).signals[0].description == "x 0 0"
        return
    with pytest.raises(RecordError, match=f"^broken header: .*{re.escape(said)}"):
        parse_header(data)


WORDS = (
    *("R", "R/2", "R.dat", "1", "2", "12", "250", "-1", "1e3", "nan", "inf", "16x4:3+24", "16"),
    *("200(5)/mV", "1,000/mV", "~", "..", "/", "#", "\u00b5V", "\0", "9/9/99", "9" * 400),
)
FIELDS = st.sampled_from(WORDS)
LINES = st.lists(st.lists(FIELDS, max_size=11).map(" ".join), max_size=5).map("\n".join)


@settings(max_examples=300, deadline=None)
@given(st.one_of(LINES.map(str.encode), st.binary(max_size=80)))
def test_whatever_a_file_holds_is_a_header_or_a_bad_record(data):
    try:
        found = parse_header(data)
    except RecordError:
        return
    assert 0 < found.fs < float("inf")
    assert len(found.segments or found.signals) > 0
