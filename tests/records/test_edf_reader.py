from __future__ import annotations

import re
import sys

import numpy as np
import pytest
from edfio import Bdf, BdfSignal, Edf, EdfAnnotation, EdfSignal
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_mlflow.errors import BadRecordsError, ExtraMissingError, RecordError
from ecg_mlflow.records import load_corpus, read_digital, read_record
from ecg_mlflow.records.reading import Reading


def wave(mv=1.0, fs=250, seconds=4):
    return mv * np.sin(2 * np.pi * 1.3 * np.arange(fs * seconds) / fs)


def signal(label, data=None, fs=250, unit="mV", **more):
    return EdfSignal(
        wave(fs=fs) if data is None else data, fs, label=label, physical_dimension=unit, **more
    )


def write_edf(path, *signals, **more):
    path.parent.mkdir(parents=True, exist_ok=True)
    Edf(list(signals), **more).write(path)
    return path


def load_corpus_of(path, **how):
    (path.parent / "REFERENCE.csv").write_text(f"{path.stem},N\n")
    return load_corpus(f"{path}*", **how)


def reason(path):
    with pytest.raises(RecordError) as caught:
        read_digital(path)
    return str(caught.value)


@pytest.mark.parametrize(("unit", "per_mv"), [("mV", 1), ("uV", 1000), ("V", 0.001)])
def test_samples_stay_as_the_converter_gave_them(tmp_path, unit, per_mv):
    limits = {"physical_range": (-2 * per_mv, 2 * per_mv), "digital_range": (-2000, 1999)}
    one = signal("ECG I", per_mv * wave(), unit=unit, **limits)
    two = signal("ECG II", 0.5 * wave(), physical_range=(-1, 4), digital_range=(0, 4095))
    path = write_edf(tmp_path / "E1.edf", one, two)
    record = read_digital(path)
    assert record.samples.dtype == np.int16
    np.testing.assert_array_equal(record.samples, np.stack([one.digital, two.digital], axis=1))
    assert record.gain == pytest.approx([3999 / 4, 4095 / 5])
    assert record.baseline == pytest.approx([-0.5, 819.0])
    assert (record.id, record.fs, record.leads) == ("E1", 250, ("I", "II"))
    np.testing.assert_allclose(record.millivolts()[:, 0], wave(), atol=1e-3)


def test_signals_that_are_no_ecg_are_ignored_if_some_are(tmp_path):
    path = write_edf(
        tmp_path / "E1.edf",
        signal("Resp", fs=25, unit="Ohm"),
        signal("EKG V5"),
        signal("ECG Lead aVR"),
        annotations=[EdfAnnotation(1.0, None, "P wave")],
    )
    assert read_digital(path).leads == ("V5", "aVR")
    path = write_edf(tmp_path / "E2.edf", signal("channel 1"), signal("channel 2"))
    assert read_digital(path).leads == ("channel 1", "channel 2")


@pytest.mark.parametrize(
    ("signals", "fault"),
    [
        ([signal("ECG I"), signal("ECG II", fs=500)], "leads of different .*: 250 Hz, 500 Hz"),
        ([signal("ECG I", unit="mmHg")], "unit is not a voltage: lead 'ECG I' is in 'mmHg'"),
        ([], "no signals: the EDF file holds annotations only"),
    ],
)
def test_recordings_that_can_not_be_used(tmp_path, signals, fault):
    start = [EdfAnnotation(0.0, None, "start")]
    assert re.match(fault, reason(write_edf(tmp_path / "E1.edf", *signals, annotations=start)))


def test_the_micro_sign_in_any_encoding(tmp_path):
    path = write_edf(tmp_path / "E1.edf", signal("ECG I", 1000 * wave(), unit="uV"))
    data = bytearray(path.read_bytes())
    assert data[352:354] == b"uV"
    for sign in ("\u00b5".encode("latin-1"), "\u00b5".encode(), "\u03bc".encode()):
        data[352:360] = (sign + b"V").ljust(8)
        path.write_bytes(data)
        np.testing.assert_allclose(read_record(path).signal[:, 0], wave(), atol=1e-3)


