"""Disks that are full: for checkpoints, for packed recordings, for what is prepared of them."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from chaos import (
    GRID,
    KERAS_GRID,
    Fault,
    assert_same,
    differences,
    first_repetition,
    opened_lab,
    portraits,
    undisturbed,
)
from gallery import empty_store
from mlflow import MlflowClient
from studies import grid_text
from waiting import wait_for

from ecg_mlflow import load_corpus
from ecg_mlflow.cli import main
from ecg_mlflow.errors import StorageFullError
from ecg_mlflow.files import CHECKPOINT_VARIABLE, ENVIRONMENT_VARIABLE
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.training import load_checkpoint

slow = pytest.mark.slow
nightly = pytest.mark.nightly

SIZE = 4 << 20
#: Half of its pipeline runs once per record: 20 records of 310 to 500 samples, doubled.
PREPARING = grid_text(
    before="from numpy_net import NumpyNet\nonce = Pipeline().resample_signals(500)",
    train="once.center_flip().random_split_signals(128, 2)",
    test="once.split_signals(128, step=64)",
    epochs="1",
    grid="Option('hidden', [2, 3])",
    model="NumpyNet",
    model_arguments="",
)


class Disk:
    """A disk of four megabytes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._ballast = folder / "ballast"

    def fill(self, room: int = 0) -> None:
        """Leave no more than so many bytes, to the nearest page."""
        free = os.statvfs(self.folder)
        size = max(0, free.f_bavail * free.f_bsize - room)
        with self._ballast.open("ab") as file:
            file.write(bytes(size))

    def make_room(self) -> None:
        self._ballast.unlink()

    def names(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*"))


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)]
    try:
        done = subprocess.run(mount, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("no small disk: there is no mount command here")
    if done.returncode:
        pytest.skip(f"no small disk: only root may mount one ({done.stderr.strip()})")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture(params=[GRID])
def grid(request):
    return request.param


@pytest.fixture
def expected(tmp_path_factory, beats, grid):
    return first_repetition(undisturbed(tmp_path_factory, beats, grid=grid))


@pytest.fixture
def lab(disk, tmp_path, tmp_path_factory, beats, grid):
    """Whose checkpoints go to the small disk."""
    (tmp_path / "lab").mkdir()
    with opened_lab(
        tmp_path / "lab",
        beats,
        empty=empty_store(tmp_path_factory),
        grid=grid,
        **{CHECKPOINT_VARIABLE: str(disk.folder)},
    ) as lab:
        yield lab


def fill_while_training(lab, disk, *, faults=()):
    """Start the study and fill the disk once it has saved something; wait for the word on it."""
    driver = lab.run("--reps", "1", faults=faults)
    driver.wait_for(lambda: driver.parent and lab.is_training(driver.parent) and saved(disk))
    disk.fill()
    driver.wait_for(lambda: f"no space left on the disk of {disk.folder}" in driver.said)
    return driver


def saved(disk):
    return sorted(disk.folder.glob("*.npz"))


def check_message(said, disk):
    assert f"no space left on the disk of {disk.folder}" in said
    assert "Make room there" in said
    assert ENVIRONMENT_VARIABLE in said
    assert CHECKPOINT_VARIABLE in said
    assert "Traceback" not in said


# --- Checkpoints ---------------------------------------------------------------------------------


@slow
@pytest.mark.parametrize(
    "grid",
    [pytest.param(GRID, id="numpy"), pytest.param(KERAS_GRID, id="keras", marks=nightly)],
    indirect=True,
)
def test_without_room_for_checkpoints_the_study_goes_on_to_its_end(lab, disk, expected):
    driver = fill_while_training(lab, disk)
    assert driver.wait() == 0, driver.said
    check_message(driver.said, disk)
    assert lab.left_over() == ["ballast"]
    disk.make_room()
    assert_same(lab, driver.parent, expected)


@slow
@nightly
def test_checkpoints_of_before_the_disk_was_full_serve_a_resumed_study(lab, disk, expected):
    driver = fill_while_training(lab, disk)
    old = saved(disk)
    assert old
    driver.kill()
    wait_for(lambda: not lab.processes())
    iterations = [
        checkpoint.state["iteration"]
        for path in saved(disk)
        if (checkpoint := load_checkpoint(path)) is not None
    ]
    assert len(iterations) == len(saved(disk)) >= 1, "none is damaged"
    assert all(iteration > 0 for iteration in iterations)
    disk.make_room()
    lab.environment["UNHURRIED_S"] = "0"
    resumed = lab.run("--resume", driver.parent)
    assert resumed.wait() == 0, resumed.said
    assert "begins anew" not in resumed.said
    assert_same(lab, driver.parent, expected)


@slow
@nightly
@pytest.mark.parametrize("call", [RunLog.complete, MlflowClient.log_text])
def test_a_worker_that_dies_at_the_end_of_a_run_it_could_not_save_doubles_nothing(
    lab, disk, expected, call
):
    driver = fill_while_training(lab, disk, faults=[Fault("worker", call)])
    assert driver.wait() == 0, driver.said
    assert lab.happened()
    disk.make_room()
    # It may have to begin anew: what the store has is ahead of the last checkpoint.
    replaced = [r for r in lab.children(driver.parent) if "ecg_mlflow.replaced" in r.data.tags]
    assert len(replaced) <= 1
    assert_same(lab, driver.parent, expected, replaced=len(replaced))


# --- The cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "room"),
    [
        ("records", 0),
        ("records", 8 << 10),
        ("demo:24", 0),
        ("demo:24", 200 << 10),  # of half a megabyte of files
        ("demo:24", 800 << 10),  # and as much again, packed
    ],
)
def test_without_room_for_the_packed_records_a_command_ends_with_a_clear_message(
    disk, beats, monkeypatch, capsys, room, data
):
    data = str(beats) if data == "records" else data
    expected = load_corpus(data).digest
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(disk.folder))
    disk.fill(room)
    assert main(["data", data]) == 1
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("ecg-mlflow: error: no space left on the disk of")
    check_message(said.err.replace(f"{disk.folder}/", f"{disk.folder} "), disk)
    with pytest.raises(StorageFullError):
        load_corpus(data)
    left = [name for name in disk.names() if ".part" in name]
    assert left == []

    disk.make_room()
    corpus = load_corpus(data)
    corpus.verify()
    assert corpus.digest == expected
    assert main(["data", data]) == 0


