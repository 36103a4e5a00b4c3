from __future__ import annotations

from dataclasses import replace

import pytest

from ecg_mlflow.cli import main
from ecg_mlflow.files import checkpoint_path, write_whole
from ecg_mlflow.provenance import ProcessMark
from ecg_mlflow.tracking.stored_run import DIED_TAG, IDENTITY_TAG, PLAN_TAG, PRUNED_TAG
from ecg_mlflow.tracking.study_run import Study


def test_where_nothing_is_wrong_nothing_is_done(workplace, capsys):
    assert main(["reap"]) == 0
    assert "nothing to do" in capsys.readouterr().out


def test_a_study_whose_driver_is_dead_is_ended_and_can_be_resumed(workplace, experiment, capsys):
    study = Study.open(workplace.client, experiment, "the study", tags={PLAN_TAG: "p"})
    child = study.create_child("child", {}, {IDENTITY_TAG: "a"})
    study.tags(replace(ProcessMark.own(), pid=2**22 + 1, birth="1").tags())
    assert main(["reap"]) == 0
    out = capsys.readouterr().out
    assert f"ended study the study; go on with: ecg-mlflow run --resume {study.run_id}" in out
    for run_id in (study.run_id, child):
        assert workplace.client.get_run(run_id).info.status == "KILLED"


@pytest.mark.parametrize(
    ("status", "tags", "stays"),
    [
        ("FINISHED", {}, False),
        ("FAILED", {}, False),
        ("FAILED", {DIED_TAG: "3"}, True),
        ("KILLED", {}, True),
        ("KILLED", {PRUNED_TAG: "others are better"}, False),
        (None, {}, True),
    ],
)
def test_checkpoints_that_nobody_needs_are_removed(workplace, status, tags, stays, capsys):
    run_id = workplace.client.create_run("0", tags=tags).info.run_id if status else "f" * 32
    if status:
        workplace.client.set_terminated(run_id, status)
    path = checkpoint_path(run_id)
    write_whole(path, b"a checkpoint")
    left = path.with_name(f".{path.name}.abcd.part")
    left.write_bytes(b"half a checkpoint")
    assert main(["reap"]) == 0
    assert path.exists() is stays
    assert left.exists() is stays
    assert ("removed 1 checkpoint" in capsys.readouterr().out) is not stays
