"""Whatever header and signal file say: a record is read as wfdb reads it, or is a bad record."""

from __future__ import annotations

import math
import warnings
from itertools import groupby

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_mlflow.errors import RecordError
from ecg_mlflow.records import read_digital
from ecg_mlflow.records.wfdb_signals import import_wfdb

#: Bytes of n samples; of compressed formats wfdb writes the files, see `test_wfdb_reader.py`.
BYTES = {
    **{"8": lambda n: n, "80": lambda n: n, "16": lambda n: 2 * n, "61": lambda n: 2 * n},
    **{"160": lambda n: 2 * n, "24": lambda n: 3 * n, "32": lambda n: 4 * n},
    **{"212": lambda n: math.ceil(1.5 * n), "310": lambda n: math.ceil(n / 3) * 4},
    "311": lambda n: math.ceil(n / 3) * 4,
}
PER_MV = {"mV": 1, "uV": 1000, "V": 0.001, "nV": 1e6, "mv": 1, "\u00b5V": 1000}
NAMES = ("I", "II", "aVR", "AVR", "V1", "MLII", "ECG", "PLETH", "RESP", "EEG C3", "lead", "")


@st.composite
def records(draw):
    """Return a header, the bytes of its signal files, and how many frames there are."""
    n_frames = draw(st.integers(1, 12))
    n_leads = draw(st.integers(1, 4))
    files = sorted(draw(st.lists(st.sampled_from("ab"), min_size=n_leads, max_size=n_leads)))
    fmt = {file: draw(st.sampled_from([*BYTES])) for file in "ab"}
    offset = {file: draw(st.sampled_from([0, 0, 24])) for file in "ab"}
    per_frame = draw(st.sampled_from([(1,), (1,), (2,), (1, 2, 4)]))
    signals = [
        {
            "file": file,
            "per_frame": draw(st.sampled_from(per_frame)),
            "skew": draw(st.sampled_from([0, 0, 0, 1, 3, 20])),
            "gain": draw(st.sampled_from(["200", "1000(0)", "0", "-5.5(7)", "1e2(-70000)"])),
            "unit": draw(st.sampled_from([*PER_MV, "mmHg", "NU"])),
            "zero": draw(st.sampled_from([0, 0, 1024])),
            "initial": draw(st.integers(-50, 50)),
            "checksum": draw(st.sampled_from(["", "0", "right", "right", "right", "wrong"])),
            "name": draw(st.sampled_from(NAMES)),
        }
        for file in files
    ]
    data = {}
    for file, members in groupby(signals, key=lambda one: one["file"]):
        n_samples = n_frames * sum(one["per_frame"] for one in members)
        size = offset[file] + BYTES[fmt[file]](n_samples)
        size += draw(st.sampled_from([0, 0, 0, 0, 4, 1, 5, 24, -1, -4]))
        data[file] = draw(st.binary(min_size=max(0, size), max_size=max(0, size)))
    return n_frames, draw(st.sampled_from([True, True, False])), fmt, offset, signals, data


def write(folder, record, checksums):
    n_frames, says_length, fmt, offset, signals, data = record
    lines = [f"R {len(signals)} 250" + (f" {n_frames}" if says_length else "")]
    for one, checksum in zip(signals, checksums, strict=True):
        form = fmt[one["file"]] + f"x{one['per_frame']}:{one['skew']}+{offset[one['file']]}"
        rest = f"{one['gain']}/{one['unit']} 12 {one['zero']} {one['initial']}"
        if checksum:
            rest += f" {checksum} 0 {one['name']}"
        lines.append(f"R{one['file']}.dat {form} {rest}")
    (folder / "R.hea").write_text("\n".join(lines) + "\n")
    for file, content in data.items():
        (folder / f"R{file}.dat").write_bytes(content)


def as_wfdb_reads(folder, *, physical):
    """Read all signals as they are stored: of several skews wfdb raises errors of NumPy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        record = import_wfdb().rdrecord(
            str(folder / "R"), smooth_frames=False, physical=physical, ignore_skew=True
        )
    return record.e_p_signal if physical else record.e_d_signal


def right_checksums(folder, record):
    """Return the sums of the samples that wfdb reads; 0 where it can't (digital format 61)."""
    signals = record[4]
    write(folder, record, ["0" if one["checksum"] else "" for one in signals])
    try:
        return [int(one.sum()) % 2**16 for one in as_wfdb_reads(folder, physical=False)]
    except (ValueError, TypeError, IndexError, OSError):
        return [0] * len(signals)


