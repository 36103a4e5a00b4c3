from __future__ import annotations

from dataclasses import replace

import pytest

from ecg_mlflow.cli import main
from ecg_mlflow.files import checkpoint_path, write_whole
from ecg_mlflow.provenance import ProcessMark
from ecg_mlflow.study.resume import reap_dead_studies
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import DIED_TAG, IDENTITY_TAG, PLAN_TAG, PRUNED_TAG
from ecg_mlflow.tracking.study_run import Study

DEAD = replace(ProcessMark.own(), pid=2**22 + 1, birth="1").tags()


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
    said = "nothing to do" if stays else "removed 1 checkpoint"
    assert said in capsys.readouterr().out


def test_the_dead_are_reaped_and_the_living_are_not(workplace, experiment):
    client = workplace.client

    def status(run_id):
        return client.get_run(run_id).info.status

    def opened(tags):
        made = Study.open(client, experiment, "dead study", tags={PLAN_TAG: "p"})
        made.tag_child(made.run_id, tags)
        child = made.create_child("child", {}, {IDENTITY_TAG: "a"})
        complete = made.create_child("complete", {}, {IDENTITY_TAG: "b"})
        with RunLog(client, complete) as log:
            log.complete()
        return made.run_id, child, complete

    dead, kept = opened(DEAD), opened(DEAD)
    study = Study.open(client, experiment, "living study", tags={PLAN_TAG: "p"})
    living = study.create_child("of the living", {}, {IDENTITY_TAG: "a"})
    stranger = client.create_run(study.experiment_id).info.run_id

    (line,) = reap_dead_studies(client, kept[0])
    assert line.startswith("ended study dead study, whose driver had died")
    assert line.endswith(f"ecg-mlflow run --resume {dead[0]}")

    assert status(living) == "RUNNING"
    assert [status(run) for run in dead] == ["KILLED", "KILLED", "FINISHED"]
    assert [status(run) for run in kept] == ["RUNNING"] * 3
    assert status(stranger) == "RUNNING", "it is not ours"
    assert "resumed" in client.get_run(dead[1]).data.tags["ecg_mlflow.reason"]
    assert main(["reap"]) == 0
    assert status(kept[0]) == "KILLED", "nobody is about to resume it"


def test_other_runs_of_processes_that_died_here_are_ended(workplace, experiment):
    """Such as the run that ``mlflow run`` made for a resumed study, and that of a script."""
    client = workplace.client
    study = Study.open(client, experiment, "living study", tags={PLAN_TAG: "p"})

    def opened(name, tags):
        return client.create_run(study.experiment_id, tags=tags, run_name=name).info.run_id

    died = opened("resume of 1a2b", DEAD)
    left = opened("child of a study that has ended", {**DEAD, "mlflow.parentRunId": "0" * 32})
    elsewhere = opened("script", {**DEAD, "ecg_mlflow.host": "another machine"})
    alive = opened("promotion", ProcessMark.own().tags())
    child = study.create_child("of the living", {}, {IDENTITY_TAG: "a", **DEAD})
    said = reap_dead_studies(client)
    assert sorted(said) == [
        "ended run child of a study that has ended, whose process had died",
        "ended run resume of 1a2b, whose process had died",
    ]
    found = {run: client.get_run(run) for run in (died, left, elsewhere, alive, child)}
    assert [one.info.status for one in found.values()] == ["KILLED"] * 2 + ["RUNNING"] * 3
    assert found[died].data.tags["ecg_mlflow.reason"] == "its process died"
