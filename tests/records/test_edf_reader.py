from __future__ import annotations

import sys

import numpy as np
import pytest
from edfio import Edf, EdfAnnotation, EdfSignal

from ecg_mlflow.errors import BadRecordsError, ExtraMissingError, RecordError
from ecg_mlflow.records import load_corpus, read_digital, read_record
from ecg_mlflow.records.edf_reader import ecg_signals, is_ecg, lead_name


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


def reason(path):
    with pytest.raises(RecordError) as caught:
        read_digital(path)
    return str(caught.value)


@pytest.mark.parametrize(("unit", "per_mv"), [("mV", 1), ("uV", 1000), ("V", 0.001)])
def test_units_become_millivolts(tmp_path, unit, per_mv):
    path = write_edf(tmp_path / "E1.edf", signal("ECG II", per_mv * wave(), unit=unit))
    record = read_record(path, label="N")
    assert (record.id, record.fs, record.leads, record.label) == ("E1", 250.0, ("II",), "N")
    np.testing.assert_allclose(record.signal[:, 0], wave(), atol=5e-5)


def test_samples_stay_as_the_converter_gave_them(tmp_path):
    one = signal("ECG I", physical_range=(-2, 2), digital_range=(-2000, 1999))
    two = signal("ECG II", 0.5 * wave(), physical_range=(-1, 4), digital_range=(0, 4095))
    record = read_digital(write_edf(tmp_path / "E1.edf", one, two))
    assert record.digital is not None
    assert record.digital.dtype == np.int16
    np.testing.assert_array_equal(record.digital[:, 1], two.digital)
    assert record.gain == pytest.approx([3999 / 4, 4095 / 5])
    assert record.baseline == pytest.approx([-0.5, 819.0])
    expected = np.stack([one.data, two.data], axis=1)
    np.testing.assert_allclose(record.millivolts(), expected, atol=1e-5)
    assert record.files == (tmp_path / "E1.edf",)


def test_annotations_and_other_signals_are_passed_over(tmp_path):
    path = write_edf(
        tmp_path / "E1.edf",
        signal("Resp", fs=25, unit="Ohm"),
        signal("EKG V5"),
        signal("ECG Lead aVR"),
        annotations=[EdfAnnotation(1.0, None, "P wave")],
    )
    assert read_digital(path).leads == ("V5", "aVR")


def test_signals_without_a_word_of_ecg_are_all_leads(tmp_path):
    path = write_edf(tmp_path / "E1.edf", signal("channel 1"), signal("channel 2"))
    assert read_digital(path).leads == ("channel 1", "channel 2")


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("ECG I", "I"),
        ("EKG", "EKG"),
        ("ECG", "ECG"),
        ("ECG Lead II", "II"),
        ("LEAD III", "III"),
        ("ecg avl", "aVL"),
        ("EKG-V3", "V3"),
        ("ECG_V1", "V1"),
        ("v6", "V6"),
        ("ECG Z", "Z"),
        ("ECG chest", "ECG chest"),
        ("Resp", "Resp"),
        ("leader", "leader"),
    ],
)
def test_lead_names(label, name):
    assert lead_name(label) == name


def test_which_signals_are_ecg():
    assert all(map(is_ecg, ("ECG", "EKG1", "ECG Lead II", "II", "aVF", "lead v2", "ECG X")))
    assert not any(map(is_ecg, ("Resp", "EEG Fpz-Cz", "X", "SaO2", "ecgonine")))
    assert ecg_signals(["EEG", "ECG", "V1"]) == [1, 2]
    assert ecg_signals(["a", "b"]) == [0, 1]


def test_leads_of_different_frequencies(tmp_path):
    path = write_edf(tmp_path / "E1.edf", signal("ECG I"), signal("ECG II", fs=500))
    assert reason(path) == "leads of different sampling frequencies: 250 Hz, 500 Hz"


def test_a_lead_that_is_no_voltage(tmp_path):
    path = write_edf(tmp_path / "E1.edf", signal("ECG I", unit="mmHg"))
    assert reason(path).startswith("unit is not a voltage: lead 'I' is in 'mmHg'")


def test_a_truncated_file(tmp_path):
    path = write_edf(tmp_path / "E1.edf", signal("ECG I"))
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    expected = f"it has {len(whole) - 100} bytes, its header requires {len(whole)}"
    assert reason(path) == f"truncated EDF file: {expected}"


@pytest.mark.parametrize("data", [b"", b"hello", b"0" * 300])
def test_what_is_no_edf_file(tmp_path, data):
    path = tmp_path / "E1.edf"
    path.write_bytes(data)
    assert reason(path).startswith("broken EDF header")


def test_a_missing_file(tmp_path):
    assert reason(tmp_path / "E1.edf") == "unreadable EDF file: No such file or directory"


def test_annotations_only(tmp_path):
    path = write_edf(tmp_path / "E1.edf", annotations=[EdfAnnotation(0.0, None, "start")])
    assert reason(path) == "no signals: the EDF file holds annotations only"


def test_a_recording_with_gaps(tmp_path):
    edf = Edf(
        [signal("ECG I")], annotations=[EdfAnnotation(0.5, None, "mark")], data_record_duration=1
    )
    data = edf.to_bytes()
    # The third data record begins two seconds later than it would without a gap.
    assert data.count(b"+2\x14\x14") == 1
    path = tmp_path / "E1.edf"
    path.write_bytes(data.replace(b"+2\x14\x14", b"+4\x14\x14"))
    assert reason(path).startswith("gap between data records")


def test_no_edfio(tmp_path, monkeypatch):
    path = write_edf(tmp_path / "few" / "E1.edf", signal("ECG I"))
    (path.parent / "REFERENCE.csv").write_text("E1,N\n")
    monkeypatch.setitem(sys.modules, "edfio", None)
    with pytest.raises(ExtraMissingError, match=r"pip install 'ecg_mlflow\[edf\]'"):
        read_digital(path)
    with pytest.raises(ExtraMissingError, match="edfio, which is not installed"):
        load_corpus(str(path.parent))


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
    assert corpus.ids == ("R1", "R2", "R3")
    assert corpus.labels == ("N", "A", "N")
    assert corpus.leads == (("I",),) * 3
    assert corpus.signals.data.dtype == np.int16
    [bad] = corpus.bad
    assert (bad.id, bad.kind) == ("R4", "leads of different sampling frequencies")
    assert corpus.provenance.notes == ("ignored 1 EDF files beside headers of the same name",)
    assert corpus.copies == (("R2", "R3"),)


def test_edf_files_name_no_diagnoses(tmp_path):
    write_edf(tmp_path / "few" / "E1.edf", signal("ECG I"))
    with pytest.raises(BadRecordsError, match="EDF files name no diagnoses"):
        load_corpus(str(tmp_path / "few"), labels="headers")
