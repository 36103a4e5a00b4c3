"""Studies that are gone on with, grown, repeated and reused, from the command line."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

import pytest
from studies import NETWORKS, numpy_grid, reason

from ecg_mlflow import load_results
from ecg_mlflow.cli import main
from ecg_mlflow.files import checkpoint_root
from ecg_mlflow.provenance import ProcessMark, _birth
from ecg_mlflow.study.launch import link_project_run
from ecg_mlflow.tracking.stored_run import (
    ATTEMPT_TAG,
    COMPLETE_TAG,
    IDENTITY_TAG,
    IDENTITY_VERSION_TAG,
    PLAN_TAG,
    REPLACED_TAG,
)
from ecg_mlflow.tracking.stored_study import read_study

SMALL = numpy_grid(grid="Option('hidden', [2, 3])")
GROWN = numpy_grid(grid="Option('hidden', [3, 4, 2])")
#: The second configuration fails as long as a file named `broken` lies beside the grid file.
FRAGILE = numpy_grid(
    before="""
from pathlib import Path

class Net(NumpyNet):
    @staticmethod
    def step_factory(settings, input_shape, seed):
        if settings.arguments["hidden"] == 3 and Path(BROKEN).exists():
            raise ValueError("no such net today")
        return NumpyNet.step_factory(settings, input_shape, seed)
