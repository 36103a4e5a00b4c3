"""What several test processes need and one of them makes: read-only, in a folder that all share."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import AbstractContextManager, closing
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from mlflow.tracking._tracking_service import utils
from studies import Workplace, grid_text

from ecg_mlflow.tracking.client import connect

#: Columns of MLflow's tables that hold places of artifacts.
PLACES = {
    "experiments": "artifact_location",
    "runs": "artifact_uri",
    "logged_models": "artifact_location",
}
SMALL = grid_text(repetitions="2", seed="3")
SPLIT = "Split((0.4, 0.2, 0.4), stratified=True, seed=0)"
#: Records that may be of several classes: those of `write_several`.
SEVERAL = {
    "before": "ROOT = Pipeline().select_labels(['AF', 'RBBB']).center_flip()\n",
    "train": "ROOT.random_split_signals(128, {'AF': 3, 'RBBB': 2, '': 2})",
    "test": "ROOT.split_signals(128, step=64)",
    "classes": "['AF', 'RBBB']",
    "multilabel": "True",
    "epochs": "12",
    "split": SPLIT,
}
LABELS = ("AF,RBBB", "other", "RBBB,other", "AF", "RBBB", "other")
ONE = {"grid": "Option('layout', ['cna'])"}
#: Finished studies by what they have in common: experiment, grid file and its text, options.
EXHIBITS = {
    # The same study by one worker and by two.
    "small": [
        ("with 1", "small.py", SMALL, "--workers", "1"),
        ("with 2", "small.py", SMALL, "--workers", "2", "--reps", "1"),
    ],
    # A good and a poor one, which learns nothing, and two that differ in their split.
    "compared": [
        ("good", "good.py", grid_text(epochs="8", split=SPLIT, repetitions="2")),
        (
            *("poor", "poor.py"),
            grid_text(
                **ONE, epochs="1", split=SPLIT, optimizer="Optimizer('sgd', learning_rate=1e-9)"
            ),
        ),
        ("tested", "tested.py", grid_text(split="Split(0.6, stratified=True, seed=1)")),
        ("other", "other.py", grid_text(**ONE, split=SPLIT.replace("seed=0", "seed=1"))),
    ],
    "several": [("several", "several.py", grid_text(**SEVERAL))],
}


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """Return a folder that `make` has filled, in this process or in another one of this session.

    Who comes while it is being filled waits. What failed half way is left to the next one, in
    another folder.
    """
    root = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    with FileLock(root / f"{name}.lock"):
        done = root / f"{name}.path"
        if done.exists():
            return Path(done.read_text())
        folder = factory.mktemp(name)
        make(folder)
        done.write_text(str(folder))
        return folder


def new_store(factory: pytest.TempPathFactory, folder: Path) -> str:
    """Make a sqlite store in a folder; return its URI.

    It is a copy: MLflow takes seconds to make the tables.
    """
    empty = made_once(factory, "empty", lambda folder: connect(f"sqlite:///{folder / 'mlflow.db'}"))
    shutil.copy(empty / "mlflow.db", folder)
    return f"sqlite:///{folder / 'mlflow.db'}"


def write_beats(folder: Path, write_record: Callable[..., Path], n_records: int = 20) -> None:
    """Write short records S01, S02, ... of 250 Hz, in turn slow (N) and fast (A) waves."""
    rng = np.random.default_rng(0)
    lines = []
    for i in range(1, n_records + 1):
        label = "NA"[i % 2]
        times = np.arange(300 + 10 * i) / 250
        wave = np.sin(2 * np.pi * {"N": 2.0, "A": 9.0}[label] * times)
        signal = 0.5 * wave + rng.normal(0, 0.1, len(times))
        write_record(folder, f"S{i:02d}", signal[:, None])
        lines.append(f"S{i:02d},{label}\n")
    (folder / "REFERENCE.csv").write_text("".join(lines))


def write_ages(folder: Path, write_record: Callable[..., Path]) -> None:
    """Write 120 of these records, of persons of an age and a sex."""
    write_beats(folder, write_record, 120)
    lines = (folder / "REFERENCE.csv").read_text().split()
    rows = [f"{line},{40 + i % 40},{'FM'[i % 3 == 0]}" for i, line in enumerate(lines)]
    (folder / "REFERENCE.csv").write_text("\n".join(["record,label,age,sex", *rows]))


def write_several(folder: Path, write_record: Callable[..., Path]) -> None:
    """Write records of three leads: each third shows spikes, AF, each other one a wave, RBBB."""
    rng = np.random.default_rng(0)
    time, rows = np.arange(500) / 250, []
    for i in range(90):
        label = LABELS[i % len(LABELS)]
        signal = rng.normal(0, 0.05, (500, 3))
        if "AF" in label:
            signal[rng.integers(0, 25) :: 25] += 1
        if "RBBB" in label:
            signal += np.sin(2 * np.pi * (4 * time + rng.random()))[:, None]
        write_record(folder, f"R{i:02}", signal, leads=("I", "II", "V1"))
        rows.append(f'R{i:02},"{label}"\n')
    (folder / "REFERENCE.csv").write_text("".join(rows))


RECORDS = {"small": write_beats, "compared": write_ages, "several": write_several}


def finished_studies(
    name: str,
    factory: pytest.TempPathFactory,
    enter: Callable[[str], AbstractContextManager[Workplace]],
    write_record: Callable[..., Path],
) -> tuple[str, Path]:
    """Copy the store of an exhibit, whose studies this process or another one runs.

    Parameters
    ----------
    name
        One of `EXHIBITS`.
    factory
        Makes folders.
    enter
        Opens a workplace on a store.
    write_record
        See `conftest`.

    Returns
    -------
    The URI of the copied store, and the folder of the records, which is not to be written to.
    """

    def make(folder: Path) -> None:
        (folder / "store").mkdir()
        RECORDS[name](folder / "records", write_record)
        with enter(new_store(factory, folder / "store")) as place:
            for experiment, file, text, *words in EXHIBITS[name]:
                grid, data = place.write_grid(text, file), str(folder / "records")
                words = words or ["--workers", "0"]
                assert place.run(grid, *words, experiment=experiment, data=data) == 0

    made = made_once(factory, name, make)
    copy = shutil.copytree(made / "store", factory.mktemp(name) / "store")
    with closing(sqlite3.connect(copy / "mlflow.db")) as database:
        for table, column in PLACES.items():
            moved = f"UPDATE {table} SET {column} = replace({column}, ?, ?)"
            database.execute(moved, (str(made / "store"), str(copy)))
        database.commit()
    # MLflow remembers where the artifacts of a run are by its id alone.
    utils._artifact_repos_cache.clear()
    return f"sqlite:///{copy / 'mlflow.db'}", made / "records"
