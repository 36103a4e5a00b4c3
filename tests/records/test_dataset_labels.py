"""Labels of public data sets against their sources' own tables."""

from __future__ import annotations

import ast
import csv
import shutil
from collections import Counter

import numpy as np
import pytest
from ecgbench.labels import challenge2020, challenge2021
from scipy.io import savemat

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records import SNOMED, load_corpus
from ecg_mlflow.records.dataset_labels import described_table, ptbxl_table
from ecg_mlflow.records.sources import load_groups


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def published(ptbxl):
    """Codes of each record of PTB-XL's table, and the statements by code."""
    statements = {row[""]: row for row in rows_of(ptbxl / "scp_statements.csv")}
    rows = rows_of(ptbxl / "ptbxl_database.csv")
    return {row["filename_lr"][-8:]: ast.literal_eval(row["scp_codes"]) for row in rows}, statements


@pytest.mark.parametrize(
    ("kind", "column", "name"),
    [
        ("super", "diagnostic", "diagnostic_class"),
        ("sub", "diagnostic", "diagnostic_subclass"),
        ("diagnostic", "diagnostic", ""),
        ("form", "form", ""),
        ("rhythm", "rhythm", ""),
        ("all", "", ""),
    ],
)
def test_ptbxl_has_the_statements_of_its_own_table(ptbxl, published, kind, column, name):
    codes_of, statements = published
    expected = {}
    for record, codes in codes_of.items():
        counted = [code for code in codes if not column or statements[code][column] == "1.0"]
        names = {statements[code][name] if name else code for code in counted}
        if names:
            expected[record] = ",".join(sorted(names))
    corpus = load_corpus(f"ptbxl:{kind}@{ptbxl}")
    assert dict(zip(corpus.ids, corpus.labels, strict=True)) == expected
    left_out = len(codes_of) - len(expected)
    notes = (f"left out {left_out} records that have no label of this kind",) if left_out else ()
    assert corpus.provenance.notes == notes
    assert not corpus.bad


def test_ptbxl_has_its_patients_folds_ages_and_frequencies(ptbxl):
    corpus = load_corpus(f"ptbxl@{ptbxl}")
    assert set(corpus.fs.tolist()) == {100.0}
    rows = {row["filename_lr"][-8:]: row for row in rows_of(ptbxl / "ptbxl_database.csv")}
    assert corpus.patients == tuple(str(int(float(rows[one]["patient_id"]))) for one in corpus.ids)
    groups = load_groups(f"ptbxl@{ptbxl}")
    assert groups["strat_fold"] == {one: rows[one]["strat_fold"] for one in corpus.ids}
    assert groups["age"]["00001_lr"] == "56"
    with pytest.raises(
        DataNotFoundError, match=r"none of the \d+ records with .* as 00001_hr\.hea"
    ):
        load_corpus(f"ptbxl:500@{ptbxl}")
    with pytest.raises(DataNotFoundError, match="choose one of super and form"):
        load_corpus(f"ptbxl:super:form@{ptbxl}")


def test_statements_of_ptbxl_that_can_not_be_read_are_no_absent_ones(ptbxl, tmp_path):
    text = (ptbxl / "ptbxl_database.csv").read_text()
    (tmp_path / "ptbxl_database.csv").write_text(
        text.replace("{'NORM': 100.0, 'LV", "{'NORM': ", 1)
    )
    shutil.copy(ptbxl / "scp_statements.csv", tmp_path)
    with pytest.raises(ValueError, match="the scp_codes of ecg_id 1"):
        ptbxl_table(tmp_path, ())


def test_ptbxl_without_its_statements(ptbxl, tmp_path, write_record):
    write_record(tmp_path, "00001_lr", fs=100)
    shutil.copy(ptbxl / "ptbxl_database.csv", tmp_path)
    with pytest.raises(DataNotFoundError, match=r"labels can't be read: .*scp_statements\.csv"):
        load_corpus(f"ptbxl@{tmp_path}")


def test_the_challenges_diagnoses_are_those_that_they_score(label_tables):
    scored = rows_of(label_tables / "cinc2021" / "dx_mapping_scored.csv")
    official = {row["SNOMEDCTCode"]: row["Abbreviation"] for row in scored}
    for release in (challenge2020, challenge2021):
        mapping = release.load_dx_mapping()
        kept = mapping[mapping["scored"]]["abbreviation"]
        assert {code: official[code] for code in kept.index} == kept.to_dict()
    assert dict(kept) == official == dict(SNOMED)


@pytest.mark.parametrize("name", ["cinc2021", "cinc2020", "georgia", "chapman"])
def test_a_challenges_records_are_found_below_its_folder_or_a_part_of_it(
    twelve_leads, tmp_path, name
):
    inner = {"georgia": "georgia/g1", "chapman": "chapman_shaoxing/g2"}.get(name, "georgia/g1")
    shutil.copytree(twelve_leads / "cinc2021", tmp_path / "training" / inner)
    whole = load_corpus(f"{name}@{tmp_path}")
    part = load_corpus(f"{name}@{tmp_path / 'training' / inner}")
    assert len(whole) == len(part) == 50
    assert whole.digest == part.digest
    assert Counter(one for label in whole.labels for one in label.split(","))["427084000"] == 23


