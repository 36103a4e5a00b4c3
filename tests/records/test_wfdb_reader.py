from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records.reading import read_record
from ecg_mlflow.records.wfdb_header import read_header
from ecg_mlflow.records.wfdb_reader import read_wfdb_digital


def edit(header: Path, old: str, new: str, encoding: str = "utf-8") -> None:
    text = header.read_text()
    assert old in text
    header.write_bytes(text.replace(old, new).encode(encoding))


def reason(header: Path) -> str:
    with pytest.raises(RecordError) as caught:
        read_wfdb_digital(header)
    return str(caught.value)


@pytest.mark.parametrize("fmt", ["16", "212", "80", "24", "32", "508", "516", "524"])
@pytest.mark.parametrize(("fs", "n_leads"), [(300, 1), (128.5, 3), (1000, 12)])
def test_leads_frequencies_and_formats(tmp_path, write_record, fmt, fs, n_leads):
    # An odd number of samples: format 212 packs two into three bytes.
    signal = np.random.default_rng(n_leads).uniform(-1, 1, (501, n_leads))
    leads = [f"V{i}" for i in range(n_leads)]
    header = write_record(tmp_path, "R", signal, fs=fs, fmt=fmt, gain=90, baseline=7, leads=leads)
    record = read_record(header, "N")
    assert (record.id, record.fs, record.leads, record.label) == ("R", fs, tuple(leads), "N")
    assert record.signal.dtype == np.float32
    np.testing.assert_allclose(record.signal, signal, atol=0.5 / 90 + 1e-6)


def test_digital_samples_gain_and_baseline_are_those_of_the_file(tmp_path, write_record):
    signal = np.array([[-1.0, 0.5], [0.0, 0.25], [1.0, -0.5]])
    digital = read_wfdb_digital(write_record(tmp_path, "R", signal, gain=200, baseline=1024))
    assert digital.digital is not None
    assert digital.physical is None
    assert digital.digital.dtype == np.int16
    assert digital.digital.tolist() == [[824, 1124], [1024, 1074], [1224, 924]]
    assert (digital.gain.tolist(), digital.baseline.tolist()) == ([200, 200], [1024, 1024])
    np.testing.assert_array_equal(digital.millivolts(), signal.astype(np.float32))


@pytest.mark.parametrize(
    ("unit", "gain", "per_unit"),
    [("mV", 200, 1), ("uV", 2, 1e-3), ("nV", 2, 1e-6), ("V", 9e3, 1e3)],
)
def test_every_voltage_comes_out_in_millivolts(tmp_path, write_record, unit, gain, per_unit):
    signal = np.array([[1.0], [-0.5], [3.5]])
    record = read_record(write_record(tmp_path, "R", signal, unit=unit, gain=gain))
    expected = np.rint(signal * gain) / gain * per_unit
    np.testing.assert_allclose(record.signal, expected, rtol=1e-6)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_micro_sign_is_micro(tmp_path, write_record, encoding):
    header = write_record(tmp_path, "R", np.array([[1000.0], [-500.0]]), unit="uV", gain=1)
    edit(header, "/uV", "/µV", encoding)
    np.testing.assert_allclose(read_record(header).signal, [[1.0], [-0.5]])


@pytest.mark.parametrize("gain", ["0/mV", ""])
def test_no_gain_means_200_per_millivolt(tmp_path, write_record, gain):
    header = write_record(tmp_path, "R", np.array([[1.0], [-0.5]]), gain=200)
    fields = header.read_text().splitlines()
    name, fmt = fields[1].split()[:2]
    header.write_text(f"{fields[0]}\n{name} {fmt} {gain}\n")
    np.testing.assert_allclose(read_record(header).signal, [[1.0], [-0.5]])


def test_samples_beyond_16_bits_become_millivolts(tmp_path, write_record):
    signal = np.array([[100.0], [-100.0], [0.25]])
    digital = read_wfdb_digital(
        write_record(tmp_path, "R", signal, fmt="24", gain=4000, baseline=3)
    )
    assert digital.digital is None
    assert (digital.gain.tolist(), digital.baseline.tolist()) == ([1], [0])
    np.testing.assert_allclose(digital.millivolts(), signal)


