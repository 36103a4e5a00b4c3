from __future__ import annotations

import pytest

from ecg_mlflow.records.catalogue import located
from ecg_mlflow.study.request import StudyRequest, design_of


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
    request = StudyRequest("/g.py", data="both", epochs=3, trials=5, folders=folders)
    design = {"grid": "/g.py", "data": str(caller / "both"), "epochs": 3, "trials": 5}
    assert design_of(request) == design