def test_signals_that_are_no_ecg_are_named(tmp_path):
    path = write_edf(
        tmp_path / "E1.edf",
        *(signal("EEG C3", unit="uV"), signal("ECGL"), signal("ECGR"), signal("Resp", fs=25)),
    )
    record = read_digital(path)
    assert record.leads == ("ECGL", "ECGR")
    assert record.ignored == ("EEG C3 (uV, 250 Hz)", "Resp (mV, 25 Hz)")
    assert read_digital(path, Reading("eeg c3")).leads == ("eeg c3",)
    write_edf(path, signal("EEG C3"), signal("EEG C4"))
    assert reason(path).startswith("no ECG: its channels are EEG C3, EEG C4; name those that are")


def test_a_file_with_more_than_its_header_describes(tmp_path):
    path = write_edf(tmp_path / "E1.edf", signal("ECG I"), data_record_duration=1)
    whole = path.read_bytes()
    for more, kind in ((4, None), (5, "oversized"), (500, "oversized")):
        path.write_bytes(whole + b"\0" * more)
        if kind:
            expected = f"it has {2512 + more} bytes, its header requires 2512"
            assert reason(path) == f"oversized EDF file: {expected}"
        else:
            assert len(read_digital(path).samples) == 1000


def test_invalid_samples_are_nan(tmp_path):
    """What no sample may be, or what is far below all of them, isn't an amplitude."""
    limits = {"physical_range": (-32.768, 32.767)}
    for fill, digital_range in ((-32768, (-32768, 32767)), (-32000, (-30000, 30000))):
        samples = np.rint(1000 * wave()).astype(np.int16)
        samples[400:450] = fill
        digital = EdfSignal.from_digital(samples, 250, label="ECG I", physical_dimension="mV",
                                         digital_range=(-32768, 32767), **limits)  # fmt: skip
        path = write_edf(tmp_path / "E1.edf", digital)
        data = bytearray(path.read_bytes())
        data[376:392] = b"".join(str(one).encode().ljust(8) for one in digital_range)
        path.write_bytes(data)
        assert "50 of 1000 samples are invalid or missing, the first is number 400" in reason(path)
        assert np.isnan(read_digital(path, keep_invalid=True).samples).sum() == 50
    # A signal that reaches its lowest value is none of that.
    low = np.clip(wave(), -0.5, 1)
    assert len(read_digital(write_edf(path, signal("ECG I", low))).samples) == 1000


def test_bdf(tmp_path):
    """24 bits a sample: in mV."""
    one = BdfSignal(1000 * wave(), 250, label="EKG", physical_dimension="uV",
                    physical_range=(-262144, 262143))  # fmt: skip
    path = tmp_path / "E1.bdf"
    Bdf([one, BdfSignal(wave(), 250, label="A1", physical_dimension="uV")]).write(path)
    record = read_digital(path)
    assert (record.leads, record.ignored) == (("EKG",), ("A1 (uV, 250 Hz)",))
    np.testing.assert_allclose(record.millivolts()[:, 0], wave(), atol=1e-4)
    path.write_bytes(b"\xffBIOSEMI" + b"x" * 300)
    assert reason(path).startswith("unreadable EDF file")


def test_broken_files(tmp_path):
    path = tmp_path / "E1.edf"
    assert "No such file" in reason(path)
    for data in (b"", b"hello", b"0" * 300):
        path.write_bytes(data)
        assert reason(path).startswith("unreadable EDF file")
    write_edf(path, signal("ECG I"), data_record_duration=1)
    whole = path.read_bytes()
    for missing, left in ((1, 3), (100, 3), (700, 2), (len(whole) - 512, 0)):
        path.write_bytes(whole[:-missing])
        expected = f"it has {left} whole data records, its header requires 4"
        assert reason(path) in (
            f"truncated EDF file: {expected}",
            "unreadable EDF file: cannot mmap an empty file",
        )


@pytest.mark.parametrize(
    ("place", "text", "why"),
    [
        (244, "0", "its data records last 0 s"),
        (244, "-1", "no sampling frequency: the header gives -250 Hz"),
        (244, "nan", "its header says 'nan' for the duration of a data record"),
        (236, "4,0", "its header says '4,0' for the number of data records"),
        (236, "9" * 8, "it has 4 whole data records, its header requires 1e+08"),
        (252, "99", ""),
    ],
)
def test_a_false_header_is_one_bad_record(tmp_path, place, text, why):
    write_edf(tmp_path / "E1.edf", signal("ECG I"), data_record_duration=1)
    path = write_edf(tmp_path / "E2.edf", signal("ECG I"), data_record_duration=1)
    data = bytearray(path.read_bytes())
    data[place : place + len(text.ljust(8))] = text.ljust(8).encode()
    path.write_bytes(data)
    assert why in reason(path)
    (tmp_path / "REFERENCE.csv").write_text("E1,N\nE2,A\n")
    corpus = load_corpus(str(tmp_path))
    assert (corpus.ids, [one.id for one in corpus.bad]) == (("E1",), ["E2"])


