from __future__ import annotations

import pickle

import ecg_mlflow
from ecg_mlflow import SNOMED, Pipeline
from ecg_mlflow.records.snomed import CODES, abbreviated, in_words


def test_the_challenges_thirty_diagnoses():
    assert len(SNOMED) == len(set(SNOMED.values())) == 30
    assert (SNOMED["164889003"], SNOMED["426783006"], SNOMED["59931005"]) == ("AF", "NSR", "TInv")
    assert all(code.isdigit() for code in SNOMED)
    assert CODES["RBBB"] == "59118001"
    assert "SNOMED" in ecg_mlflow.__all__


def test_it_renames_labels():
    (action,) = Pipeline().rename_labels(SNOMED).actions
    assert action.label("164889003") == "AF"
    assert action.label("10370003") == "PR"
    assert action.label("999") == "999"


def test_a_grid_file_with_it_can_be_pickled():
    assert pickle.loads(pickle.dumps(SNOMED)) == SNOMED


def test_codes_are_shown_with_their_abbreviations():
    assert in_words("164889003") == "164889003 (AF)"
    assert in_words("A") == "A"
    assert abbreviated("164889003,59118001,1") == "AF,RBBB,1"
