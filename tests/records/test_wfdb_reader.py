from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import read_digital, read_record
from ecg_mlflow.records.wfdb_reader import wfdb_files

SMALL = np.array([[0.1], [-0.2], [0.3]])


def edit(header: Path, old: str, new: str, encoding: str = "utf-8") -> None:
    text = header.read_text()
    assert old in text
    header.write_bytes(text.replace(old, new).encode(encoding))


def date(header: Path, words: str) -> None:
    """Put a date and time after the record line."""
    first = header.read_text().splitlines()[0]
    edit(header, first, f"{first} {words}")


def reason(header: Path) -> str:
    with pytest.raises(RecordError) as caught:
        read_digital(header)
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


def test_samples_gain_and_baseline_are_those_of_the_file(tmp_path, write_record):
    signal = np.array([[-1.0, 0.5], [0.0, 0.25], [1.0, -0.5]])
    record = read_digital(write_record(tmp_path, "R", signal, gain=200, baseline=1024))
    assert record.samples.dtype == np.int16
    assert record.samples.tolist() == [[824, 1124], [1024, 1074], [1224, 924]]
    assert (record.gain.tolist(), record.baseline.tolist()) == ([200, 200], [1024, 1024])
    np.testing.assert_array_equal(record.millivolts(), signal.astype(np.float32))
    # Samples beyond 16 bits become millivolts.
    signal = np.array([[100.0], [-100.0], [0.25]])
    record = read_digital(write_record(tmp_path, "S", signal, fmt="24", gain=4000, baseline=3))
    assert record.samples.dtype == np.float32
    assert (record.gain.tolist(), record.baseline.tolist()) == ([1], [0])
    np.testing.assert_allclose(record.samples, signal)
    far = write_record(tmp_path, "T", signal * 10 - 2**25, gain=1, baseline=2**25)
    assert read_digital(far).samples.dtype == np.float32


@pytest.mark.parametrize(
    ("written", "unit", "gain", "per_unit", "encoding"),
    [
        ("mV", "mV", 200, 1, "utf-8"),
        ("uV", "uV", 2, 1e-3, "utf-8"),
        ("uV", "µV", 2, 1e-3, "utf-8"),
        ("uV", "µV", 2, 1e-3, "latin-1"),
        ("nV", "nV", 2, 1e-6, "utf-8"),
        ("V", "V", 9e3, 1e3, "utf-8"),
    ],
)
def test_every_voltage_becomes_millivolts(
    tmp_path, write_record, written, unit, gain, per_unit, encoding
):
    signal = np.array([[1.0], [-0.5], [3.5]])
    header = write_record(tmp_path, "R", signal, unit=written, gain=gain)
    edit(header, f"/{written}", f"/{unit}", encoding)
    expected = np.rint(signal * gain) / gain * per_unit
    np.testing.assert_allclose(read_record(header).signal, expected, rtol=1e-6)
    for none in ("0/mV", "") if gain == 200 else ():  # means 200 per mV
        first, line = header.read_text().splitlines()[:2]
        header.write_text(f"{first}\n{' '.join(line.split()[:2])} {none}\n")
        np.testing.assert_allclose(read_record(header).signal, signal)


@pytest.mark.parametrize("per_frame", [(2, 2), (1, 2)])
def test_several_samples_a_frame_give_the_higher_frequency(tmp_path, wrsamp, per_frame):
    samples = [np.arange(10 * n, dtype=np.int64) * n for n in per_frame]
    wrsamp(
        "R", fs=100, units=["mV"] * 2, sig_name=["I", "II"], e_d_signal=samples,
        samps_per_frame=list(per_frame), fmt=["16"] * 2, adc_gain=[1] * 2, baseline=[0] * 2,
        write_dir=str(tmp_path),
    )  # fmt: skip
    if per_frame == (1, 2):
        expected = "leads of different sampling frequencies: 100 Hz, 200 Hz"
        assert reason(tmp_path / "R.hea") == expected
        return
    record = read_record(tmp_path / "R.hea")
    assert record.fs == 200
    np.testing.assert_array_equal(record.signal, np.stack(samples, axis=1))
    (tmp_path / "whole.hea").write_text("whole/2 2 100 20\nR 10\nR 10\n")
    whole = read_record(tmp_path / "whole.hea")
    assert whole.fs == 200
    np.testing.assert_array_equal(whole.signal, np.concatenate([record.signal] * 2))


