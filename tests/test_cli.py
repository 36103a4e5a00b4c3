"""The command line in this process: words, exit codes, and bad input of every kind."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
from studies import grid_text, reason

from ecg_mlflow.cli import main
from ecg_mlflow.records.sources import load_corpus
from ecg_mlflow.study import launch


@pytest.fixture
def refused(workplace, experiment, capsys, monkeypatch):
    """Run a command that can't be carried out, in the run that ``mlflow run`` made for it.

    Checks that it ends with status 1, that no child was made, and that the run is FAILED with the
    message as its reason; returns the message.
    """

    def run(grid, *more, data=None):
        client = workplace.client
        made = client.create_run(client.create_experiment(experiment))
        monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
        status = workplace.run(grid, *more, experiment="not looked at", data=data)
        message = capsys.readouterr().err
        assert status == 1
        assert "ecg-mlflow: error: " in message
        assert "Traceback" not in message
        (parent, children) = workplace.runs(experiment)
        assert not children
        assert parent.info.run_id == made.info.run_id
        assert parent.info.status == "FAILED"
        assert reason(parent)
        assert reason(parent)[:200] in message
        return message

    return run


def damaged(workplace) -> Path:
    """Copy the records, with six faults of different kinds."""
    folder = workplace.folder / "damaged"
    shutil.copytree(workplace.records, folder)
    (folder / "S05.dat").unlink()
    whole = (folder / "S06.dat").read_bytes()
    (folder / "S06.dat").write_bytes(whole[: len(whole) // 2])
    (folder / "S07.hea").write_text("this is no header\n")
    samples = bytearray((folder / "S08.dat").read_bytes())
    samples[20:22] = b"\x00\x80"  # -32768, WFDB's NaN in format 16
    (folder / "S08.dat").write_bytes(samples)
    labels = (folder / "REFERENCE.csv").read_text()
    labels = labels.replace("S09,A\n", "").replace("S10,N\n", "S10,X\n")
    (folder / "REFERENCE.csv").write_text(labels)
    return folder


@pytest.mark.parametrize(
    ("text", "words", "message"),
    [
        (
            grid_text(grid="Option('layuot', ['c']) * Option('layout', ['c'])"),
            "",
            "configuration layout_c-layuot_c: nothing consumes the option 'layuot'",
        ),
        (grid_text(test="root.split_signals(64, 64)"), "", "train (128, 1), test (64, 1)"),
        (grid_text(classes="['A', 'NO']"), "", "'N'; classes are ['A', 'NO']"),
        (grid_text(split="Split(records={'test': ['S99']})"), "", "the corpus doesn't have"),
        ("x = 1\n1 / 0\n", "", "small.py:2: ZeroDivisionError: division by zero"),
        (grid_text(), "--configs 7", "configs='7'"),
        (grid_text(), "--configs layout=nca", "configs='layout=nca'"),
        (grid_text(), "--data nowhere", "nowhere"),
        (grid_text(), "--gpus 0,1", "asks for 0, 1. GPUs found: none"),
        (None, "", "no grid file 'small.py'. quickstart.py, resnet.py"),
    ],
)
def test_a_study_that_can_not_be_run(workplace, refused, text, words, message):
    grid = workplace.write_grid(text) if text else "small.py"
    told = refused(grid, *words.split())
    assert all(part in told for part in message.split(". "))


def test_all_bad_records_in_one_error(workplace, refused):
    message = refused(workplace.write_grid(grid_text()), data=str(damaged(workplace)))
    named = {line.split()[0] for line in message.splitlines() if line.startswith("  ")}
    assert named == {"S05", "S06", "S07", "S08", "S09", "S10"}
    assert "on_bad_record=skip" in message


MODELS = """
def raises(input_shape, n_classes, layout):
    raise ValueError("seven leads needed")
def is_wrong(input_shape, n_classes, layout):
    import keras
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(n_classes)(inputs))
def no_model(input_shape, n_classes, layout):
    return "a model"
def ends_in_softmax(input_shape, n_classes, layout):
    import keras
    inputs = keras.Input(input_shape)
    x = keras.layers.GlobalAveragePooling1D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(n_classes, activation="softmax")(x))
def is_fine(input_shape, n_classes, layout):
    import keras
    inputs = keras.Input(input_shape)
    return keras.Model(inputs, keras.layers.Dense(n_classes)(keras.layers.Flatten()(inputs)))
