from __future__ import annotations

import pickle

import numpy as np

import ecg_mlflow
from ecg_mlflow import SNOMED, Pipeline
from ecg_mlflow.errors import BadRecordsError
from ecg_mlflow.records.record import BadRecord, bad_records_error, list_bad_records, to_millivolts
from ecg_mlflow.records.snomed import CODES, abbreviated, in_words


def test_millivolts_of_each_lead():
    samples = np.array([[1024, 0], [1224, -5], [824, 32767]], np.int16)
    gain, baseline = np.array([200, 10], np.float32), np.array([1024, 0], np.float32)
    signal = to_millivolts(samples, gain, baseline)
    assert signal.dtype == np.float32
    np.testing.assert_allclose(signal, [[0, 0], [1, -0.5], [-1, 3276.7]])
    assert samples[0, 0] == 1024


def test_bad_records_are_listed_by_kind_the_most_frequent_first():
    bad = [
        BadRecord("R3", "d/R3.hea", "no label: not in REFERENCE.csv"),
        BadRecord("R9", "d/R9.hea", "truncated signal file: R9.dat has 7 bytes"),
        BadRecord("R1", "d/R1.hea", "no label: not in REFERENCE.csv"),
    ]
    assert list_bad_records(bad) == [
        "no label (2):",
        "  R1  d/R1.hea  not in REFERENCE.csv",
        "  R3  d/R3.hea  not in REFERENCE.csv",
        "truncated signal file (1):",
        "  R9  d/R9.hea  R9.dat has 7 bytes",
    ]


def test_the_error_names_all_of_a_few_and_counts_the_rest_of_many():
    many = [BadRecord(f"R{i:03}", f"R{i:03}.hea", "no label") for i in range(120)]
    error = bad_records_error([*many[:3], many[0]])
    assert isinstance(error, BadRecordsError)
    assert str(error).startswith("3 records can't be used (4 faults):\nno label (4):\n  R000  R000")
    assert str(error).endswith("on_bad_record=skip.")
    lines = str(bad_records_error(many)).splitlines()
    assert lines[0] == "120 records can't be used (120 faults):"
    assert lines[-2] == "... and 71 more"
    assert len(lines) == 53


def test_the_challenges_thirty_diagnoses():
    assert len(SNOMED) == len(set(SNOMED.values())) == 30
    assert (SNOMED["164889003"], SNOMED["426783006"], SNOMED["59931005"]) == ("AF", "NSR", "TInv")
    assert all(code.isdigit() for code in SNOMED)
    assert CODES["RBBB"] == "59118001"
    assert "SNOMED" in ecg_mlflow.__all__
    assert pickle.loads(pickle.dumps(SNOMED)) == SNOMED  # with grid files that name it
    (action,) = Pipeline().rename_labels(SNOMED).actions
    assert [action.label(code) for code in ("164889003", "10370003", "999")] == ["AF", "PR", "999"]
    assert (in_words("164889003"), in_words("A")) == ("164889003 (AF)", "A")
    assert abbreviated("164889003,59118001,1") == "AF,RBBB,1"