""",
    grid="Option('hidden', [2, 3])",
    model="Net",
)


def run(work, experiment, *more, grid=SMALL):
    return work.run(work.write_grid(grid), "--workers", "0", *more, experiment=experiment)


def test_a_study_that_is_resumed_runs_only_what_is_new(workplace, experiment, capsys, monkeypatch):
    assert run(workplace, experiment, "--epochs", "2") == 0
    parent, before = workplace.runs(experiment)
    resume = ("--resume", parent.info.run_id)
    assert run(workplace, experiment, *resume, "--epochs", "9") == 1, "it is another study"
    assert "not one of them is among the 2 that are planned now" in capsys.readouterr().err
    assert workplace.resume(parent, "--workers", "0") == 0, "it remembers what it began with"
    said = capsys.readouterr()
    assert "of 2 runs: 2 finished" in said.err
    assert said.out.endswith(
        f"2 runs finished; parent run {parent.info.run_id}\n"
        f"Look at them with: mlflow ui --backend-store-uri {workplace.client.tracking_uri}\n"
    )
    again, after = workplace.runs(experiment)
    assert again.info.run_id == parent.info.run_id
    assert again.info.status == "FINISHED"
    assert [run.info for run in after] == [run.info for run in before]

    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", io.StringIO())
        sys.stdout.close()
        with pytest.raises(ValueError, match="closed file") as error:
            workplace.resume(parent, "--workers", "0")
    assert not hasattr(error.value, "__notes__"), "there is nothing to go on with"

    monkeypatch.setenv("MLFLOW_RUN_ID", parent.info.run_id)  # as `mlflow run` says it
    assert run(workplace, experiment, grid=GROWN) == 0
    assert "of 3 runs: 2 finished, 1 to begin" in capsys.readouterr().err
    grown, after = workplace.runs(experiment)
    assert grown.info.run_id == parent.info.run_id
    assert len(after) == 3
    assert {r.info.run_id for r in before} < {r.info.run_id for r in after}
    assert len(workplace.text(grown, "leaderboard.csv").splitlines()) == 1 + 3
    assert grown.data.metrics["runs_done"] == 3


@pytest.fixture
def refused(workplace, experiment, capsys, monkeypatch):
    """Check that a study is resumed neither by an option nor by MLflow; return what is said."""

    def check(run_id):
        before = workplace.client.get_run(run_id)
        capsys.readouterr()
        said = []
        for more in (("--resume", run_id), ()):
            if not more:
                monkeypatch.setenv("MLFLOW_RUN_ID", run_id)
            assert run(workplace, experiment, *more) == 1
            said.append(capsys.readouterr().err)
            after = workplace.client.get_run(run_id)
            assert after.info.status == before.info.status
            assert after.data.tags == before.data.tags
        assert said[0] == said[1]
        return said[0]

    return check


def test_what_a_grid_that_became_smaller_does_not_list_any_more_stays_visible(
    workplace, experiment, capsys
):
    assert run(workplace, experiment, "--epochs", "2", grid=GROWN) == 0
    parent, _ = workplace.runs(experiment)
    resume = ("--resume", parent.info.run_id)
    assert run(workplace, experiment, *resume, grid=SMALL) == 0
    said = "No longer planned, but kept, and shown by compare and load_results: 01 NumpyNet 4 ("
    assert said in capsys.readouterr().err
    parent, _ = workplace.runs(experiment)
    assert said in parent.data.tags["mlflow.note.content"].replace("\\", "")
    results = load_results(parent.info.run_id, workplace.client.tracking_uri)
    assert set(results.hidden) == {2, 3, 4}


def test_what_is_no_study_is_an_error(workplace, capsys):
    run_id = workplace.client.create_run("0").info.run_id
    assert run(workplace, "x", "--resume", run_id) == 1
    assert f"run {run_id} is no study of ecg_mlflow" in capsys.readouterr().err
    assert run(workplace, "x", "--resume", "0" * 32) == 1
    assert "Run with id=0000" in capsys.readouterr().err


def test_a_study_that_another_process_runs_is_left_alone(workplace, experiment, refused):
    assert run(workplace, experiment) == 0
    run_id = workplace.runs(experiment)[0].info.run_id
    other = replace(ProcessMark.own(), pid=1, birth=_birth(1))
    for key, value in other.tags().items():
        workplace.client.set_tag(run_id, key, value)
    workplace.client.update_run(run_id, status="RUNNING")
    assert "is being run by process 1 on" in refused(run_id)


def test_a_study_of_the_first_identities_says_why_it_is_not_resumed(workplace, experiment, refused):
    assert run(workplace, experiment) == 0
    parent, _ = workplace.runs(experiment)
    run_id = parent.info.run_id
    assert parent.data.tags[IDENTITY_VERSION_TAG] == "2"
    workplace.client.delete_tag(run_id, IDENTITY_VERSION_TAG)
    said = refused(run_id)
    assert f"study {run_id} can't be resumed: it was begun by ecg_mlflow 0.1.0" in said
    assert "identities of version 1, and this ecg_mlflow makes those of version 2" in said
    assert "run the grid file anew, without resume" in said
    assert len(read_study(workplace.client, run_id).runs) == 2


def test_failed_runs_are_tried_again_when_asked_for(workplace, experiment, capsys):
    broken = workplace.folder / "broken"
    broken.touch()
    grid = FRAGILE.replace("BROKEN", repr(str(broken)))
    assert run(workplace, experiment, grid=grid) == 3
    parent, children = workplace.runs(experiment)
    assert [r.info.status for r in children] == ["FINISHED", "FAILED"]
    assert "no such net today" in reason(children[1])

    broken.unlink()
    assert workplace.resume(parent, "--workers", "0") == 3
    assert "of 2 runs: 1 finished, 1 failed and left so" in capsys.readouterr().err
    assert len(workplace.runs(experiment)[1]) == 2

    assert workplace.resume(parent, "--workers", "0", "--retry-failed") == 0
    parent, children = workplace.runs(experiment)
    assert sorted(r.info.status for r in children) == ["FAILED", "FINISHED", "FINISHED"]
    assert parent.info.status == "FINISHED"
    assert reason(parent) == ""
    (second,) = [r for r in children if r.data.tags[ATTEMPT_TAG] == "2"]
    assert second.info.status == "FINISHED"
    assert len(workplace.losses(second)) == len(workplace.losses(children[0]))


def test_runs_of_earlier_studies_are_reused_and_linked_where_that_is_asked_for(
    workplace, experiment, capsys
):
    # With a seed that no other test in this store has.
    small, grown = (text.replace("classes=", "seed=17,\n    classes=") for text in (SMALL, GROWN))
    assert run(workplace, experiment, grid=small) == 0
    first, before = workplace.runs(experiment)
    capsys.readouterr()
    later = f"{experiment} later"
    assert run(workplace, later, "--reuse", grid=grown) == 0
    said = capsys.readouterr()
    assert "of 3 runs: 2 taken over from other studies, 1 to begin" in said.err
    assert "3 runs finished; " in said.out
    parent, children = workplace.runs(later)
    assert len(children) == 1
    note = parent.data.tags["mlflow.note.content"]
    assert "2 of them were finished before, in other studies" in note
    assert first.info.run_id in note
    table = workplace.text(parent, "leaderboard.csv")
    assert len(table.splitlines()) == 1 + 3
    assert all(str(r.data.metrics["test_roc_auc"]) in table for r in before)
    untouched = workplace.runs(experiment)[1]
    assert [r.info.end_time for r in untouched] == [r.info.end_time for r in before]

    assert run(workplace, f"{experiment} again", grid=small) == 0
    again = workplace.runs(f"{experiment} again")[1]
    identities = [[r.data.tags[IDENTITY_TAG] for r in runs] for runs in (again, before)]
    assert identities[0] == identities[1]


#: A package beside the grid file: of what its step does, a part is imported when it runs.
BESIDE = {
    "resume_steps/__init__.py": "",
    "resume_steps/scaling.py": """
from . import sizes

def scaled(signal, fs):
    from resume_late import LATE
    return signal * sizes.SIZE * LATE
