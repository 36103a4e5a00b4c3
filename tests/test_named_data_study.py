"""Studies on public data sets by their names, on trees as they are downloaded."""

from __future__ import annotations

import csv
import json
import shutil

import pytest
from studies import NETWORKS, numpy_grid

FIELDS = {
    "grid": "Option('hidden', [4])",
    "multilabel": "True",
    "test_every": "'last'",
    "batch_size": "8",
    "epochs": "1",
    "repetitions": "1",
}


def windows(pipeline, length=100):
    return {
        "train": f"{pipeline}.random_split_signals({length}, 1)",
        "test": f"{pipeline}.split_signals({length}, {length})",
    }


@pytest.fixture
def train(workplace, experiment, monkeypatch):
    """Train on some data; return the workplace, the parent run and its children."""
    monkeypatch.setenv("PYTHONPATH", str(NETWORKS))

    def run(data, before="", **fields):
        grid = workplace.write_grid(numpy_grid(before, **{**FIELDS, **fields}))
        assert workplace.run(grid, experiment=experiment, data=data) == 0
        parent, children = workplace.runs(experiment)
        assert {child.info.status for child in children} == {"FINISHED"}
        return workplace, parent, children

    return run


def split_of(work, parent):
    """Return the records of each part, as the study keeps them."""
    return json.loads(work.text(parent, "design/plan.json"))["split"]


def test_ptbxl_trains_on_its_official_folds(train, ptbxl):
    work, parent, children = train(
        f"ptbxl@{ptbxl}",
        classes="['NORM', 'MI', 'STTC', 'CD']",
        split="'official'",
        **windows("root.select_labels(['NORM', 'MI', 'STTC', 'CD'])"),
    )
    with (ptbxl / "ptbxl_database.csv").open(newline="") as file:
        rows = {row["filename_lr"][-8:]: row for row in csv.DictReader(file)}
    parts = split_of(work, parent)
    folds = {part: {rows[name]["strat_fold"] for name in names} for part, names in parts.items()}
    assert folds == {"train": set("12345678"), "validation": {"9"}, "test": {"10"}}
    whose = [{rows[name]["patient_id"] for name in names} for names in parts.values()]
    assert sum(map(len, whose)) == len(set.union(*whose)), "patients are whole"
    assert parent.data.params["split"] == "official"
    found = {one.dataset.name for child in children for one in child.inputs.dataset_inputs}
    assert found == {"ptbxl train", "ptbxl validation", "ptbxl test"}


@pytest.mark.parametrize("name", ["cinc2020", "cinc2021"])
def test_the_challenges_train_on_their_headers_diagnoses(train, twelve_leads, tmp_path, name):
    """The Challenge of 2020 ends the name in record lines of its Georgia part in .mat."""
    part = tmp_path / "training" / "georgia" / "g1"
    shutil.copytree(twelve_leads / "cinc2021", part)
    if name == "cinc2020":
        for header in part.glob("*.hea"):
            header.write_text(header.read_text().replace(" ", ".mat ", 1))
    root = "root.rename_labels(SNOMED).select_labels(['STach', 'PAC', 'NSR'])"
    work, parent, _ = train(
        f"{name}@{tmp_path}",
        classes="['STach', 'PAC', 'NSR']",
        split="Split(0.8, seed=0)",
        before="from ecg_mlflow import SNOMED\n",
        **windows(root),
    )
    assert sum(map(len, split_of(work, parent).values())) == 50


def test_cpsc2018_trains_on_its_classes(train, tmp_path, write_record):
    for i in range(20):
        header = write_record(tmp_path / "Training_WFDB", f"A{i:04}", fs=500)
        with header.open("a") as file:
            file.write(f"#Dx: {'164889003,59118001' if i % 2 else '426783006'}\n")
    train(f"cpsc2018@{tmp_path}", classes="['AF', 'RBBB', 'NSR']", **windows("root"))


def test_cpsc2021_trains_with_patients_whole(train, twelve_leads):
    work, parent, _ = train(
        f"cpsc2021@{twelve_leads / 'cpsc2021'}",
        multilabel="",
        split="Split(0.6, stratified=True, seed=1)",
        classes="['AF', 'other']",
        **windows(
            "root.rename_labels({'persistent atrial fibrillation': 'AF', "
            "'paroxysmal atrial fibrillation': 'AF', 'non atrial fibrillation': 'other'})"
        ),
    )
    patients = [{name.split("_")[1] for name in part} for part in split_of(work, parent).values()]
    assert len(set.union(*patients)) == sum(map(len, patients)) == 6
