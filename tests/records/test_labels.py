from __future__ import annotations

import os

import pytest

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.label_sets import join_labels, split_label
from ecg_mlflow.records.labels import (
    diagnoses,
    find_label_files,
    match_names,
    read_comments,
    read_groups,
    read_header_groups,
    read_labels,
)


@pytest.fixture
def read(tmp_path):
    """Write label files a.csv, b.csv, ... and read them as one."""

    def call(*texts, using=read_labels):
        files = [tmp_path / f"{name}.csv" for name, _ in zip("abcd", texts, strict=False)]
        for file, text in zip(files, texts, strict=True):
            file.write_bytes(text.encode() if isinstance(text, str) else text)
        return using(*files)

    return call


@pytest.mark.parametrize(
    ("text", "by_id", "patients"),
    [
        ("\ufeffA1,N\r\n A2 , AF \n\nA3,~\nA3,~\n", "A1 N A2 AF A3 ~", ""),
        ("record,label,patient\nA1,N,P1\nA2,AF,P2\n", "A1 N A2 AF", "A1 P1 A2 P2"),
        ("\ufeff\n Record , LABEL,Patient\r\nA1,N, P1 \n\n", "A1 N", "A1 P1"),
        ("patient,age,record,sex,label\nP1,63,A1,f,N\nP2,,A2,m,AF\n", "A1 N A2 AF", "A1 P1 A2 P2"),
        ("label,record,sex\nN,A1,f\n", "A1 N", ""),
        ("record,label,patient\nA1,N,\nA2,N,P2\nA3,N, \n", "A1 N A2 N A3 N", "A2 P2"),
        ("record,label,patient\nA1,N,\nA1,N,P1\nA1,N,\n", "A1 N", "A1 P1"),
        ("record,label,patient_age\nA1,N,63\n", "A1 N", ""),
        ("record,label,patient,subject\nA1,N,P1,S1\n", "A1 N", "A1 P1"),
        ("A1;N\nA2;AF\n", "A1 N A2 AF", ""),
        ("record\tpatient\tlabel\nA1\tP,1\tN\n", "A1 N", "A1 P,1"),
        ("\ufeffrecord,label\nA1,N\n".encode("utf-16-le"), "A1 N", ""),
        (",record,label\n0,A1,N\n1,A2,AF\n", "A1 N A2 AF", ""),
        ("A1.mat,N\ndir/A2,AF\nC:\\ecg\\A3.HEA,~\nA4.5,N\n", "A1 N A2 AF A3 ~ A4.5 N", ""),
        ("", "", ""),
    ],
)
def test_labels_and_patients(read, text, by_id, patients):
    def pairs(words):
        return dict(zip(words.split()[::2], words.split()[1::2], strict=True))

    labels = read(text)
    assert (labels.by_id, labels.patients) == (pairs(by_id), pairs(patients))
    assert labels.problems == ()


def test_numbers_may_lack_the_zeros_of_their_records(read):
    labels = read("record,label,patient\n1,N,P\n20,AF,Q\n007,N,\n7,AF,\nX,N,\n")
    found, absent = match_names(labels, {"00001", "00020", "007", "020"})
    assert found.by_id == {"00001": "N", "007": "N"}
    assert found.patients == {"00001": "P"}
    assert absent == ["20", "7", "X"], "two records could be meant, or none"


@pytest.mark.parametrize(
    "column", ["participant_id", "PID", "mrn", "person_id", "patient_no", "Subject-ID", "subject"]
)
def test_a_column_that_seems_to_hold_patients_is_asked_about(read, column):
    with pytest.raises(DataNotFoundError, match=f"column '{column}', but patients are read from"):
        read(f"record,label,{column}\nA1,N,1\n")


def test_a_table_of_other_columns_is_no_list_of_labels(read):
    table = "ecg_id,scp_codes,filename_lr\n1,\"{'NORM': 100.0}\",records100/00000/00001_lr\n"
    said = "a.csv:1: no header of record,label: it has ecg_id, scp_codes, filename_lr. Call the col"
    with pytest.raises(DataNotFoundError, match=said):
        read(table)


def test_lines_that_cant_be_used_are_listed_with_file_and_line(read, tmp_path):
    file, malformed = tmp_path / "a.csv", "malformed line in the label file"

    def problems(labels):
        return [(each.id, each.path.removeprefix(f"{file}:"), each.reason) for each in labels]

    labels = read('A1,N\nA2\nA3,N,O\nA4,\n,N\nA5,N\nA6,"N"\nA5,O\nA6,N\n')
    assert labels.by_id == {"A1": "N", "A6": "N"}
    assert problems(labels.problems) == [
        ("A2", "2", f"{malformed}: 1 columns, not record,label"),
        ("A3", "3", f"{malformed}: 3 columns, not record,label"),
        ("A4", "4", f"{malformed}: an empty label"),
        ("", "5", f"{malformed}: an empty record name"),
        ("A5", "8", f"two labels: 'O' here, 'N' in {file}:6"),
    ]
    text = "label,patient,record\nN,P1,A1\nN,A2\nN,P4,\nN,P5,A5\nN,P6,A5\nN,,A6\nA,,A6\n"
    labels = read(text + "N,,A7\nN,P7,A7\nN,,A7\nN,P8,A7\n")
    assert (labels.by_id, labels.patients) == ({"A1": "N"}, {"A1": "P1"})
    assert problems(labels.problems) == [
        ("", "3", f"{malformed}: 2 columns, not label,patient,record"),
        ("", "4", f"{malformed}: an empty record name"),
        ("A5", "6", f"two patients: 'P6' here, 'P5' in {file}:5"),
        ("A6", "8", f"two labels: 'A' here, 'N' in {file}:7"),
        ("A7", "12", f"two patients: 'P8' here, 'P7' in {file}:10"),
    ]


