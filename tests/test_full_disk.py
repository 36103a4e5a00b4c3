"""Disks that are full: for checkpoints, for packed recordings, for what is prepared of them."""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress

import psutil
import pytest
from chaos import FEW, GRID, KERAS_GRID, Fault, Lab, assert_same
from mlflow import MlflowClient
from studies import numpy_grid

from ecg_mlflow import load_corpus
from ecg_mlflow.cli import main
from ecg_mlflow.files import CHECKPOINT_VARIABLE, ENVIRONMENT_VARIABLE
from ecg_mlflow.tracking.run_log import RunLog
from ecg_mlflow.tracking.stored_run import REPLACED_TAG
from ecg_mlflow.training.checkpoint import load_checkpoint

nightly = pytest.mark.nightly

SIZE = 4 << 20
#: Half of its pipeline runs once per record: 20 records of 310 to 500 samples, doubled.
PREPARING = numpy_grid(
    before="once = Pipeline().resample_signals(500)",
    train="once.center_flip().random_split_signals(128, 2)",
    test="once.split_signals(128, step=64)",
    epochs="1",
    grid="Option('hidden', [2, 3])",
)


class Disk:
    """A disk of four megabytes."""

    def __init__(self, folder):
        self.folder = folder
        self.cache, self.checkpoints = folder / "cache", folder / "checkpoints"
        self._ballast = folder / "ballast"

    def fill(self, room=0):
        """Leave no more than so many bytes, to the nearest page."""
        free = psutil.disk_usage(self.folder).free
        with suppress(OSError), self._ballast.open("ab") as file:  # others write, too
            file.write(bytes(max(0, free - room)))

    def make_room(self):
        self._ballast.unlink()

    def half_written(self):
        return [*self.folder.rglob("*.part*")]

    def saved(self):
        return sorted(self.checkpoints.glob("*.npz"))


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


@pytest.fixture
def lab(disk, tmp_path_factory, beats, request):
    """Whose cache and checkpoints go to the small disk."""
    folders = {ENVIRONMENT_VARIABLE: str(disk.cache), CHECKPOINT_VARIABLE: str(disk.checkpoints)}
    with Lab(tmp_path_factory, beats, getattr(request, "param", GRID), **folders) as lab:
        yield lab


def fill_while_training(lab, disk, *, faults=()):
    """Start the study and fill the disk once it has saved something; wait for the word on it."""
    lab.environment["UNHURRIED_S"] = "0.004"
    driver = lab.run_until_it_trains(*FEW, faults=faults)
    driver.wait_for(disk.saved)
    disk.fill()
    driver.wait_for(lambda: "no space left on the disk of" in driver.said)
    return driver


def check_message(said, folder):
    assert f"no space left on the disk of {folder}" in said
    assert "Make room there" in said
    assert ENVIRONMENT_VARIABLE in said
    assert CHECKPOINT_VARIABLE in said
    assert "Traceback" not in said


def assert_opens_no_run(lab, disk, *more):
    """Check that the study finds out that there is no room in the cache before it begins."""
    driver = lab.run(*more)
    assert driver.end() == 1, driver.said
    check_message(driver.said, disk.cache)
    assert driver.parent is None
    lab.wait_until_all_have_ended()
    assert not lab.client.search_runs(
        [one.experiment_id for one in lab.client.search_experiments()]
    )
    assert not disk.half_written()


# --- Checkpoints ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize(
    "lab",
    [pytest.param(GRID, id="numpy"), pytest.param(KERAS_GRID, id="keras", marks=nightly)],
    indirect=True,
)
def test_a_study_needs_room_to_begin_and_goes_on_to_its_end_without(lab, disk):
    disk.fill()
    assert_opens_no_run(lab, disk, *FEW)
    disk.make_room()
    driver = fill_while_training(lab, disk)
    assert driver.end() == 0, driver.said
    check_message(driver.said, disk.checkpoints)
    disk.make_room()
    assert_same(lab, driver.parent, lab.undisturbed(*FEW))


@nightly
def test_checkpoints_of_before_the_disk_was_full_serve_a_resumed_study(lab, disk):
    driver = fill_while_training(lab, disk)
    assert disk.saved()
    driver.kill()
    lab.wait_until_all_have_ended()
    found = [load_checkpoint(path) for path in disk.saved()]
    assert found
    assert all(one is not None and one.state["iteration"] > 0 for one in found), "none is damaged"
    disk.make_room()
    assert "begins anew" not in lab.finish(driver.parent).said
    assert_same(lab, driver.parent, lab.undisturbed(*FEW))


@nightly
@pytest.mark.parametrize("call", [RunLog.complete, MlflowClient.log_text])
def test_a_worker_that_dies_at_the_end_of_a_run_it_could_not_save_doubles_nothing(lab, disk, call):
    driver = fill_while_training(lab, disk, faults=[Fault("worker", call)])
    assert driver.end() == 0, driver.said
    assert lab.happened()
    disk.make_room()
    # It may have to begin anew: what the store has is ahead of the last checkpoint.
    replaced = [run for run in lab.children(driver.parent) if REPLACED_TAG in run.data.tags]
    assert len(replaced) <= 1
    assert_same(lab, driver.parent, lab.undisturbed(*FEW), replaced=len(replaced))


# --- The cache -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "room"),
    [
        ("records", 0),
        ("records", 8 << 10),
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
    check_message(said.err, disk.folder)
    assert not disk.half_written()

    disk.make_room()
    corpus = load_corpus(data)
    corpus.verify()
    assert corpus.digest == expected


@nightly
@pytest.mark.parametrize("lab", [PREPARING], indirect=True)
@pytest.mark.parametrize("room", [0, 12 << 10, 44 << 10])
def test_without_room_for_what_is_prepared_a_study_opens_no_run(
    lab, disk, monkeypatch, beats, room
):
    monkeypatch.setenv(ENVIRONMENT_VARIABLE, str(disk.cache))
    raw = load_corpus(str(beats)).path.name
    disk.fill(room)
    assert_opens_no_run(lab, disk)
    assert raw in os.listdir(disk.cache / "corpora")

    disk.make_room()
    again = lab.run()
    assert again.end() == 0, again.said
    assert_same(lab, again.parent, lab.undisturbed())
    for path in (disk.cache / "corpora").iterdir():
        if not path.name.startswith("."):
            load_corpus(str(beats)).open(path).verify()