@pytest.fixture
def segments(tmp_path, write_record):
    """Write part0 of leads I and II, part1 of II and I, part2 of I, and a header that joins."""
    signal = np.arange(10).reshape(5, 2) / 10
    write_record(tmp_path, "part0", signal[:2], gain=1000, leads=["I", "II"])
    write_record(tmp_path, "part1", signal[2:, ::-1], gain=2000, leads=["II", "I"])
    write_record(tmp_path, "part2", signal[:, :1], leads=["I"])
    write_record(tmp_path, "quick", np.zeros((6, 2)), fs=500, leads=["I", "II"])
    layout = "".join(f"~ 0 200/mV 12 0 0 0 0 {lead}\n" for lead in ("I", "II"))
    (tmp_path / "layout.hea").write_text(f"layout 2 250 0\n{layout}")
    (tmp_path / "ring.hea").write_text("ring/1 2 250 5\nwhole 5\n")

    def join(*lines, n_samples=5):
        text = f"whole/{len(lines)} 2 250 {n_samples}\n" + "\n".join(lines) + "\n"
        (tmp_path / "whole.hea").write_text(text)
        return tmp_path / "whole.hea", signal

    return join


@pytest.mark.parametrize("odd_date", [False, True])
@pytest.mark.parametrize("first", [(), ("layout 0",)])
def test_segments_are_joined_by_the_names_of_leads(segments, tmp_path, odd_date, first):
    header, signal = segments(*first, "part0 2", "part1 3")
    if odd_date:
        date(header, "2014-05-08 05:05:15")
        date(tmp_path / "part1.hea", "2014-05-08 05:05:15")
    record = read_digital(header)
    assert record.leads == ("I", "II")
    np.testing.assert_allclose(record.samples, signal, rtol=1e-6)
    names = [file.name for file in wfdb_files(header) if file.name != "layout.hea"]
    assert names == ["whole.hea", "part0.hea", "part0.dat", "part1.hea", "part1.dat"]


@pytest.mark.parametrize(
    ("lines", "message", "n_valid"),
    [
        (("part0 2", "~ 3"), "NaN .* 3 of 5 samples .* number 2 of lead 'I'", 4),
        (("layout 0", "part2 5"), "NaN .* 5 of 5 samples .* of lead 'II'", 5),
        (("part0 3", "~ 2"), "segment unlike its record: part0 has 2 samples", None),
        (("part2 5", "part0 2"), "part0 has 2 .* of leads I, II; expected are .* of I$", None),
        (("part0 2", "quick 3"), "quick has 6 samples at 500 Hz .* expected are 3 at 250 Hz", None),
        (("other 5",), "unreadable header: other.hea: No such file", None),
        (("whole 5",), "its segment whole has segments itself", None),
        (("ring 5",), "its segment ring has segments itself", None),
        (("layout 0", "~ 5"), "no samples: the record's segments have none", None),
    ],
)
def test_segments_that_do_not_make_a_record(segments, lines, message, n_valid):
    header, _ = segments(*lines)
    with pytest.raises(RecordError, match=message):
        read_digital(header)
    if n_valid is not None:
        found = read_digital(header, keep_invalid=True)
        assert np.isfinite(found.samples).sum() == n_valid


@pytest.mark.parametrize(
    "words",
    [
        *("2014-05-08 05:05:15", "05:05:15 2014-05-08", "08.05.2014", "05:05:15 31/02/2014"),
        *("2014-05-08T05:05:15Z", "05:05:15.25 8/05/2014", "05-Feb-2020 11:39:16"),
    ],
)
def test_dates_are_ignored(tmp_path, write_record, words):
    header = write_record(tmp_path, "R", SMALL)
    date(header, words)
    np.testing.assert_allclose(read_record(header).signal, SMALL)
    assert wfdb_files(header) == (header, tmp_path / "R.dat")


def test_real_records_with_new_and_old_headers(real_data, sample_records, tmp_path):
    record = read_record(sample_records / "A00001.hea")
    assert (record.fs, record.leads, record.signal.shape) == (300, ("ECG",), (9000, 1))
    np.testing.assert_allclose(record.signal[:3, 0], [-0.127, -0.162, -0.197])
    for old in (real_data / "old-style-headers").glob("*.hea"):
        for file in (old, sample_records / old.with_suffix(".mat").name):
            (tmp_path / file.name).symlink_to(file)
        new = read_record(sample_records / old.name)
        np.testing.assert_array_equal(read_record(tmp_path / old.name).signal, new.signal)
    assert len(list(tmp_path.glob("*.hea"))) == 3


def test_files_that_are_not_there(tmp_path, write_record):
    header = write_record(tmp_path / "set [1]* (µ)", "R", SMALL)
    edit(header, "R 1 250 3", "R 1 250")  # the file's size tells the length
    np.testing.assert_allclose(read_record(header).signal, SMALL)
    (header.parent / "R.dat").write_bytes(b"")
    assert reason(header) == "no samples: R.dat is empty"
    (header.parent / "R.dat").unlink()
    assert reason(header) == "missing signal file: R.dat"
    header.unlink()
    assert reason(header) == "unreadable header: R.hea: No such file or directory"