""",
    "resume_steps/sizes.py": "SIZE = 2.0",
    "resume_late.py": "LATE = 1.0",
}
STEPS = numpy_grid(
    before="from resume_steps.scaling import scaled",
    grid="Option('hidden', [2])",
    seed="29",
    train="root.apply(scaled).random_split_signals(128, 2)",
    test="root.apply(scaled).split_signals(128, step=64)",
)


def test_what_stands_beside_the_grid_file_is_trained_anew_where_it_has_changed(
    workplace, experiment, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", str(NETWORKS))

    def train(name, beside, workers="0"):
        path = workplace.write_grid(STEPS, "design/small.py", **beside)
        more = ("--workers", workers, "--reuse")
        assert workplace.run(path, *more, experiment=f"{experiment} {name}") == 0
        parent, children = workplace.runs(f"{experiment} {name}")
        return parent, [workplace.losses(child) for child in children]

    parent, (first,) = train("first", BESIDE)
    assert {f"design/{name}" for name in ("small.py", *BESIDE)} < workplace.artifacts(parent)
    comment = BESIDE["resume_steps/scaling.py"].replace("fs):", 'fs):\n    """Scale."""  # so')
    assert train("a comment", {**BESIDE, "resume_steps/scaling.py": comment})[1] == []
    changed = {**BESIDE, "resume_steps/sizes.py": "SIZE = 3.0"}
    _, (second,) = train("a constant", changed, workers="1")
    _, (third,) = train("imported inside", {**BESIDE, "resume_late.py": "LATE = 1.5"})
    assert second != first
    assert third == second, "in this process as in another one"


def test_a_run_whose_checkpoint_is_gone_is_replaced(workplace, experiment, capsys):
    assert run(workplace, experiment, "--configs", "0") == 0
    parent, (child,) = workplace.runs(experiment)
    # As if its process had died on another machine, which kept the checkpoint.
    workplace.client.delete_tag(child.info.run_id, COMPLETE_TAG)
    workplace.client.set_terminated(child.info.run_id, "KILLED")
    assert workplace.resume(parent, "--workers", "0") == 0
    assert "begins anew: " in capsys.readouterr().err
    _, children = workplace.runs(experiment)
    old, new = sorted(children, key=lambda r: r.info.start_time)
    assert old.info.status == "KILLED"
    assert old.data.tags[REPLACED_TAG] == new.info.run_id
    assert new.info.status == "FINISHED"
    assert workplace.losses(new) == workplace.losses(old)
    assert list(checkpoint_root().glob("*.npz")) == []


def test_branches_give_the_same_losses(workplace, experiment):
    grid = numpy_grid(
        grid="Option.product(Option('hidden', [2, 3, 4]), Option('n_epochs', [2, 3, 2]))",
        epochs="C('n_epochs')",
    )
    alone, together = f"{experiment} alone", f"{experiment} together"
    assert run(workplace, alone, grid=grid) == 0
    assert run(workplace, together, "--branches", "2", grid=grid) == 0
    pairs = zip(workplace.runs(alone)[1], workplace.runs(together)[1], strict=True)
    for one, other in pairs:
        assert one.info.run_name == other.info.run_name
        assert workplace.losses(one) == workplace.losses(other)


def test_the_run_of_mlflow_run_tells_which_study_went_on(workplace, experiment):
    client = workplace.client
    made = client.create_experiment(experiment)
    study, placeholder = (client.create_run(made).info.run_id for _ in range(2))
    with link_project_run(client, placeholder, study):
        pass
    found = client.get_run(placeholder)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == f"resume of {study}"
    assert f"#/experiments/{made}/runs/{study}" in found.data.tags["mlflow.note.content"]
    assert PLAN_TAG not in found.data.tags, "it is not a study that could be resumed itself"


def test_a_study_is_resumed_by_what_other_commands_call_it(workplace, experiment, capsys):
    grid = workplace.write_grid(SMALL, f"{experiment.replace(' ', '_')}.py")
    assert workplace.run(grid, "--configs", "0", "--workers", "0", experiment=experiment) == 0
    parent, _ = workplace.runs(experiment)
    for name in (grid.stem, parent.info.run_id[:12], parent.info.run_id):
        assert main(["run", "--resume", name, "--workers", "0"]) == 0
        assert f"parent run {parent.info.run_id}" in capsys.readouterr().err
    assert main(["run", "--resume", "no such study"]) == 1
    assert "there is no study 'no such study'" in capsys.readouterr().err
    for command in (["run", "--resume", " "], ["compare", ""], ["errors", " "]):
        assert main(command) == 1
        assert "here the name is empty" in capsys.readouterr().err
    assert main(["predict", "", str(workplace.records / "S01.hea")]) == 1
    assert "the model's name is empty" in capsys.readouterr().err