def test_24_bit_files_of_small_values_stay_digital(tmp_path, write_record):
    digital = read_wfdb_digital(write_record(tmp_path, "R", np.array([[1.0]] * 3), fmt="24"))
    assert digital.digital is not None


def test_several_samples_a_frame_give_the_higher_frequency(tmp_path, wrsamp):
    samples = [np.arange(20, dtype=np.int64) * i for i in (1, 2)]
    wrsamp(
        "R", fs=100, units=["mV"] * 2, sig_name=["I", "II"], e_d_signal=samples,
        samps_per_frame=[2, 2], fmt=["16"] * 2, adc_gain=[1] * 2, baseline=[0] * 2,
        write_dir=str(tmp_path),
    )  # fmt: skip
    record = read_record(tmp_path / "R.hea")
    assert record.fs == 200
    np.testing.assert_array_equal(record.signal, np.stack(samples, axis=1))
    header = read_header(tmp_path / "R.hea")
    assert (header.fs, header.n_samples) == (200, 20)


def test_leads_of_different_frequencies_are_refused(tmp_path, wrsamp):
    wrsamp(
        "R", fs=100, units=["mV"] * 2, sig_name=["I", "II"],
        e_d_signal=[np.arange(10, dtype=np.int64), np.arange(20, dtype=np.int64)],
        samps_per_frame=[1, 2], fmt=["16"] * 2, adc_gain=[1] * 2, baseline=[0] * 2,
        write_dir=str(tmp_path),
    )  # fmt: skip
    expected = "leads of different sampling frequencies: 100 Hz, 200 Hz"
    assert reason(tmp_path / "R.hea") == expected


@pytest.mark.parametrize("odd_date", [False, True])
def test_segments_are_joined(tmp_path, write_record, odd_date):
    parts = [np.array([[0.1], [0.2]]), np.array([[0.3], [0.4], [0.5]])]
    for i, part in enumerate(parts):
        header = write_record(tmp_path, f"part{i}", part, gain=1000 * (i + 1))
        if odd_date:
            lines = header.read_text().splitlines()
            lines[0] += " 2014-05-08 05:05:15"
            header.write_text("\n".join(lines) + "\n")
    (tmp_path / "whole.hea").write_text("whole/2 1 250 5\npart0 2\npart1 3\n")
    digital = read_wfdb_digital(tmp_path / "whole.hea")
    np.testing.assert_allclose(digital.millivolts(), np.concatenate(parts), rtol=1e-6)
    names = [file.name for file in digital.files]
    assert names == ["whole.hea", "part0.hea", "part0.dat", "part1.hea", "part1.dat"]


def test_a_gap_between_segments_is_refused(tmp_path, write_record):
    write_record(tmp_path, "part0", np.array([[0.1], [0.2]]))
    (tmp_path / "whole.hea").write_text("whole/2 1 250 5\npart0 2\n~ 3\n")
    expected = "gap between segments: 3 of 5 samples are missing"
    assert reason(tmp_path / "whole.hea") == expected


@pytest.mark.parametrize(
    "date",
    [
        "2014-05-08 05:05:15",
        "05:05:15 2014-05-08",
        "08.05.2014",
        "05:05:15 31/02/2014",
        "2014-05-08T05:05:15Z",
    ],
)
def test_dates_that_wfdb_cant_read_are_passed_over(tmp_path, write_record, date):
    header = write_record(tmp_path, "R", np.array([[0.1], [-0.2]]))
    lines = header.read_text().splitlines()
    header.write_text("\n".join([f"{lines[0]} {date}", *lines[1:]]))
    np.testing.assert_allclose(read_record(header).signal, [[0.1], [-0.2]])
    assert read_wfdb_digital(header).files == (header, tmp_path / "R.dat")


