from __future__ import annotations

import csv
import io

import numpy as np

from ecg_mlflow import load_corpus
from ecg_mlflow.records.synthetic.recording import STANDARD_LEADS
from ecg_mlflow.reports import data_summary
from ecg_mlflow.reports.data_summary import CorpusSummary, data_page, records_table, summary_text


def summary_of(folder):
    return summary_text(CorpusSummary(load_corpus(str(folder))))


def relabel(folder, text):
    (folder / "REFERENCE.csv").write_text(text)


def copy_record(folder, name, new):
    for ending in ("hea", "dat"):
        content = (folder / f"{name}.{ending}").read_bytes()
        (folder / f"{new}.{ending}").write_bytes(content.replace(name.encode(), new.encode()))


def test_a_corpus_in_words_and_its_lengths_as_a_histogram(small_folder):
    copy_record(small_folder, "R1", "R9")
    with (small_folder / "REFERENCE.csv").open("a") as file:
        file.write("R9,N\n")
    (small_folder / "R2.dat").unlink()
    text = summary_of(small_folder)
    assert text.startswith(f"6 records from {small_folder} (digest ")
    for words in (
        "labels:   N 4, A 2",
        "sampled:  250 Hz (6)",
        "lengths:  1.8 to 2.8 s, median 2.3 s, 0.0 h in all",
        "copies:   R1 = R9 hold the same signal\n",
        "bad:      1 records",
        "  R2  ",
    ):
        assert words in text
    bins = [line.split() for line in text.splitlines() if line[:1] == " " and " to " in line]
    counts = {float(low): int(n) for low, _, _, _, n, *_ in bins}
    assert counts == dict(zip(np.arange(18, 28) / 10, [2, 0, 0, 0, 1, 0, 1, 0, 1, 1], strict=True))
    assert {len(one) - 5 for one in bins} == {0, 1}


def test_copies_whose_labels_differ_come_first(small_folder):
    copy_record(small_folder, "R1", "R8")
    copy_record(small_folder, "R2", "R9")
    relabel(small_folder, 'R1,"N,A"\nR2,A\nR3,N\nR4,A\nR5,N\nR6,A\nR8,"A,N"\nR9,N\n')
    summary = CorpusSummary(load_corpus(str(small_folder)))
    assert [group.disagree for group in summary.copies] == [False, True]
    copies = [line for line in summary_text(summary).splitlines() if line.startswith("copies:")]
    assert copies == [
        "copies:   R2 = R9 hold the same signal, with different labels: A, N",
        "copies:   R1 = R8 hold the same signal",
    ]


def test_several_diagnoses_and_patients_are_counted_one_by_one(small_folder):
    af, rbbb = "164889003", "59118001"
    both = f'"{af},{rbbb}"'
    table = f"record,label,patient\nR1,{both},P\nR2,{af},P\nR3,{both},Q\nR4,N,\nR5,N,P\nR6,N,\n"
    relabel(small_folder, table)
    lines = summary_of(small_folder).splitlines()
    assert lines[1] == f"labels:   {af} (AF) 3, N 3, {rbbb} (RBBB) 2"
    assert lines[2].strip() == "2 of 6 records have several, in 1 combinations: AF,RBBB 2"
    assert "patients: 2, 1 to 3 records each; 2 records name none" in lines


def test_faulty_leads_of_usable_records(small_folder, write_record, monkeypatch):
    signal = np.random.default_rng(0).normal(0, 0.2, (500, 2))
    signal[:, 1] = 0.1
    write_record(small_folder, "R0", signal, leads=["I", "II"])
    with (small_folder / "REFERENCE.csv").open("a") as file:
        file.write("R0,N\n")
    corpus = load_corpus(str(small_folder))
    text = summary_text(CorpusSummary(corpus))
    assert "signals:  1 usable records have faulty leads\n  R0: lead II is flat" in text
    assert "N: record R1, label N" in data_page(CorpusSummary(corpus))  # a faultless one
    monkeypatch.setattr(data_summary, "MOST_SAMPLES", 2000)
    assert "only 3 of 7 records, evenly spread, were checked" in summary_text(CorpusSummary(corpus))


def test_a_page_with_an_example_of_each_class(small_folder):
    copy_record(small_folder, "R2", "R9")
    relabel(small_folder, "R1,N\nR2,A\nR3,164889003\nR4,A\nR5,N\nR6,A\nR9,N\nR0,N\n")
    (small_folder / "R6.dat").unlink()
    page = data_page(CorpusSummary(load_corpus(str(small_folder))))
    for words in (
        "164889003 (AF): record R3, label 164889003",
        "N: record R1, label N",
        "R2 = R9",
        "missing signal file: R6.dat",
        "Exact copies",
        "Lengths and leads",
        "<p>3 classes.</p>",
        "<p>1 records can&#39;t be used, 0 have faulty leads, 2 are exact copies of each other.",
    ):
        assert words in page
    assert page.count("<img") == 5  # classes, lengths, and three examples
    assert "Faulty leads" not in page


def test_records_of_equal_lengths_and_twelve_leads(write_record, tmp_path):
    signal = np.random.default_rng(0).normal(0, 0.1, (1000, 12))
    for name in ("R1", "R2"):
        write_record(tmp_path / "few", name, signal, leads=STANDARD_LEADS)
    relabel(tmp_path / "few", 'R1,N\nR2,"N,A"\n')
    page = data_page(CorpusSummary(load_corpus(str(tmp_path / "few"))))
    for words in ("All records are 4 s long.", "<p>2 classes; 1 records have several.</p>", "N,A"):
        assert words in page


def test_a_table_of_all_records(small_folder):
    relabel(small_folder, 'record,label,patient\nR1,"N,A",P\nR2,N,\nR3,N,\nR4,N,\nR5,N,\nR6,N,\n')
    text = records_table(CorpusSummary(load_corpus(str(small_folder))))
    rows = list(csv.DictReader(io.StringIO(text)))
    assert [row["record"] for row in rows] == ["R1", "R2", "R3", "R4", "R5", "R6"]
    assert (rows[0]["label"], rows[0]["patient"], rows[0]["faults"]) == ("N,A", "P", "")
    assert (float(rows[1]["seconds"]), float(rows[1]["fs"])) == (2.0, 250.0)


def test_the_made_up_twelve_leads_are_faultless():
    summary = CorpusSummary(load_corpus("demo12:25"))
    assert (summary.several, summary.faults, summary.copies) == (14, {}, [])
