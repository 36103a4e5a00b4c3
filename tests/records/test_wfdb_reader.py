from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import read_digital, read_record
from ecg_mlflow.records.reading import Reading
from ecg_mlflow.records.wfdb_reader import wfdb_files
from ecg_mlflow.records.wfdb_signals import import_wfdb

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
        expected = "leads of different sampling frequencies: 100 Hz, 200 Hz; choose with leads="
        assert reason(tmp_path / "R.hea") == expected
        for lead, fs, one in zip(("I", "II"), (100, 200), samples, strict=True):
            record = read_digital(tmp_path / "R.hea", Reading(lead))
            assert (record.fs, record.leads) == (fs, (lead,))
            np.testing.assert_array_equal(record.samples[:, 0], one)
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
    write_record(tmp_path, "other_leads", signal[:1], leads=["I", "V1"])
    write_record(tmp_path, "quick", np.zeros((6, 2)), fs=500, leads=["I", "II"])
    layout = "".join(f"~ 0 200/mV 12 0 0 0 0 {lead}\n" for lead in ("I", "II"))
    (tmp_path / "layout.hea").write_text(f"layout 2 250 0\n{layout}")
    (tmp_path / "ring.hea").write_text("ring/1 2 250 5\nwhole 5\n")

    def join(*lines):
        n_samples = sum(int(line.split()[1]) for line in lines)
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
        (("part2 5", "part0 2"), "its segments have 1 signals, it declares 2", None),
        (("part0 2", "other_leads 1"), "other_leads has leads I, V1; expected are those of", None),
        (("part0 2", "quick 3"), r"quick has I \(mV, 500 Hz\); expected is 250 Hz", None),
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


@pytest.mark.parametrize(("fmt", "expected"), [("16", 3000), ("212", 2250), ("524", None)])
def test_a_signal_file_with_more_than_its_header_describes(tmp_path, write_record, fmt, expected):
    """As when the line of a lead was deleted: all that follows would be misplaced."""
    header = write_record(tmp_path, "R", np.zeros((500, 3)), fmt=fmt)
    first, *lines = header.read_text().splitlines()
    header.write_text("\n".join([first.replace("R 3", "R 2"), *lines[:2]]))
    if expected is None:
        assert "wrong number of channels" in reason(header)
        return
    found = f"R.dat has {expected} bytes, the header requires {expected * 2 // 3}"
    assert reason(header) == f"oversized signal file: {found}"


def test_padding_at_the_end_of_a_signal_file(tmp_path, write_record):
    header = write_record(tmp_path, "R", SMALL)
    (tmp_path / "R.dat").write_bytes((tmp_path / "R.dat").read_bytes() + b"\0" * 4)
    np.testing.assert_allclose(read_record(header).signal, SMALL)
    (tmp_path / "R.dat").write_bytes((tmp_path / "R.dat").read_bytes() + b"\0")
    assert reason(header) == "oversized signal file: R.dat has 11 bytes, the header requires 6"


def test_checksums(tmp_path, write_record):
    header = write_record(tmp_path, "R", SMALL, leads=["II"])  # 100 - 200 + 300
    assert header.read_text().split()[-3:] == ["200", "0", "II"]
    for same in ("200", "-65336", "0"):
        edit(header, " 200 0 II", f" {same} 0 II")
        np.testing.assert_allclose(read_record(header).signal, SMALL)
        edit(header, f" {same} 0 II", " 200 0 II")
    edit(header, " 200 0 II", " 201 0 II")
    expected = "the samples of 'II' in R.dat sum to 200, its header says 201"
    assert reason(header) == f"wrong checksum: {expected}"


def test_channels_that_are_no_ecg_lead(tmp_path, wrsamp):
    """As in the records of MIMIC: another unit, another frequency, missing samples."""
    rng = np.random.default_rng(0)
    samples = [rng.integers(-99, 99, 4000), rng.integers(-99, 99, 1000), np.full(4000, -(2**15))]
    wrsamp(
        "R", fs=125, units=["mV", "mV", "NU"], sig_name=["II", "RESP", "PLETH"],
        e_d_signal=samples, samps_per_frame=[4, 1, 4], fmt=["16"] * 3, adc_gain=[200] * 3,
        baseline=[0] * 3, write_dir=str(tmp_path),
    )  # fmt: skip
    record = read_digital(tmp_path / "R.hea")
    assert (record.fs, record.leads) == (500, ("II",))
    assert record.ignored == ("RESP (mV, 125 Hz)", "PLETH (NU, 500 Hz)")
    np.testing.assert_array_equal(record.samples[:, 0], samples[0])


