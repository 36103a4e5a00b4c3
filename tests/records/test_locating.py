from __future__ import annotations

from pathlib import Path

import pytest

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.locating import (
    asked_for,
    demo_source,
    find_headers,
    is_demo,
    locate,
    split_duplicates,
)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        *[(data, True) for data in ("demo", "demo:5", "demo12", "demo12:200:7")],
        *[(data, False) for data in ("demo13", "demos", "cinc2017", "/x/demo", "./demo")],
    ],
)
def test_words_for_made_up_records(data, expected):
    assert is_demo(data) is expected


@pytest.mark.parametrize("data", ["demo:3:1", "demo12:2:5"])
def test_a_corpus_says_what_to_ask_for(data):
    folder, source = locate(data)
    assert len(list(folder.glob("*.hea"))) == int(data.split(":")[1])
    assert demo_source(source) == asked_for(source) == data


def test_other_sources_are_asked_for_as_they_are():
    assert demo_source("/data/demo: 3") is None
    assert asked_for("cinc2017: PhysioNet/CinC Challenge 2017") == "cinc2017"
    assert asked_for("/data/records") == "/data/records"


@pytest.mark.parametrize("data", ["demo:many", "demo12:", "demo12:1:2:3"])
def test_words_that_can_not_be_read(data):
    with pytest.raises(DataNotFoundError, match="likewise demo12"):
        locate(data)


@pytest.fixture
def tree(tmp_path):
    for name in ("one/B2.hea", "one/A1.hea", "one/A1.mat", "two/C3.hea", "two/deep/D4.hea"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def names(found):
    return [path.stem for path in found.headers]


def test_a_folder_stands_for_its_headers_sorted_by_name(tree):
    found = find_headers(tree / "one")
    assert names(found) == ["A1", "B2"]
    assert (found.root, found.note) == (tree / "one", None)


def test_headers_below_a_folder_only_where_it_has_none_and_with_a_note(tree):
    assert names(find_headers(tree / "two")) == ["C3"]
    found = find_headers(tree)
    assert names(found) == ["A1", "B2", "C3"]
    assert found.note == f"no header in {tree} itself: took 3 from one, two below it"


@pytest.mark.parametrize(
    ("pattern", "expected", "root"),
    [
        ("one/A*.hea", ["A1"], "one"),
        ("one/*", ["A1", "B2"], "one"),
        ("*/*.hea", ["A1", "B2", "C3"], "."),
        ("**/*.hea", ["A1", "B2", "C3", "D4"], "."),
        ("two/**/*.hea", ["C3", "D4"], "two"),
    ],
)
def test_globs(tree, pattern, expected, root):
    found = find_headers(f"{tree}/{pattern}")
    assert names(found) == expected
    assert found.root == tree / root


def test_relative_paths_become_absolute(tree, monkeypatch):
    monkeypatch.chdir(tree)
    assert find_headers("one").headers[0] == tree / "one/A1.hea"
    assert find_headers("one/*.hea").headers[0] == tree / "one/A1.hea"
    monkeypatch.setenv("HOME", str(tree))
    assert find_headers("~/one").headers[0] == tree / "one/A1.hea"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("three", "three doesn't exist.*'demo', 'demo12' or 'cinc2017'"),
        ("one/A1.hea", "A1.hea is a file.*glob"),
        ("one/*.mat", "matches 1 files, none of them a header"),
        ("one/X*.hea", "matches 0 files"),
        (
            "empty",
            r"no WFDB header \(\*\.hea\) or EDF file \(\*\.edf\) in .*empty, nor one level below",
        ),
    ],
)
def test_nothing_found(tree, data, message):
    (tree / "empty").mkdir()
    with pytest.raises(DataNotFoundError, match=message):
        find_headers(f"{tree}/{data}")


def test_all_records_of_one_name_are_bad():
    headers = [Path(f"/data/{name}.hea") for name in ("a/R1", "b/R1", "a/R2", "c/R1")]
    single, duplicates = split_duplicates(headers)
    assert single == (Path("/data/a/R2.hea"),)
    assert [(bad.id, bad.path, bad.reason) for bad in duplicates] == [
        ("R1", "/data/a/R1.hea", "one id twice: also /data/b/R1.hea, /data/c/R1.hea"),
        ("R1", "/data/b/R1.hea", "one id twice: also /data/a/R1.hea, /data/c/R1.hea"),
        ("R1", "/data/c/R1.hea", "one id twice: also /data/a/R1.hea, /data/b/R1.hea"),
    ]