@slow
def test_a_study_without_room_for_the_packed_records_opens_no_run(lab, disk, expected):
    lab.environment[CHECKPOINT_VARIABLE] = str(lab.folder / "checkpoints")
    lab.environment[ENVIRONMENT_VARIABLE] = str(disk.folder)
    lab.environment["UNHURRIED_S"] = "0"
    disk.fill()
    driver = lab.run("--reps", "1")
    assert driver.wait() == 1
    check_message(driver.said.replace(f"{disk.folder}/", f"{disk.folder} "), disk)
    assert driver.parent is None
    experiments = [one.experiment_id for one in lab.client.search_experiments()]
    assert list(lab.client.search_runs(experiments)) == []
    disk.make_room()
    again = lab.run("--reps", "1")
    assert again.wait() == 0, again.said
    assert_same(lab, again.parent, expected)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory, beats):
    """Return what the study that prepares its records comes to, by identity."""
    return undisturbed(tmp_path_factory, beats, grid=PREPARING)


@slow
@nightly
@pytest.mark.parametrize("room", [0, 12 << 10, 44 << 10])
def test_without_room_for_what_is_prepared_a_study_opens_no_run(
    lab, disk, prepared, monkeypatch, beats, room
):
    lab.environment[CHECKPOINT_VARIABLE] = str(lab.folder / "checkpoints")
    lab.environment[ENVIRONMENT_VARIABLE] = str(disk.folder)
    (lab.folder / "grid.py").write_text(PREPARING)
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(disk.folder))
    raw = load_corpus(str(beats)).path.name
    disk.fill(room)
    driver = lab.run()
    assert driver.wait() == 1, driver.said
    check_message(driver.said.replace(f"{disk.folder}/", f"{disk.folder} "), disk)
    assert driver.parent is None
    wait_for(lambda: not lab.processes())
    left = os.listdir(disk.folder / "corpora")
    assert raw in left
    assert not [name for name in disk.names() if ".part" in name], "nothing half done is left"

    disk.make_room()
    again = lab.run()
    assert again.wait() == 0, again.said
    found = portraits(lab, again.parent)
    assert found.keys() == prepared.keys()
    for identity, one in found.items():
        assert differences(one, prepared[identity]) == []
    for path in (disk.folder / "corpora").iterdir():
        if not path.name.startswith("."):
            load_corpus(str(beats)).open(path).verify()