def test_skewed_leads_are_cut_to_their_common_length(tmp_path, write_record):
    signal = np.arange(20).reshape(10, 2) / 10
    header = write_record(tmp_path, "R", signal, leads=["I", "II"])
    edit(header, "R.dat 16 ", "R.dat 16:3 ")
    header.write_text(header.read_text().replace("16:3", "16", 1))
    record = read_record(header)
    np.testing.assert_allclose(record.signal[:, 0], signal[:7, 0])
    np.testing.assert_allclose(record.signal[:, 1], signal[3:, 1])
    expected = import_wfdb().rdrecord(str(header.with_suffix(""))).p_signal[:7]
    np.testing.assert_allclose(record.signal, expected, rtol=1e-6)
    edit(header, "16:3", "16:10")
    assert reason(header) == "no samples: a skew of 10 leaves none"


def test_segments_of_other_units(tmp_path, write_record):
    signal = np.arange(6).reshape(6, 1) / 10
    write_record(tmp_path, "a", signal, leads=["ECG"])
    write_record(tmp_path, "b", 1000 * signal, unit="uV", gain=1, leads=["ECG"])
    (tmp_path / "R.hea").write_text("R/2 1 250 12\na 6\nb 6\n")
    np.testing.assert_allclose(read_record(tmp_path / "R.hea").signal, [*signal, *signal])


def test_segments_of_other_channels_as_in_mimic(tmp_path, write_record):
    """A layout names all channels; segments have some of them, in orders of their own."""
    signal = np.arange(12).reshape(6, 2) / 10
    write_record(tmp_path, "a", signal, leads=["PLETH", "II"])
    write_record(tmp_path, "b", signal, leads=["II", "V"])
    write_record(tmp_path, "c", signal[:, :1], leads=["PLETH"])
    lines = "".join(f"~ 0 200/{unit} 8 0 0 0 0 {name}\n" for name, unit in
                    (("II", "mV"), ("PLETH", "NU"), ("V", "mV")))  # fmt: skip
    (tmp_path / "layout.hea").write_text(f"layout 3 250 0\n{lines}")
    header = tmp_path / "R.hea"
    header.write_text("R/5 3 250 21\nlayout 0\na 6\n~ 3\nb 6\nc 6\n")
    record = read_digital(header, keep_invalid=True)
    assert (record.leads, record.ignored) == (("II", "V"), ("PLETH (mV, 250 Hz)",))
    wfdb = import_wfdb().rdrecord(str(tmp_path / "R"))
    np.testing.assert_allclose(record.samples, wfdb.p_signal[:, [0, 2]], rtol=1e-6)
    assert "15 of 21 samples are invalid or missing, the first is number 0 of lead 'V'" in reason(
        header
    )
    edit(header, "R/5 3 250 21", "R/5 3 250 20")
    assert reason(header) == "broken header: its segments have 21 samples, it declares 20"


@pytest.mark.parametrize("fault", [ValueError("odd"), MemoryError("much"), RecursionError("deep")])
def test_whatever_a_decoder_raises_is_a_fault_of_the_record(
    tmp_path, write_record, monkeypatch, fault
):
    header = write_record(tmp_path, "R", SMALL, fmt="212")

    def fail(*_):
        raise fault

    monkeypatch.setattr(import_wfdb().io._signal, "_blocks_to_samples", fail)
    assert reason(header) == f"unreadable file: {type(fault).__name__}: {fault}"


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
        ("R 1 250 500\nR.dat 17 1000/mV\n", "unreadable signal file: R.dat is in the unknown form"),
        ("R 2 250 500\nR.dat 16\nR.dat 80\n", "broken header: the signals of R.dat must follow"),
        ("R 3 250 500\nR.dat 16\nS.dat 16\nR.dat 16\n", "broken header: the signals of R.dat"),
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
