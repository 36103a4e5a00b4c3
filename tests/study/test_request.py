from __future__ import annotations

import pytest

from ecg_mlflow.records.catalogue import located
from ecg_mlflow.study.request import StudyRequest, design_of


@pytest.mark.parametrize(
    "text", ["demo", "demo:20", "demo:20:3", "demo12", "demo12:9", "cinc2017", "headers"]
)
def test_words_are_no_paths(tmp_path, text):
    (tmp_path / text.replace(":", "_")).mkdir()
    (tmp_path / "demo").mkdir(exist_ok=True)
    assert located(text, [tmp_path]) == text


def test_relative_paths_start_at_the_first_folder_that_has_them(tmp_path):
    caller, project = tmp_path / "caller", tmp_path / "project"
    for folder in (caller / "mine", caller / "both", project / "theirs", project / "both"):
        folder.mkdir(parents=True)
    (caller / "mine" / "a.hea").touch()
    folders = [caller, project]
    assert located("mine", folders) == str(caller / "mine")
    assert located("both", folders) == str(caller / "both")
    assert located("theirs", folders) == str(project / "theirs")
    assert located("mine/*.hea", folders) == str(caller / "mine/*.hea")
    assert located("nowhere", folders) == "nowhere"
    assert located(str(caller), folders) == str(caller)


def test_the_design_has_paths_that_hold_from_anywhere(tmp_path):
    (tmp_path / "records").mkdir()
    request = StudyRequest(
        "/g.py", data="records", epochs=3, search={"trials": 5}, folders=(tmp_path,)
    )
    data = str(tmp_path / "records")
    assert design_of(request) == {"grid": "/g.py", "data": data, "epochs": 3, "trials": 5}
