"""Whoever can write to the tracking store runs nothing on the machine of whoever reads it.

An attacker changes a finished study and a registered model in every way that the store allows; the
commands are then typed on a machine that has never run the attacker's code.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path
from zipfile import ZipFile

import mlflow
import numpy as np
import pytest
from gallery import write_beats
from studies import grid_text

from ecg_mlflow import load_results
from ecg_mlflow.cli import main
from ecg_mlflow.errors import TrackingError
from ecg_mlflow.serving.classifier import RawEcgClassifier
from ecg_mlflow.tracking import trusted_code
from ecg_mlflow.tracking.stored_run import REQUEST_TAG
from ecg_mlflow.tracking.trusted_code import TRUST_VARIABLE

# Of NumPy 2, in Keras's way of saving a model.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

STEPS = {"steps_of_test.py": "def doubled(signal, fs):\n    return signal * 2\n"}
GRID = grid_text(
    before="from steps_of_test import doubled\nroot = Pipeline().center_flip()",
    grid="Option('layout', ['cna'])",
    train="root.apply(doubled).random_split_signals(128, 2)",
    test="root.apply(doubled).split_signals(128, step=64)",
    split="Split((0.4, 0.2, 0.4), stratified=True, seed=0)",
    epochs="2",
)


@pytest.fixture(scope="module")
def begun(shared_workplace, write_record, tmp_path_factory):
    """A study with a function of the user's own in its pipeline, and its model in the registry."""
    with shared_workplace() as place:
        place.records = tmp_path_factory.mktemp("records")
        write_beats(place.records, write_record, 80)
        place.grid = place.write_grid(GRID, "work_of_victim/victims.py", **STEPS)
        assert place.run(place.grid, "--workers", "0", experiment="study") == 0
        assert main(["promote", "victims", "--name", "model", "--resamples", "50"]) == 0
        yield place


@pytest.fixture
def work(begun, tmp_path, monkeypatch):
    """That store as an attacker finds it, on another machine; `canary` runs if code does."""
    begun.parent, (begun.child,) = begun.runs("study")
    begun.canary = tmp_path / "canary"
    begun.evil = f"import pathlib\npathlib.Path({str(begun.canary)!r}).touch()\n"
    begun.root = Path(begun.parent.info.artifact_uri.removeprefix("file://"))
    begun.run_root = Path(begun.child.info.artifact_uri.removeprefix("file://"))
    kept = tmp_path / "kept"
    for folder, name in ((begun.root, "parent"), (begun.run_root, "child")):
        shutil.copytree(folder, kept / name)
    tags = dict(begun.parent.data.tags)
    monkeypatch.setenv(TRUST_VARIABLE, str(tmp_path / "trusted"))
    monkeypatch.setattr(trusted_code, "_here", set())
    monkeypatch.setattr("sys.stdin", None)
    yield begun
    for folder, name in ((begun.root, "parent"), (begun.run_root, "child")):
        shutil.rmtree(folder)
        shutil.copytree(kept / name, folder)
    begun.client.set_tag(begun.parent.info.run_id, REQUEST_TAG, tags[REQUEST_TAG])


def change_pipeline(work, module: str, qualname: str) -> None:
    """Make a child's configuration name another function."""
    path = work.run_root / "configuration.json"
    configuration = json.loads(path.read_text())
    (step,) = (one for one in configuration["test_pipeline"] if one["name"] == "apply")
    step["arguments"]["step"] = {"module": module, "qualname": qualname}
    path.write_text(json.dumps(configuration))


def list_in_plan(work, name: str) -> None:
    path = work.root / "design" / "plan.json"
    plan = json.loads(path.read_text())
    plan["code"][name] = "0" * 64
    path.write_text(json.dumps(plan))


ERRORS = ["errors", "victims", "--resamples", "20", "--worst", "1"]
PROMOTE = ["promote", "victims", "--name", "again", "--resamples", "50"]


