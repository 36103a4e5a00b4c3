"""Runs that somebody deletes, removes or ends by hand while their study trains them."""

from __future__ import annotations

import pytest
from studies import numpy_grid

from ecg_mlflow.files import checkpoint_path
from ecg_mlflow.study.jobs import Trained
from ecg_mlflow.study.progress import StudyProgress
from ecg_mlflow.study.worker import training_run
from ecg_mlflow.tracking import study_run

#: A run that would take minutes, and one that takes a moment; they can share a process.
GRID = numpy_grid(
    grid="Option('epochs', [200, 3])",
    epochs="C('epochs')",
    test_every="'5 epochs'",
    train="root.random_split_signals(128, 2).apply(unhurried)",
)


def delete(client, run_id):
    client.delete_run(run_id)


def remove_for_good(client, run_id):
    client._tracking_client.store._hard_delete_run(run_id)  # as `mlflow gc` does


def end_by_hand(client, run_id):
    client.set_terminated(run_id, "KILLED")


@pytest.fixture
def meddle(monkeypatch, workplace, experiment):
    """Do something to the long run, or to the parent, once it has begun; return that one's id."""
    monkeypatch.setenv("UNHURRIED_S", "0.005")
    monkeypatch.setattr(training_run, "HEARTBEAT_S", 0.2)
    monkeypatch.setattr(study_run, "HEARTBEAT_S", 0.2)
    reported = StudyProgress.reported

    def begin(act, *, to_parent=False):
        ids = []

        def meddling(self, run, report):
            reported(self, run, report)
            if isinstance(report, Trained) and run.key == "00-r0" and not ids:
                parent, children = workplace.runs(experiment)
                ids.append((parent if to_parent else children[0]).info.run_id)
                act(workplace.client, ids[0])

        monkeypatch.setattr(StudyProgress, "reported", meddling)
        return ids

    return begin


def run(work, experiment, *more):
    return work.run(work.write_grid(GRID), "--workers", "0", *more, experiment=experiment)


@pytest.mark.parametrize("branches", ["1", "2"])
@pytest.mark.parametrize(
    ("act", "how"),
    [(delete, "deleted"), (remove_for_good, "not found"), (end_by_hand, "ended as KILLED by hand")],
    ids=["deleted", "removed by gc", "ended by hand"],
)
def test_a_study_goes_on_without_a_run_that_is_gone(
    workplace, experiment, meddle, capsys, act, how, branches
):
    ids = meddle(act)
    assert run(workplace, experiment, "--branches", branches) == 0
    said = capsys.readouterr()
    assert "1 runs finished, 1 deleted or ended by hand; parent run" in said.out
    (line,) = (line for line in said.err.splitlines() if "given up" in line)
    assert how in line
    assert ids[0] in line
    parent, children = workplace.runs(experiment)
    assert parent.info.status == "FINISHED"
    note = parent.data.tags["mlflow.note.content"]
    assert "1 of 2 runs finished, 1 deleted or ended by hand." in note
    ends = {one.info.run_id: one.info.status for one in children}
    assert ends.pop(ids[0], None) == ("KILLED" if act is end_by_hand else None)
    assert list(ends.values()) == ["FINISHED"]
    assert checkpoint_path(ids[0]).exists(), "it can be resumed if it is brought back"


@pytest.mark.parametrize("is_restored", [True, False])
def test_a_deleted_run_goes_on_where_it_was_if_it_is_restored_and_is_begun_anew_if_not(
    workplace, experiment, meddle, monkeypatch, capsys, is_restored
):
    ids = meddle(delete)
    run(workplace, experiment)
    parent, _ = workplace.runs(experiment)
    if is_restored:
        workplace.client.restore_run(ids[0])
    monkeypatch.setenv("UNHURRIED_S", "0")
    capsys.readouterr()
    assert workplace.resume(parent, "--workers", "0") == 0
    what = "1 to go on with" if is_restored else "1 to begin"
    assert f"of 2 runs: 1 finished, {what}" in capsys.readouterr().err
    _, children = workplace.runs(experiment)
    assert [one.info.status for one in children] == ["FINISHED", "FINISHED"]
    assert (children[0].info.run_id == ids[0]) == is_restored
    assert len(workplace.losses(children[0])) == 200 * 4


@pytest.mark.parametrize(
    ("act", "how"), [(delete, "was deleted"), (end_by_hand, "was ended as KILLED by hand")]
)
def test_a_study_whose_parent_is_gone_stops_and_says_how_to_go_on(
    workplace, experiment, meddle, capsys, act, how
):
    ids = meddle(act, to_parent=True)
    assert run(workplace, experiment) == 1
    said = capsys.readouterr().err
    assert f"run {ids[0]} {how}" in said
    assert f"ecg-mlflow run --resume {ids[0]}" in said
    if act is delete:
        assert f"mlflow runs restore --run-id {ids[0]}" in said
        workplace.client.restore_run(ids[0])
    _, children = workplace.runs(experiment)
    assert [one.info.status for one in children] == ["KILLED"]
    assert len(workplace.losses(children[0])) > 0