CPSC2018 = {"A0001": "5,,", "A0002": "1,,", "A0003": "2,5,", "A0004": "9,7,3"}
CODES = {
    "1": "426783006",
    "2": "164889003",
    "3": "270492004",
    "5": "59118001",
    "7": "164884008",
    "9": "164931005",
}


def test_cpsc2018_has_its_classes_in_both_of_its_forms(tmp_path, write_record):
    headers, original = tmp_path / "headers" / "Training_WFDB", tmp_path / "original"
    original.mkdir()
    for name, labels in CPSC2018.items():
        write_record(headers, name, fs=500)
        signal = np.random.default_rng(0).normal(0, 0.3, (12, 500))
        savemat(original / f"{name}.mat", {"ECG": {"sex": "Male", "age": 74.0, "data": signal}})
        codes = ",".join(CODES[one] for one in labels.split(",") if one)
        with (headers / f"{name}.hea").open("a") as file:
            file.write(f"#Age: 74\n#Dx: {codes}\n")
    lines = [f"{name},{labels}\n" for name, labels in CPSC2018.items()]
    head = "Recording,First_label,Second_label,Third_label\n"
    (original / "REFERENCE.csv").write_text(head + "".join(lines))
    for folder in (headers.parent, original):
        corpus = load_corpus(f"cpsc2018@{folder}")
        assert corpus.ids == tuple(CPSC2018)
        assert corpus.labels == ("RBBB", "NSR", "AF,RBBB", "IAVB,PVC,STE")


def test_cpsc2021_has_its_rhythms_and_patients(twelve_leads):
    corpus = load_corpus(f"cpsc2021@{twelve_leads / 'cpsc2021'}")
    assert len(corpus) == 18
    kinds = ("non", "paroxysmal", "persistent")
    assert Counter(corpus.labels) == {f"{kind} atrial fibrillation": 6 for kind in kinds}
    assert corpus.patients == tuple(one.split("_")[1] for one in corpus.ids)
    assert len(set(corpus.patients)) == 6


@pytest.fixture
def afdb(tmp_path, wrsamp):
    """Two records of ten hours as in AFDB: zeros in front of a number, rhythms in .atr."""
    import wfdb

    for name, second in (("00735", "(AFL"), ("04015", "(AFIB")):
        signal = np.zeros((9_000_000, 2), np.int16)
        signal[::250] = 200
        wrsamp(
            name,
            fs=250,
            units=["mV"] * 2,
            sig_name=["ECG1", "ECG2"],
            d_signal=signal,
            fmt=["212"] * 2,
            adc_gain=[200] * 2,
            baseline=[0] * 2,
            write_dir=str(tmp_path),
        )
        for kind, places, notes in (
            ("atr", [30, 1_000_000], ["(N", second]),
            ("qrs", [30, 280], None),
        ):
            symbols = ["+" if notes else "N"] * 2
            wfdb.wrann(
                name, kind, np.array(places), symbols, aux_note=notes, write_dir=str(tmp_path)
            )
    (tmp_path / "RECORDS").write_text("00735\n04015\n")
    return tmp_path


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_afdb_has_the_rhythm_that_lasts_longest_as_ecgbench_reads_it(afdb):
    corpus = load_corpus(f"afdb@{afdb}")
    assert corpus.ids == ("00735", "04015")
    assert corpus.labels == ("AFL", "AFIB")
    assert corpus.seconds.tolist() == [36_000, 36_000]


def test_a_label_with_a_comma_is_one_label(monkeypatch, tmp_path):
    import pandas as pd
    from ecgbench import labels

    index = pd.Index(["p1/s1", "p1/s2", "p2/s3"], name="record_name")
    table = pd.DataFrame(
        {"diagnosis": ["MI, acute", None, "a"], "patient_id": [1.0, 1.0, 2.0]}, index
    )
    monkeypatch.setattr(labels, "load_labels", lambda config, folder: table)
    found = described_table("ptbdb")(tmp_path, ())
    assert found.to_dict("list") == {
        "record": ["s1", "s3"],
        "label": ["MI; acute", "a"],
        "patient": ["1", "2"],
    }


def test_rhythms_of_ludb_are_not_pooled(tmp_path, write_record):
    """Its table ends each cell, and parts several findings, by a new line."""
    head = (
        "ID,Sex,Age,Rhythms,Electric axis of the heart,Conduction abnormalities,Extrasystolies,"
        "Hypertrophies,Cardiac pacing,Ischemia,Non-specific repolarization abnormalities,"
        "Other states"
    )
    rhythms = {"1": "Sinus rhythm", "2": "Atrial fibrillation\n", "3": "Sinus rhythm\nPause, long"}
    lines = [f'{name},"F\n",51,"{rhythm}",normal{"," * 7}' for name, rhythm in rhythms.items()]
    (tmp_path / "ludb.csv").write_text("\n".join([head, *lines]))
    for name in rhythms:
        write_record(tmp_path / "data", name, fs=500)
    corpus = load_corpus(f"ludb@{tmp_path}")
    assert corpus.ids == ("1", "2", "3")
    assert corpus.labels == ("Sinus rhythm", "Atrial fibrillation", "Pause; long,Sinus rhythm")