@pytest.mark.parametrize("command", [ERRORS, PROMOTE], ids=lambda command: command[0])
def test_a_study_of_another_machine_is_run_with_consent_only(work, command, capsys):
    assert main(command) == 1
    said = capsys.readouterr().err
    assert "the code of study" in said
    assert "'victims.py'" in said
    assert f"'steps_of_test.py' ({len(STEPS['steps_of_test.py'])} bytes)" in said
    assert "mlflow artifacts download --run-id" in said
    assert "--trust-code" in said
    assert main([*command, "--trust-code"]) in (0, 3)
    capsys.readouterr()
    main(command)
    assert "--trust-code" not in capsys.readouterr().err, "it is asked for once"


@pytest.mark.parametrize("command", [ERRORS, PROMOTE], ids=lambda command: command[0])
@pytest.mark.parametrize("attack", ["added", "added and listed", "changed", "elsewhere", "library"])
def test_what_was_planted_in_a_study_is_not_run(work, command, attack, capsys, tmp_path):
    trusted_code.trust({name: (work.grid.parent / name).read_bytes() for name in LISTED})
    design = work.root / "design"
    if attack.startswith("added"):
        (design / "evil.py").write_text(f"{work.evil}def doubled(signal, fs): return signal")
        change_pipeline(work, "evil", "doubled")
        if attack == "added and listed":
            list_in_plan(work, "evil.py")
    elif attack == "changed":
        (design / "steps_of_test.py").write_text(f"{work.evil}{STEPS['steps_of_test.py']}")
    elif attack == "elsewhere":
        (tmp_path / "evil.py").write_text(work.evil)
        up = "/".join([".."] * len(design.parts))
        change_pipeline(work, f"{up}{tmp_path}/evil", "doubled")
    else:
        (tmp_path / "canary").unlink(missing_ok=True)
        change_pipeline(work, "steps_of_test", "doubled.__globals__")
    assert main(command) == 1
    said = capsys.readouterr().err
    expected = {
        "added": "evil.py",
        "added and listed": "this machine has not run it before: ",
        "changed": "this machine has not run it before: ",
        "elsewhere": "is no name of a Python module",
        "library": "defines no function doubled.__globals__",
    }[attack]
    assert expected in said
    assert not work.canary.exists()


LISTED = ("victims.py", "steps_of_test.py")


def test_a_grid_file_that_the_store_names_is_run_if_it_is_the_one_that_was_run(work, capsys):
    resume = ["run", "--resume", work.parent.info.run_id, "--workers", "0"]
    before = work.grid.read_text()
    try:
        assert main(resume) == 1
        said = capsys.readouterr().err
        assert "the grid file" in said
        assert "which the store names for study" in said
        assert main([*resume, "--trust-code"]) == 0
        assert main(resume) == 0
        # Changed by its own user: the difference is shown.
        work.grid.write_text(f"{before}\n# a new line\n{work.evil}")
        assert main(resume) == 1
        said = capsys.readouterr().err
        assert "was begun with another victims.py than is in" in said
        assert "+# a new line" in said
        assert f"ecg-mlflow run --resume {work.parent.info.run_id} {work.grid}" in said
        assert not work.canary.exists()
        named = ["run", str(work.grid), *resume[1:]]
        assert main(named) == 0
        assert "note: victims.py changed since study" in capsys.readouterr().err
        assert work.canary.exists()
    finally:
        work.grid.write_text(before)


def test_another_grid_file_that_the_store_names_is_not_run(work, capsys, tmp_path):
    other = tmp_path / "other.py"
    other.write_text(work.evil + GRID)
    request = json.loads(work.parent.data.tags[REQUEST_TAG])
    changed = json.dumps({**request, "grid": str(other)})
    work.client.set_tag(work.parent.info.run_id, REQUEST_TAG, changed)
    resume = ["run", "--resume", work.parent.info.run_id, "--workers", "0"]
    assert main(resume) == 1
    assert "was begun with another other.py" in capsys.readouterr().err
    # The plan and the design are changed, too, so that all fits.
    plan = json.loads((work.root / "design" / "plan.json").read_text())
    plan["code"] = {"other.py": hashlib.sha256(other.read_bytes()).hexdigest()}
    (work.root / "design" / "plan.json").write_text(json.dumps(plan))
    shutil.copy(other, work.root / "design")
    assert main(resume) == 1
    assert "which the store names for study" in capsys.readouterr().err
    assert not work.canary.exists()