def test_dates_that_wfdb_can_read_need_no_copy(tmp_path, write_record, monkeypatch):
    header = write_record(tmp_path, "R", np.array([[0.1], [-0.2]]))
    lines = header.read_text().splitlines()
    header.write_text("\n".join([f"{lines[0]} 05:05:15.25 8/05/2014", *lines[1:]]))
    monkeypatch.setattr(tempfile, "TemporaryDirectory", None)
    np.testing.assert_allclose(read_record(header).signal, [[0.1], [-0.2]])


def test_old_style_headers_of_the_challenge(real_data, sample_records, tmp_path):
    old = sorted((real_data / "old-style-headers").glob("*.hea"))
    assert len(old) == 3
    for header in old:
        (tmp_path / header.name).write_bytes(header.read_bytes())
        signal = header.with_suffix(".mat").name
        os.link(sample_records / signal, tmp_path / signal)
        new = read_record(sample_records / header.name)
        np.testing.assert_array_equal(read_record(tmp_path / header.name).signal, new.signal)


def test_a_real_record(sample_records):
    record = read_record(sample_records / "A00001.hea")
    assert (record.fs, record.leads, record.signal.shape) == (300, ("ECG",), (9000, 1))
    np.testing.assert_allclose(record.signal[:3, 0], [-0.127, -0.162, -0.197])


def test_length_is_taken_from_the_file_where_the_header_has_none(tmp_path, write_record):
    header = write_record(tmp_path, "R", np.array([[0.1], [-0.2], [0.3]]))
    edit(header, "R 1 250 3", "R 1 250")
    assert read_header(header).n_samples is None
    assert len(read_record(header).signal) == 3


def test_folder_names_with_wildcards_are_names(tmp_path, write_record):
    header = write_record(tmp_path / "set [1]* (µ)", "R", np.array([[0.1], [-0.2]]))
    np.testing.assert_allclose(read_record(header).signal, [[0.1], [-0.2]])


def test_missing_signal_file(tmp_path, write_record):
    header = write_record(tmp_path, "R")
    (tmp_path / "R.dat").unlink()
    assert reason(header) == "missing signal file: R.dat"


@pytest.mark.parametrize(("fmt", "expected"), [("16", 1000), ("212", 750), ("24", 1500)])
@pytest.mark.parametrize("missing", [1, 3, 200])
def test_truncated_signal_file(tmp_path, write_record, fmt, expected, missing):
    header = write_record(tmp_path, "R", np.zeros((500, 1)), fmt=fmt)
    size = (tmp_path / "R.dat").stat().st_size
    os.truncate(tmp_path / "R.dat", size - missing)
    found = f"R.dat has {size - missing} bytes, the header requires {expected}"
    assert reason(header) == f"truncated signal file: {found}"


def test_truncated_where_a_later_lead_is_skewed(tmp_path, write_record):
    header = write_record(tmp_path, "R", np.zeros((500, 2)))
    lines = header.read_text().splitlines()
    lines[2] = lines[2].replace("R.dat 16", "R.dat 16:4")
    header.write_text("\n".join(lines))
    os.truncate(tmp_path / "R.dat", 1000)
    assert reason(header).startswith("truncated signal file")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "broken header: it is empty"),
        ("# a comment\n\n", "broken header: it is empty"),
        ("R\n", "broken header: invalid syntax in record line"),
        ("R one 250 500\nR.dat 16\n", "broken header: invalid syntax in record line"),
        ("R 1 250 500\nnonsense\n", "broken header: invalid syntax in signal line"),
        ("R 2 250 500\nR.dat 16 1000/mV\n", "broken header: it declares 2 leads and describes 1"),
        ("R 1 250 500\n", "broken header: it declares 1 leads and describes 0"),
        ("R 0 250 500\n", "broken header: it declares 0 leads and describes 0"),
        ("R 1 0 500\nR.dat 16 1000/mV\n", "broken header: a sampling frequency of 0 Hz"),
        ("R 1 250 0\nR.dat 16 1000/mV\n", "no samples"),
        ("S 1 250 500\nR.dat 16 1000/mV\n", "header of another record: it names 'S'"),
        ("R 1 250 500\nR.dat 17 1000/mV\n", "unreadable signal file: "),
        ("R 1 250 500\nR.dat 16 1000/mmHg\n", "unit is not a voltage: lead 'lead 1' is in 'mmH"),
        ("R 1 250 500000000000000\nR.dat 16 1000/mV\n", "truncated signal file: "),
        ("R/1 1 250 500\nS 500\n", "missing signal file: S.hea"),
    ],
)
def test_broken_headers(tmp_path, write_record, text, kind):
    header = write_record(tmp_path, "R")
    header.write_text(text)
    assert reason(header).startswith(kind)