def test_several_files_are_read_as_one_each_with_its_own_header(read, tmp_path):
    labels = read("A1,N\nA2,N\n", "patient,record,label\nP1,B1,A\n,A1,O\n", "")
    assert (labels.by_id, labels.patients) == ({"A2": "N", "B1": "A"}, {"B1": "P1"})
    [problem] = labels.problems
    assert (problem.path, problem.kind) == (f"{tmp_path / 'b.csv'}:3", "two labels")
    assert len({read(text).sha256 for text in ("A1,N\n", "A1,O\n", "A1,N\r\n")}) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("record,label,label\n", "a.csv:1: .* column 'label' 2 times: record,label,label"),
        ("patient,record,label,Patient\n", "column 'patient' 2 times"),
        ("record,label,patient_id\n", "column 'patient_id', but patients are read .* 'patient'"),
        ("Subject,record,label\n", "column 'Subject', but .*Rename it"),
        (b"A1,\xff\n", "isn't UTF-8 text"),
    ],
)
def test_label_files_that_cant_be_read(read, tmp_path, text, message):
    with pytest.raises(DataNotFoundError, match=message):
        read(text)
    with pytest.raises(DataNotFoundError, match=r"can't read the label file .*none\.csv: No"):
        read_labels(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("texts", "groups"),
    [
        (
            ["Record,label,patient,Age,sex\nA1,N,p1,61,F\nA2,A,p2,,M\nA3,N,p3, 40 ,\n"],
            {"Age": {"A1": "61", "A3": "40"}, "sex": {"A1": "F", "A2": "M"}},
        ),
        (["A1,N\nA2,A\n"], {}),
        (["record,label,site\nA1,N,x\n", "site,record\ny,A2\n"], {"site": {"A1": "x", "A2": "y"}}),
    ],
)
def test_other_columns_describe_groups(read, texts, groups):
    assert read(*texts, using=lambda *files: read_groups(files)) == groups


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (["REFERENCE.csv", "REFERENCE-v3.csv"], ["REFERENCE.csv"]),
        (["REFERENCE-v3.csv"], ["REFERENCE-v3.csv"]),
        (["a/REFERENCE.csv", "REFERENCE.csv"], ["a/REFERENCE.csv", "REFERENCE.csv"]),
        (["REFERENCE-v2.csv", "REFERENCE-v3.csv"], "v2.csv, REFERENCE-v3.csv.*labels=<file>"),
        (["a/REFERENCE.csv"], "no label file: .* in .*b and .*labels=<file>.*labels=headers"),
        ([], "no label file"),
    ],
)
def test_label_files_lie_beside_the_records_or_above_them(tmp_path, files, expected):
    headers = [tmp_path / name for name in ("a/A1.hea", "b/B1.hea", "b/B2.hea")]
    for header in headers:
        header.parent.mkdir(exist_ok=True)
        header.touch()
    for name in files:
        (tmp_path / name).touch()
    if isinstance(expected, list):
        found = tuple(tmp_path / name for name in expected)
        assert find_label_files(headers, tmp_path) == found
        return
    for text in ("", "#Dx: 1\n"):
        headers[1].write_text(text)
        if text and not files:
            assert find_label_files(headers, tmp_path) is None
            return
        with pytest.raises(DataNotFoundError, match=expected):
            find_label_files(headers, tmp_path)


@pytest.mark.parametrize(
    ("comments", "expected"),
    [
        ("#Dx: 164889003,59118001", "164889003,59118001"),
        ("# Age: 5\n  #dx : 2 , 1 ,2", "2,1"),
        ("#Dx: 5,4,9,2,7,1,8", "5,4,9,2,7,1,8"),
        ("#Dx: Unknown", None),
        ("#Dx:", None),
        ("#Dx 164889003\n#Dxx: 1\nDx: 1", None),
        ("#Dx: 1\n#Dx: 2", "1"),
        ("", None),
    ],
)
def test_diagnoses_of_a_header_in_the_order_given_each_once(tmp_path, comments, expected):
    header = tmp_path / "A.hea"
    header.write_text(f"A 1 250 9\nA.dat\n{comments}\n")
    assert diagnoses(read_comments(header)) == expected
    assert read_comments(header.rename(tmp_path / "A.edf")) == read_comments(header) == ()


def test_age_and_sex_are_groups(tmp_path):
    headers = [tmp_path / f"A{i}.hea" for i in range(4)]
    texts = ["#Age: 74\n#Sex: Male\n#Dx: 1\n", "# Age: NaN\n# Sex: Female\n", "# Age: 40\n"]
    for header, text in zip(headers, texts, strict=False):
        header.write_text(text)
    assert read_header_groups(headers) == {
        "Age": {"A0": "74", "A2": "40"},
        "Sex": {"A0": "Male", "A1": "Female"},
    }


def test_several_labels_have_one_spelling():
    assert split_label("AF") == ("AF",)
    assert split_label("164889003, 59118001") == ("164889003", "59118001")
    assert split_label("") == ("",)
    assert join_labels(["RBBB", "AF", "RBBB"]) == join_labels(["AF", "", "RBBB"]) == "AF,RBBB"
    assert join_labels([""]) == join_labels([]) == ""


def test_a_label_file_that_is_no_regular_file_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "REFERENCE.csv")
    for read in (read_labels, lambda path: read_groups([path])):
        with pytest.raises(DataNotFoundError, match=r"REFERENCE\.csv: it is no regular file"):
            read(tmp_path / "REFERENCE.csv")
