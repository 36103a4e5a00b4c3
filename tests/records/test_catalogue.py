from __future__ import annotations

import os
import re

import pytest

from ecg_mlflow.errors import DataNotFoundError
from ecg_mlflow.records.catalogue import (
    asked_for,
    find_headers,
    find_records,
    is_demo,
    located,
)


@pytest.mark.parametrize("data", ["demo:3:1", "demo12:2:5"])
def test_a_corpus_tells_how_to_load_it_again(data):
    found = find_records(data)
    assert len(found.headers) == int(data.split(":")[1])
    # Another version of the generator makes other records.
    assert re.fullmatch(r"\d-\d-[0-9a-f]{12}", found.root.name)
    assert asked_for(found.source) == data


def test_names_of_data():
    assert all(map(is_demo, ("demo", "demo:5", "demo12", "demo12:200:7")))
    assert not any(map(is_demo, ("demo13", "demos", "cinc2017", "/x/demo", "./demo")))
    assert asked_for("cinc2017: PhysioNet/CinC Challenge 2017") == "cinc2017"
    for path in ("/data/records", "/data/demo: 3"):
        assert asked_for(path) == path
    for data in ("demo:many", "demo12:", "demo12:1:2:3"):
        with pytest.raises(DataNotFoundError, match="likewise demo12"):
            find_records(data)


@pytest.fixture
def tree(tmp_path):
    for name in (
        *("one/B2.hea", "one/A1.hea", "one/A1.mat", "one/A1.edf", "two/C3.hea"),
        *("two/deep/D4.EDF", "empty/deep/er/E5.hea"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


BELOW = "no header in TREE itself: took 4 from one, two below it"
DEEPER = "passed over 2 recordings in deeper folders: empty/deep/er, two/deep"
IGNORED = "ignored 1 EDF files beside headers of the same name"


@pytest.mark.parametrize(
    ("data", "expected", "root", "note"),
    [
        ("one", "A1 B2", "one", IGNORED),
        ("two", "C3", "two", "passed over 1 recordings in deeper folders: deep"),
        ("two/deep", "D4", "two/deep", None),
        ("", "A1 B2 C3", "", f"{BELOW}; {DEEPER}; {IGNORED}"),
        ("one/A*.hea", "A1", "one", None),
        ("one/*", "A1 B2", "one", IGNORED),
        ("*/*.hea", "A1 B2 C3", "", None),
        ("**/*.[hE]*", "A1 B2 C3 D4 E5", "", None),
        ("two/**/*", "C3 D4", "two", None),
    ],
)
def test_folders_and_globs(tree, monkeypatch, data, expected, root, note):
    found = find_headers(f"{tree}/{data}")
    assert [path.stem for path in found.headers] == expected.split()
    assert "A1.edf" not in [path.name for path in found.headers]
    assert found.root == tree / root
    assert found.note == (note and note.replace("TREE", str(tree)))
    assert found.source == f"{tree}/{data}".rstrip("/")
    monkeypatch.chdir(tree)
    monkeypatch.setenv("HOME", str(tree))
    assert find_headers(data or ".").headers == find_headers(f"~/{data}").headers == found.headers


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("three", "three doesn't exist.*'demo12', or the name of a data set, such as 'cinc2017'"),
        ("one/A1.hea", "A1.hea is a file.*glob"),
        ("one/*.dat", "matches 0 files, none of them a header"),
        ("one/X*.hea", "matches 0 files"),
        (
            "empty",
            r"no WFDB header \(\*\.hea\) or EDF file \(\*\.edf\) in .*empty, nor one level below",
        ),
    ],
)
def test_nothing_found(tree, data, message):
    with pytest.raises(DataNotFoundError, match=message):
        find_headers(f"{tree}/{data}")


@pytest.mark.parametrize("text", ["demo", "demo:20:3", "demo12", "demo12:9", "cinc2017", "headers"])
def test_words_are_no_paths(tmp_path, text):
    (tmp_path / text.partition(":")[0]).mkdir()
    assert located(text, [tmp_path]) == text


def test_relative_paths_start_at_the_first_folder_that_has_them(tmp_path):
    caller, project = folders = [tmp_path / "caller", tmp_path / "project"]
    for folder in (caller / "mine", caller / "both", project / "theirs", project / "both"):
        folder.mkdir(parents=True)
    (caller / "mine" / "a.hea").touch()
    for name, folder in (("mine", caller), ("both", caller), ("theirs", project)):
        assert located(name, folders) == str(folder / name)
    assert located("mine/*.hea", folders) == str(caller / "mine/*.hea")
    for name in ("nowhere", str(caller)):
        assert located(name, folders) == name


def test_what_is_no_regular_file_is_passed_over_with_a_note(tree):
    os.mkfifo(tree / "one" / "A0.hea")
    (tree / "one" / "A9.hea").mkdir()
    found = find_headers(f"{tree}/one")
    assert [path.stem for path in found.headers] == ["A1", "B2"]
    assert found.note == f"passed over A0.hea, A9.hea: no regular files; {IGNORED}"
    os.mkfifo(tree / "empty" / "F.hea")
    with pytest.raises(DataNotFoundError, match="no WFDB header"):
        find_headers(f"{tree}/empty")