"""


def test_models_that_can_not_be_built_are_found_before_any_run(workplace, refused):
    options = "Option('model', [raises, is_wrong, no_model, ends_in_softmax, is_fine])"
    text = grid_text(
        MODELS, grid=f"{options} * Option('layout', ['c'])", model="", model_arguments=""
    )
    message = refused(workplace.write_grid(text))
    assert "configuration layout_c-model_raises: ValueError: seven leads needed" in message
    assert "layout_c-model_is_wrong: ModelError: is_wrong takes (None, 128, 1)" in message
    assert "returns (None, 128, 2)" in message
    assert "no_model returned str, not a keras.Model" in message
    assert "ends_in_softmax ends in probabilities" in message
    assert "is_fine" not in message


def test_an_unreachable_server_is_known_before_data_are_read(workplace, capsys, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(launch, "load_corpus", lambda *_, **__: pytest.fail("data read"))
    status = workplace.run(workplace.write_grid(grid_text()), experiment="x")
    assert status == 1
    assert f"http://127.0.0.1:{port}" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_without_permission(workplace, capsys, monkeypatch):
    folder = workplace.folder / "locked"
    folder.mkdir(mode=0o500)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{folder / 'mlflow.db'}")
    assert workplace.run(workplace.write_grid(grid_text()), experiment="x") == 1
    assert "can't be written" in capsys.readouterr().err


def test_an_error_of_our_own_making_is_the_runs_reason_too_and_ctrl_c_ends_with_130(
    workplace, experiment, capsys, monkeypatch
):
    faults = iter([RuntimeError("a bug"), KeyboardInterrupt])

    def broken(*_, **__):
        raise next(faults)

    client = workplace.client
    made = client.create_run(client.create_experiment(experiment))
    monkeypatch.setenv("MLFLOW_RUN_ID", made.info.run_id)
    monkeypatch.setattr(launch, "plan_study", broken)
    grid = workplace.write_grid(grid_text())
    with pytest.raises(RuntimeError, match="a bug"):
        workplace.run(grid, experiment="x")
    parent, _ = workplace.runs(experiment)
    assert (parent.info.status, reason(parent)) == ("FAILED", "RuntimeError: a bug")
    assert workplace.run(grid, experiment="x") == 130
    assert "stopped" in capsys.readouterr().err


# --- What goes well ------------------------------------------------------------------------------


def test_plan_and_a_dry_run_show_the_plan_and_make_no_run(workplace, experiment, capsys):
    grid = workplace.write_grid(grid_text())
    assert workplace.run(grid, "--dry-run", "--reps", "3", experiment=experiment) == 0
    out = capsys.readouterr().out
    assert "2 configurations x 3 repetitions = 6 runs" in out
    assert "ResNet cna" in out
    assert " 102 " in out
    assert workplace.runs(experiment) == (None, [])
    assert main(["plan", str(grid), "--data", str(workplace.records), "--configs", "1"]) == 0
    assert "1 configurations x 1 repetitions = 1 runs" in capsys.readouterr().out


def test_leads_and_gaps_of_the_command_or_else_of_the_grid_file(
    workplace, experiment, tmp_path, write_record, capsys
):
    for k in range(6):
        signal = np.random.default_rng(k).normal(0, 0.3, (500, 3))
        signal[100:105] = -32.768
        write_record(tmp_path, f"R{k}", signal, leads=["II", "V5", "RESP"])
    (tmp_path / "REFERENCE.csv").write_text("".join(f"R{k},{'AN'[k % 2]}\n" for k in range(6)))
    reading = {"leads": "'v5'", "gaps": "'interpolate:0.02'"}
    grid = workplace.write_grid(grid_text(split="Split(0.5, stratified=True)", **reading))
    for more, parameters in (((), " 102 "), (("--leads", "V5,II"), " 130 ")):
        words = ("--dry-run", *more)
        assert workplace.run(grid, *words, experiment=experiment, data=str(tmp_path)) == 0
        said = capsys.readouterr()
        assert "note: interpolated" in said.err
        assert parameters in said.out
    assert main(["data", str(tmp_path), "--leads", "ii", "--gaps", "interpolate:0.02"]) == 0
    said = capsys.readouterr().out
    assert "leads:    ii (6)" in said
    assert "note:     interpolated 30 samples in gaps of 6 records" in said
    assert "V5 (mV, 250 Hz) of 6 records, RESP (mV, 250 Hz) of 6 records" in said


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_bad_records_are_left_out_and_listed_in_the_experiment_of_the_environment(
    workplace, experiment, capsys, monkeypatch
):
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    grid = workplace.write_grid(grid_text(epochs="1"))
    words = ["run", str(grid), "--data", str(damaged(workplace)), "--on-bad-record", "skip"]
    assert main([*words, "--configs", "0", "--workers", "0"]) == 0
    assert "note: 6 bad records are left out" in capsys.readouterr().err
    parent, (child,) = workplace.runs(experiment)
    assert child.info.status == "FINISHED"
    listed = workplace.text(parent, "left_out.txt")
    assert all(name in listed for name in ("S05", "S06", "S07", "S08", "S09", "S10"))


def test_the_demo_corpus_uses_the_smaller_budget(workplace, experiment, capsys):
    text = grid_text(
        train="root.drop_labels(['~']).random_split_signals(3000, 1)",
        test="root.drop_labels(['~']).split_signals(3000, 3000)",
        classes="['A', 'N', 'O']",
        split="Split(0.5, stratified=True)",
        epochs="50",
        demo="DemoBudget(records=30, epochs=2, repetitions=1)",
        repetitions="5",
    )
    grid = workplace.write_grid(text)
    assert workplace.run(grid, "--dry-run", experiment=experiment, data="demo") == 0
    said = capsys.readouterr()
    assert "small runs with epochs=2 instead of 50, reps=1 instead of 5" in said.err
    assert len(said.err.strip().splitlines()) == 1
    assert "2 configurations x 1 repetitions = 2 runs" in said.out
    assert "of 30 from demo" in said.out
    assert len(load_corpus("demo:30")) == 30
    more = ("--dry-run", "--epochs", "3", "--reps", "2")
    assert workplace.run(grid, *more, experiment=experiment, data="demo:30") == 0
    said = capsys.readouterr()
    assert "instead of" not in said.err, "the user's own numbers win"
    assert "2 configurations x 2 repetitions = 4 runs" in said.out