@pytest.mark.parametrize(("fmt", "expected"), [("16", 1000), ("212", 750), ("24", 1500)])
@pytest.mark.parametrize("missing", [1, 3, 200])
def test_truncated_signal_file(tmp_path, write_record, fmt, expected, missing):
    header = write_record(tmp_path, "R", np.zeros((500, 1)), fmt=fmt)
    size = (tmp_path / "R.dat").stat().st_size
    os.truncate(tmp_path / "R.dat", size - missing)
    found = f"R.dat has {size - missing} bytes, the header requires {expected}"
    assert reason(header) == f"truncated signal file: {found}"
    if fmt == "16":
        edit(header, "R.dat 16", "R.dat 16:4")  # a skewed lead
        assert reason(header) == f"truncated signal file: {found}"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("", "broken header: it is empty"),
        ("# a comment\n\n", "broken header: it is empty"),
        ("R 2 250 500\nR.dat 16 1000/mV\n", "broken header: it declares 2 leads and describes 1"),
        ("R 1 250 500\n", "broken header: it declares 1 leads and describes 0"),
        ("R 0 250 500\n", "broken header: it declares 0 leads and describes 0"),
        ("R 1 250 0\nR.dat 16 1000/mV\n", "no samples"),
        ("S 1 250 500\nR.dat 16 1000/mV\n", "header of another record: it names 'S'"),
        ("R 1 250 500\nR.dat 17 1000/mV\n", "unreadable signal file: "),
        ("R 1 250 500\nR.dat 16 1000/mmHg\n", "unit is not a voltage: lead 'lead 1' is in 'mmH"),
        ("R 1 250 500000000000000\nR.dat 16 1000/mV\n", "truncated signal file: "),
    ],
)
def test_broken_headers(tmp_path, write_record, text, kind):
    header = write_record(tmp_path, "R")
    header.write_text(text)
    assert reason(header).startswith(kind)


@pytest.mark.parametrize(
    ("fmt", "bits"),
    [*(("80", 8), ("508", 8), ("212", 12), ("16", 16)), *(("516", 16), ("24", 24), ("32", 32))],
)
def test_wfdbs_invalid_sample_is_nan(tmp_path, write_record, fmt, bits):
    signal = np.zeros((300, 2))
    lowest = -(2.0 ** (bits - 1))  # marks an invalid sample
    signal[:3, 0] = [lowest + 1, -lowest - 1, 7]
    signal[[40, 41], 1] = lowest
    header = write_record(tmp_path, "R", signal, fmt=fmt, gain=1, leads=["I", "II"])
    expected = "2 of 300 samples are invalid or missing, the first is number 40 of lead 'II'"
    assert reason(header) == f"NaN among the samples: {expected}"
    found = read_digital(header, keep_invalid=True).millivolts()
    np.testing.assert_array_equal(np.argwhere(np.isnan(found)), [[40, 1], [41, 1]])
    np.testing.assert_allclose(found[:3, 0], signal[:3, 0], rtol=1e-7)


def test_importing_the_package_imports_neither_wfdb_nor_pandas():
    code = "import sys, ecg_mlflow.records; print({'wfdb', 'pandas'} & set(sys.modules))"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == "set()", printed.stderr


def test_a_record_line_may_name_the_signal_file(tmp_path, write_record):
    header = write_record(tmp_path, "R", SMALL)
    edit(header, "R 1 250", "R.mat 1 250")
    assert read_record(header).id == "R"


def test_what_is_no_regular_file_is_not_opened(tmp_path, write_record):
    header = write_record(tmp_path, "R", SMALL)
    (tmp_path / "R.dat").unlink()
    os.mkfifo(tmp_path / "R.dat")
    assert reason(header) == "unreadable signal file: R.dat is no regular file"
    for name in ("F.hea", "F.edf"):
        os.mkfifo(tmp_path / name)
        assert reason(tmp_path / name).endswith(f"{name} is no regular file")
    edit(header, "R.dat", "..")
    assert reason(header) == "unreadable signal file: .. is no regular file"


def test_a_header_of_many_leads_is_read_in_a_moment(tmp_path, write_record):
    """wfdb's own reader takes time quadratic in the number of lines."""
    header = write_record(tmp_path, "R", SMALL)
    first, line = header.read_text().splitlines()[:2]
    header.write_text("\n".join([first.replace("R 1", "R 20000"), *[line] * 20_000]))
    assert reason(header).startswith("truncated signal file")
