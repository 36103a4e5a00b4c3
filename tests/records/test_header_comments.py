from __future__ import annotations

import hashlib

import pytest

from ecg_mlflow.errors import BadRecordsError, DataNotFoundError
from ecg_mlflow.records import load_corpus, read_digital
from ecg_mlflow.records.header_comments import (
    diagnoses,
    have_diagnoses,
    labels_digest,
    read_comments,
    read_header_groups,
)
from ecg_mlflow.records.sources import load_groups

AF_RBBB = "164889003,59118001"


def say(header, *comments):
    with header.open("a") as file:
        file.write("".join(f"{comment}\n" for comment in comments))


@pytest.fixture
def challenge_folder(tmp_path, write_record):
    """Three records as in CinC 2021, in both spellings, without a label file."""
    folder = tmp_path / "g1"
    for name, comments in {
        "A1": ["#Age: 74", "#Sex: Male", f"#Dx: {AF_RBBB}", "#Rx: Unknown"],
        "A2": ["# Age: NaN", "# Sex: Female", "# Dx: 426783006", "# Hx: Unknown"],
        "A3": ["#Age: 40", "#Dx: 427084000"],
    }.items():
        say(write_record(folder, name), *comments)
    return folder


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        (["Dx: 164889003,59118001"], "164889003,59118001"),
        (["Age: 5", "dx : 2 , 1 ,2"], "2,1"),
        (["Dx: 5,4,9,2,7,1,8"], "5,4,9,2,7,1,8"),
        (["Dx: Unknown"], None),
        (["Dx:"], None),
        (["Dx 164889003", "Dxx: 1"], None),
        (["Dx: 1", "Dx: 2"], "1"),
        ([], None),
    ],
)
def test_diagnoses_in_the_order_given_each_once(comments, expected):
    assert diagnoses(comments) == expected


def test_labels_come_from_headers_where_there_is_no_label_file(challenge_folder):
    corpus = load_corpus(str(challenge_folder))
    assert corpus.ids == ("A1", "A2", "A3")
    assert corpus.labels == (AF_RBBB, "426783006", "427084000")
    lines = f"A1\t{AF_RBBB}\nA2\t426783006\nA3\t427084000\n"
    assert corpus.labels_sha256 == hashlib.sha256(lines.encode()).hexdigest()
    again = load_corpus(str(challenge_folder))
    assert (again.digest, again.labels_sha256) == (corpus.digest, corpus.labels_sha256)


def test_another_diagnosis_is_another_corpus(challenge_folder):
    first = load_corpus(str(challenge_folder))
    header = challenge_folder / "A3.hea"
    header.write_text(header.read_text().replace("#Dx: 427084000", "#Dx: 426177001"))
    second = load_corpus(str(challenge_folder))
    assert second.labels[2] == "426177001"
    assert second.labels_sha256 != first.labels_sha256


def test_a_label_file_goes_before_headers_unless_asked_otherwise(challenge_folder):
    (challenge_folder / "REFERENCE.csv").write_text(f'A1,"{AF_RBBB}"\nA2,N\nA3,N\n')
    assert load_corpus(str(challenge_folder)).labels == (AF_RBBB, "N", "N")
    by_header = load_corpus(str(challenge_folder), labels="headers")
    assert by_header.labels == (AF_RBBB, "426783006", "427084000")
    assert by_header.provenance.labels == "headers"


def test_a_record_without_diagnoses_is_bad(challenge_folder, write_record):
    say(write_record(challenge_folder, "A4"), "#Dx: Unknown")
    write_record(challenge_folder, "A5")
    corpus = load_corpus(str(challenge_folder))
    assert corpus.ids == ("A1", "A2", "A3")
    assert [(bad.id, bad.reason, bad.path) for bad in corpus.bad] == [
        (name, "no label: no #Dx in its header", str(challenge_folder / f"{name}.hea"))
        for name in ("A4", "A5")
    ]


def test_neither_label_file_nor_diagnoses(tmp_path, write_record):
    write_record(tmp_path / "none", "R1")
    with pytest.raises(DataNotFoundError, match=r"no label file.*labels=headers"):
        load_corpus(str(tmp_path / "none"))
    with pytest.raises(BadRecordsError, match=r"no label \(1\)[^$]*no #Dx in its header"):
        load_corpus(str(tmp_path / "none"), labels="headers")


def test_comments_are_kept_with_the_record(challenge_folder):
    record = read_digital(challenge_folder / "A1.hea")
    assert record.comments == ("Age: 74", "Sex: Male", f"Dx: {AF_RBBB}", "Rx: Unknown")
    assert read_comments(challenge_folder / "A1.hea") == record.comments
    assert read_comments(challenge_folder / "no.hea") == ()


def test_age_and_sex_describe_groups(challenge_folder):
    expected = {"Age": {"A1": "74", "A3": "40"}, "Sex": {"A1": "Male", "A2": "Female"}}
    assert read_header_groups(sorted(challenge_folder.glob("*.hea"))) == expected
    assert load_groups(str(challenge_folder)) == expected
    assert load_groups(str(challenge_folder), labels="headers") == expected


def test_groups_of_a_label_file(challenge_folder):
    (challenge_folder / "REFERENCE.csv").write_text("record,label,site\nA1,N,here\n")
    assert load_groups(str(challenge_folder)) == {"site": {"A1": "here"}}


def test_the_search_for_diagnoses_ends_with_the_first(challenge_folder, tmp_path):
    assert have_diagnoses([challenge_folder / "A1.hea", tmp_path / "not looked at.hea"])
    assert not have_diagnoses([tmp_path / "R1.hea", tmp_path / "R2.edf"])


def test_the_digest_of_labels_knows_record_and_label():
    assert labels_digest({"b": "1", "a": "2"}) == labels_digest({"a": "2", "b": "1"})
    assert labels_digest({"a": "1", "b": "2"}) != labels_digest({"a": "2", "b": "1"})
