"""From a request to a study: places of files, slots, and what is printed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from studies import grid_text

from ecg_mlflow.errors import DeviceError, TrackingError
from ecg_mlflow.study import launch
from ecg_mlflow.study.launch import _slots, run_request
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.tracking.study_run import Study


def test_workers_have_one_thread_each_on_the_cpu(monkeypatch):
    monkeypatch.setattr(launch, "count_cores", lambda: 6)
    for request, threads in (
        ({}, 6 * "1"),
        ({"workers": 1}, "1"),
        ({"workers": 1, "threads": 4}, "4"),
    ):
        slots = _slots(StudyRequest("x", **request))
        assert "".join(slot.env["TF_NUM_INTRAOP_THREADS"] for slot in slots) == threads
        assert {slot.device for slot in slots} == {"cpu"}


def test_gpus_are_looked_for_where_the_user_let_them_be_seen(monkeypatch):
    asked = []

    def find(environ):
        asked.append(environ.get("CUDA_VISIBLE_DEVICES"))
        return ["0", "1"]

    monkeypatch.setattr(launch, "find_gpus", find)
    monkeypatch.setattr(launch, "count_cores", lambda: 8)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # as the command line sets it for itself
    slots = _slots(StudyRequest("x", gpus="0:2,1"))
    assert [slot.device for slot in slots] == ["gpu:0", "gpu:1", "gpu:0"]
    assert slots[0].env["TF_NUM_INTRAOP_THREADS"] == "2", "an equal share of the cores"
    _slots(StudyRequest("x", gpus="1", visible_devices="1"))
    assert asked == [None, "1"]


def test_training_in_this_process_sets_its_threads_and_takes_no_gpu(monkeypatch):
    monkeypatch.setattr(os, "environ", {"PATH": ""})
    assert _slots(StudyRequest("x", workers=0)) == []
    assert os.environ["TF_NUM_INTRAOP_THREADS"] == "1"
    with pytest.raises(DeviceError, match="workers=0 trains in this process"):
        _slots(StudyRequest("x", workers=0, gpus="0"))


def test_a_relative_store_is_the_callers(workplace, monkeypatch):
    """Under `mlflow run` the command stands in the project's folder; the store is elsewhere."""
    caller = workplace.folder / "caller"
    caller.mkdir()
    grid = workplace.write_grid(grid_text())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///own.db")
    monkeypatch.setattr(launch, "_plan", lambda *_: (_ for _ in ()).throw(DeviceError("enough")))
    with pytest.raises(DeviceError, match="enough"):
        run_request(StudyRequest(str(grid), folders=(caller, workplace.folder)))
    assert (caller / "own.db").exists()
    assert not Path("own.db").exists()


def test_an_end_that_can_not_be_written_does_not_hide_the_error(workplace, monkeypatch):
    def fail(*args, **options):
        raise TrackingError("MLflow could not go on in run 000")

    monkeypatch.setenv("MLFLOW_RUN_ID", workplace.client.create_run("0").info.run_id)
    monkeypatch.setattr(Study, "open", fail)
    with pytest.raises(FileNotFoundError, match="no grid file") as error:
        run_request(StudyRequest("nosuch.py"))
    assert "go on in run 000" in "".join(error.value.__notes__)


@pytest.mark.parametrize("variable", ["ECG_MLFLOW_CACHE", "ECG_MLFLOW_CHECKPOINTS"])
def test_a_folder_that_can_not_be_written_is_found_before_anything_is_read(
    workplace, experiment, monkeypatch, capsys, variable
):
    file = workplace.folder / "a file"
    file.touch()
    monkeypatch.setenv(variable, str(file / "of mine"))
    grid = workplace.write_grid(grid_text())
    assert workplace.run(grid, experiment=experiment, data="nowhere") == 1
    said = capsys.readouterr().err
    assert said.startswith(f"ecg-mlflow: error: can't write in {file / 'of mine'} (")
    assert variable in said