def test_a_recording_with_gaps(tmp_path):
    edf = Edf(
        [signal("ECG I")], annotations=[EdfAnnotation(0.5, None, "mark")], data_record_duration=1
    )
    data = edf.to_bytes()
    # The third data record begins two seconds later than it would without a gap.
    assert data.count(b"+2\x14\x14") == 1
    path = tmp_path / "E1.edf"
    data = data.replace(b"+2\x14\x14", b"+4\x14\x14")
    path.write_bytes(data.replace(b"+3\x14\x14", b"+5\x14\x14"))
    assert "500 of 1500 samples are invalid or missing, the first is number 500" in reason(path)
    found = read_digital(path, keep_invalid=True)
    expected = read_digital(write_edf(tmp_path / "E2.edf", signal("ECG I"))).millivolts()
    np.testing.assert_allclose(found.samples[:500], expected[:500], atol=1e-3)
    np.testing.assert_allclose(found.samples[1000:], expected[500:], atol=1e-3)
    assert np.isnan(found.samples[500:1000]).all()
    for onset in (b"+1", b"+9"):
        path.write_bytes(data.replace(b"+3\x14\x14", onset + b"\x14\x14"))
        if onset == b"+1":
            assert reason(path).startswith("data records out of order: 4 of 1 s each, from 0 to")
        else:
            assert "1500 of 2500 samples are invalid" in reason(path)
            found = load_corpus_of(path, gaps="avoid:1")
            assert (found.ids, found.n_samples.tolist()) == (
                ("E1#0000", "E1#1000", "E1#2250"),
                [500, 250, 250],
            )


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 1023), st.binary(min_size=1, max_size=8))
def test_whatever_a_header_says_is_a_record_or_a_bad_one(tmp_path_factory, place, content):
    folder = tmp_path_factory.getbasetemp()
    data = bytearray(Edf([signal("ECG I"), signal("RESP")], data_record_duration=1).to_bytes())
    data[place : place + len(content)] = content
    (folder / "E1.edf").write_bytes(data)
    try:
        record = read_digital(folder / "E1.edf")
    except RecordError:
        return
    assert len(record.samples) == 1000
    assert np.isfinite(record.millivolts()).all()
    assert 0 < record.fs < np.inf


def test_no_edfio(tmp_path, monkeypatch):
    path = write_edf(tmp_path / "few" / "E1.edf", signal("ECG I"))
    with pytest.raises(BadRecordsError, match="no #Dx in its header"):
        load_corpus(str(path.parent), labels="headers")
    monkeypatch.setitem(sys.modules, "edfio", None)
    for read, place in ((read_digital, path), (load_corpus, path.parent)):
        (path.parent / "REFERENCE.csv").write_text("E1,N\n")
        with pytest.raises(ExtraMissingError, match=r"pip install 'ecg_mlflow\[edf\]'"):
            read(str(place))


def test_a_corpus_of_both_forms(tmp_path, write_record):
    folder = tmp_path / "both"
    write_record(folder, "R1", leads=["I"])
    for name in ("R2", "R3"):
        write_edf(folder / f"{name}.edf", signal("ECG I"))
    write_edf(folder / "R4.EDF", signal("ECG I", fs=250), signal("ECG II", fs=500))
    # The same recording in another form.
    write_edf(folder / "R1.edf", signal("ECG I"))
    (folder / "REFERENCE.csv").write_text("R1,N\nR2,A\nR3,N\nR4,N\n")
    corpus = load_corpus(str(folder))
    assert (corpus.ids, corpus.labels) == (("R1", "R2", "R3"), ("N", "A", "N"))
    assert (corpus.leads, corpus.signals.data.dtype) == ((("I",),) * 3, np.int16)
    [bad] = corpus.bad
    assert (bad.id, bad.kind) == ("R4", "leads of different sampling frequencies")
    assert corpus.provenance.notes == ("ignored 1 EDF files beside headers of the same name",)
    assert corpus.copies == (("R2", "R3"),)