def test_empty_signal_file_of_unknown_length(tmp_path, write_record):
    header = write_record(tmp_path, "R", np.zeros((3, 1)))
    edit(header, "R 1 250 3", "R 1 250")
    (tmp_path / "R.dat").write_bytes(b"")
    assert reason(header) == "no samples: R.dat is empty"


def test_missing_header(tmp_path):
    assert reason(tmp_path / "R.hea") == "unreadable header: No such file or directory"


#: The value that marks a sample as invalid, from WFDB's table of signal formats.
INVALID = {
    **{"80": -128, "508": -128, "310": -512, "311": -512, "212": -2048},
    **{"16": -32768, "160": -32768, "516": -32768},
    **{"24": -8388608, "524": -8388608, "32": -2147483648},
}


def packed(fmt: str, samples: list[int]) -> bytes:
    """Write samples in a format that wfdb reads and doesn't write, as signal-5.htm describes it."""
    if fmt == "160":
        return (np.array(samples) + 2**15).astype("<u2").tobytes()
    words = b""
    for start in range(0, len(samples), 3):
        first, second, third = (value % 2**10 for value in samples[start : start + 3])
        if fmt == "310":
            pairs = (first * 2 | third % 2**5 << 11, second * 2 | third // 2**5 << 11)
            words += np.array(pairs, "<u2").tobytes()
        else:
            words += np.array(first | second << 10 | third << 20, "<u4").tobytes()
    return words


@pytest.fixture
def write_digital(write_record):
    """Write a record of two leads, I and II, of one unit per mV, in any format."""

    def write(folder, fmt, digital):
        if fmt not in ("160", "310", "311"):
            signal = digital.astype(float)
            return write_record(folder, "R", signal, fmt=fmt, gain=1, leads=["I", "II"])
        leads = "".join(f"R.dat {fmt} 1/mV 16 0 0 0 0 {lead}\n" for lead in ("I", "II"))
        (folder / "R.hea").write_text(f"R 2 250 {len(digital)}\n{leads}")
        (folder / "R.dat").write_bytes(packed(fmt, digital.ravel().tolist()))
        return folder / "R.hea"

    return write


@pytest.mark.parametrize(("fmt", "invalid"), INVALID.items())
def test_wfdbs_invalid_sample_is_nan(tmp_path, write_digital, fmt, invalid):
    digital = np.zeros((300, 2), np.int64)
    digital[:3, 0] = [invalid + 1, -invalid - 1, 7]  # the lowest and the highest valid one
    digital[[40, 41], 1] = invalid
    header = write_digital(tmp_path, fmt, digital)
    expected = "NaN among the samples: 2 of 300 samples, the first is number 40 of lead 'II'"
    assert reason(header) == expected
    found = read_wfdb_digital(header, keep_invalid=True).millivolts()
    np.testing.assert_array_equal(np.argwhere(np.isnan(found)), [[40, 1], [41, 1]])
    np.testing.assert_allclose(found[:3, 0], digital[:3, 0], rtol=1e-7)


def test_importing_the_package_imports_neither_wfdb_nor_pandas():
    code = "import sys, ecg_mlflow.records; print({'wfdb', 'pandas'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()", printed.stderr