class Evil(RawEcgClassifier):
    """Runs when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.fixture
def registered(work, tmp_path):
    """Copy the study's registered model, let an attacker change it, and register the copy."""

    def register(change) -> str:
        (version,) = work.client.search_model_versions("name='model'")
        folder = shutil.copytree(version.source.removeprefix("file://"), tmp_path / "model")
        change(folder)
        return str(folder)

    return register


def change_code(folder: Path, evil: str) -> None:
    path = folder / "classifier_pyfunc.py"
    path.write_text(f"{evil}{path.read_text()}")
    with ZipFile(folder / "artifacts" / "ecg_mlflow.zip", "w") as archive:
        archive.writestr("ecg_mlflow/__init__.py", evil)


def change_steps(folder: Path, evil: str) -> None:
    path = folder / "artifacts" / "steps" / "steps_of_test.py"
    path.write_text(f"{evil}{path.read_text()}")


def test_a_models_own_copy_of_the_package_is_never_run_by_predict(work, registered, capsys):
    model = registered(lambda folder: change_code(folder, work.evil))
    recording = str(work.records / "S01.hea")
    assert main(["predict", model, recording]) == 1
    said = capsys.readouterr().err
    assert "the code in the model" in said
    assert "'steps_of_test.py'" in said
    assert not work.canary.exists()
    assert main(["predict", model, recording, "--trust-code"]) == 0
    assert not work.canary.exists(), "consent was for the steps; the package runs from here"


def test_changed_functions_of_a_model_are_run_with_consent_only(work, registered, capsys):
    model = registered(lambda folder: change_steps(folder, work.evil))
    recording = str(work.records / "S01.hea")
    trusted_code.trust({name: (work.grid.parent / name).read_bytes() for name in LISTED})
    assert main(["predict", model, recording]) == 1
    assert "this machine has not run it before" in capsys.readouterr().err
    assert not work.canary.exists()
    assert main(["predict", model, recording, "--trust-code"]) == 0
    assert work.canary.exists()


def test_a_foreign_champion_is_loaded_with_consent_only(work, tmp_path, capsys):
    folder = tmp_path / "foreign"
    mlflow.pyfunc.save_model(str(folder), python_model=Evil(work.canary), pip_requirements=[])
    work.canary.unlink(missing_ok=True)
    assert main(["predict", str(folder), str(work.records / "S01.hea")]) == 1
    assert "takes no recordings" in capsys.readouterr().err
    work.client.create_registered_model("foreign")
    version = work.client.create_model_version("foreign", str(folder))
    work.client.set_registered_model_alias("foreign", "champion", version.version)
    trusted_code.trust({name: (work.grid.parent / name).read_bytes() for name in LISTED})
    again = ["promote", "victims", "--name", "foreign", "--resamples", "50"]
    assert main(again) == 1
    said = capsys.readouterr().err
    assert "the code in the model" in said
    assert "'MLmodel'" in said
    assert not work.canary.exists()


def test_pickles_among_the_artifacts_are_not_loaded(work, capsys):
    poison = pickle.dumps(Evil(work.canary))
    work.canary.unlink(missing_ok=True)
    for path in [*work.run_root.rglob("*"), *work.root.rglob("*")]:
        if path.is_file() and path.suffix in (".npz", ".npy"):
            np.savez(path, allow_pickle=True, **{"loss": np.array([Evil(work.canary)], object)})
            work.canary.unlink(missing_ok=True)
        elif path.is_file() and path.suffix in (".json", ".csv", ".html", ".txt"):
            path.write_bytes(poison)
    for command in (["compare", "victims"], ERRORS, PROMOTE, ["reap"]):
        assert main(command) in (0, 1)
    with pytest.raises(TrackingError, match="changed or damaged"):
        load_results("victims")
    assert not work.canary.exists()