def check(folder, record):
    """Compare a record that is read with what wfdb reads; return whether it is read."""
    signals = record[4]
    checksums = [
        {"": "", "0": "0", "wrong": "12345"}.get(one["checksum"], str(right))
        for one, right in zip(signals, right_checksums(folder, record), strict=True)
    ]
    write(folder, record, checksums)
    try:
        found = read_digital(folder / "R.hea", keep_invalid=True)
    except RecordError:
        return False
    assert "12345" not in checksums
    stored = as_wfdb_reads(folder, physical=True)
    names = [one["name"] if one["checksum"] else "" for one in signals]
    names = [name or f"lead {i + 1}" for i, name in enumerate(names)]
    others = [
        f"{name} ({one['unit']}, {250 * one['per_frame']:g} Hz)"
        for name, one in zip(names, signals, strict=True)
    ]
    taken = [i for i, other in enumerate(others) if other not in found.ignored]
    assert [names[i] for i in taken] == list(found.leads)
    assert {250 * signals[i]["per_frame"] for i in taken} == {found.fs}
    starts = [signals[i]["skew"] * signals[i]["per_frame"] for i in taken]
    n_samples = len(stored[taken[0]]) - max(starts)
    for column, i, start in zip(found.millivolts().T, taken, starts, strict=True):
        expected = stored[i][start : start + n_samples] / PER_MV[signals[i]["unit"]]
        np.testing.assert_allclose(column, expected, rtol=2e-5, atol=1e-6)
    return True


@st.composite
def segmented(draw):
    """Return headers and signal files of a record of segments, fixed or variable, by name."""
    names = draw(st.permutations(["I", "II", "PLETH"]))[: draw(st.integers(1, 3))]
    lines, files, n_frames = [], {}, 0
    if variable := draw(st.booleans()):
        units = {name: "NU" if name == "PLETH" else "mV" for name in names}
        layout = [f"~ 0 200/{units[name]} 12 0 0 0 0 {name}" for name in names]
        files["L.hea"] = "\n".join([f"L {len(names)} 250 0", *layout])
        lines.append("L 0")
    for k in range(draw(st.integers(1, 3))):
        length = draw(st.integers(1, 5))
        n_frames += length
        if variable and draw(st.booleans()):
            lines.append(f"~ {length}")
            continue
        present = names if not variable else draw(st.permutations(names))[: draw(st.integers(1, 3))]
        fs = draw(st.sampled_from([250, 250, 250, 250, 125]))
        said = draw(st.sampled_from([length, length, length, length + 1]))
        signals = [
            f"S{k}.dat 16 {draw(st.sampled_from(['200', '1000(5)']))}/mV 12 0 0 0 0 {name}"
            for name in present
        ]
        files[f"S{k}.hea"] = "\n".join([f"S{k} {len(present)} {fs} {said}", *signals])
        size = 2 * said * len(present)
        files[f"S{k}.dat"] = draw(st.binary(min_size=size, max_size=size))
        lines.append(f"S{k} {length}")
    first = f"R/{len(lines)} {len(names)} 250 {n_frames}"
    return {**files, "R.hea": "\n".join([first, *lines])}


@settings(max_examples=100, deadline=None)
@given(segmented())
def test_segments_are_joined_as_wfdb_joins_them_or_refused(tmp_path_factory, files):
    folder = tmp_path_factory.mktemp("record")
    for name, content in files.items():
        content = content.encode() if isinstance(content, str) else content
        (folder / name).write_bytes(content)
    try:
        found = read_digital(folder / "R.hea", keep_invalid=True)
    except RecordError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = import_wfdb().rdrecord(str(folder / "R"))
    assert found.fs == expected.fs
    columns = [expected.sig_name.index(lead) for lead in found.leads]
    np.testing.assert_allclose(found.samples, expected.p_signal[:, columns], rtol=2e-5, atol=1e-6)


@settings(max_examples=150, deadline=None)
@given(records())
def test_a_record_is_read_as_wfdb_reads_it_or_refused(tmp_path_factory, record):
    check(tmp_path_factory.mktemp("record"), record)


@pytest.mark.nightly
@settings(max_examples=10_000, deadline=None)
@given(records())
def test_ten_thousand_records(tmp_path_factory, record):
    check(tmp_path_factory.getbasetemp(), record)
