"""A saved model: what is in it, and that it runs where there is nothing but its requirements."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from importlib.metadata import packages_distributions, requires, version

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.models import Model
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from saved_models import BESIDE, HIDE, elsewhere

from ecg_mlflow.errors import ModelError
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.records import Record
from ecg_mlflow.serving.manifest import Manifest, code_digest
from ecg_mlflow.serving.saving import classifier_requirements, package_archive, save_classifier
from ecg_mlflow.tracking import client

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def test_what_is_in_the_folder(saved):
    files = {path.relative_to(saved.folder).as_posix() for path in saved.folder.rglob("*")}
    assert {
        "MLmodel",
        "classifier_pyfunc.py",
        "requirements.txt",
        "input_example.json",
        "serving_input_example.json",
        "artifacts/network1.keras",
        "artifacts/manifest.json",
        "artifacts/trained_on.json",
        "artifacts/example.npy",
        "artifacts/steps/grid_of_test.py",
        *(f"artifacts/steps/{name}" for name in BESIDE if name != "unrelated_of_test.py"),
        "artifacts/ecg_mlflow.zip",
    } <= files
    assert len([path for path in saved.folder.rglob("*") if path.is_file()]) <= 20
    with zipfile.ZipFile(saved.folder / "artifacts/ecg_mlflow.zip") as archive:
        assert "ecg_mlflow/serving/classifier.py" in archive.namelist()
        assert all(name.endswith(".py") for name in archive.namelist())
        assert package_archive() == (saved.folder / "artifacts/ecg_mlflow.zip").read_bytes()
    assert not [file for file in files if "unrelated" in file]
    assert not [file for file in files if file.endswith((".pkl", ".pyc")) or "__pycache" in file]
    found = Manifest.from_json((saved.folder / "artifacts/manifest.json").read_text())
    assert found == saved.manifest
    assert found.code == code_digest()
    assert json.loads((saved.folder / "artifacts/trained_on.json").read_text()) == {
        "digests": ["abc"]
    }
    requirements = (saved.folder / "requirements.txt").read_text().split()
    assert requirements == list(classifier_requirements())


def test_the_signature_states_columns_and_parameters(saved):
    signature = Model.load(str(saved.folder)).signature
    asked = "record header signal_file signal fs leads"
    assert " ".join(signature.inputs.input_names()) == asked
    assert signature.inputs.required_input_names() == []
    answered = "record prediction p_A p_NO calibrated_A calibrated_NO windows status"
    assert " ".join(signature.outputs.input_names()) == f"{answered} window_probabilities"
    (windows,) = signature.params.params
    assert (windows.name, windows.dtype.name, windows.default) == ("windows", "boolean", False)


def test_the_example_is_a_real_recording_that_the_model_answers(saved):
    loaded = mlflow.pyfunc.load_model(str(saved.folder))
    example = loaded.input_example
    assert example["fs"].tolist() == [250]
    assert example["leads"].tolist() == [["L1"]]
    np.testing.assert_allclose(np.array(example["signal"][0]), saved.example.signal, atol=1e-5)
    found = loaded.predict(example)
    assert found["status"].tolist() == ["ok"]
    test = saved.manifest.self_test
    assert test.record == "R4"
    np.testing.assert_allclose(found[["p_A", "p_NO"]], [test.probabilities], atol=1e-6)


def test_the_example_is_ten_seconds_or_what_the_model_takes(
    tmp_path, network, make_manifest, capsys
):
    signal = np.random.default_rng(0).normal(0, 1, (5000, 1)).astype(np.float32)
    record = Record("long", signal, 250.0, ("L1",), None)
    for name, shortest_s, n_samples in (("a", 1.0, 2500), ("b", 12.0, 3000)):
        manifest = make_manifest(shortest_s=shortest_s)
        save_classifier(tmp_path / name, network(1), manifest, record)
        example = Model.load(str(tmp_path / name)).load_input_example(str(tmp_path / name))
        assert len(example["signal"][0]) == n_samples
    assert capsys.readouterr().out == "", "MLflow is quiet"


USE = f"""
import json, os
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in absent:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
absent = set(json.loads(sys.argv[3]))
sys.meta_path.insert(0, Absent())
os.chdir(sys.argv[2])
import mlflow, pandas as pd
model = mlflow.pyfunc.load_model(sys.argv[1])
import ecg_mlflow
assert Path(ecg_mlflow.__file__).parts[-3].startswith("ecg_mlflow-"), ecg_mlflow.__file__
assert not [n for n in sys.modules if n.startswith("{client.__name__}")]
answers = model.predict(pd.DataFrame({{"record": sys.argv[4:]}}), params={{"windows": True}})
print(json.dumps(answers.to_dict("list")))
"""


def absent_modules(requirements):
    """List the modules that are installed here, and are not where the requirements alone are."""
    waiting, there = [Requirement(one).name for one in requirements], set()
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name not in there:
            there.add(name)
            needs = map(Requirement, requires(name) or ())
            waiting += [n.name for n in needs if not n.marker or n.marker.evaluate({"extra": ""})]
    homes = packages_distributions().items()
    return sorted(top for top, dists in homes if not there & set(map(canonicalize_name, dists)))


def test_it_runs_with_its_requirements_alone_and_without_pickle(saved, tmp_path):
    """The function of the grid file too, which no other process knows."""
    absent = absent_modules((saved.folder / "requirements.txt").read_text().split())
    absent.remove("ecg_mlflow")  # of which the model has what it needs
    assert {"optuna", "ray", "filelock"} & set(absent) == {"optuna", "ray"}
    records = [str(saved.records / f"R{i}") for i in range(5)]
    here = mlflow.pyfunc.load_model(str(saved.folder)).predict(pd.DataFrame({"record": records}))
    done = subprocess.run(
        [*(sys.executable, "-c", HIDE + USE, saved.folder, tmp_path, json.dumps(absent)), *records],
        capture_output=True,
        text=True,
        env=elsewhere(),
        cwd=tmp_path,
        timeout=1000,
    )
    assert done.returncode == 0, done.stderr
    there = pd.DataFrame(json.loads(done.stdout.splitlines()[-1]))
    assert there["record"].tolist() == ["R0", "R1", "R2", "R3", "R4"]
    assert there["prediction"].tolist() == here["prediction"].tolist()
    numbers = ["p_A", "p_NO", "calibrated_A", "calibrated_NO"]
    np.testing.assert_allclose(there[numbers], here[numbers], atol=1e-6)
    assert [len(one) for one in there["window_probabilities"]] == [2, 3, 4, 5, 5]


@pytest.mark.parametrize(
    ("fields", "why"),
    [({"leads": ("V1", "V2")}, "lead 'V1', 'V2' is missing"), ({"shortest_s": 60.0}, "too short")],
)
def test_an_example_without_an_answer(saved, tmp_path, network, make_manifest, fields, why):
    with pytest.raises(ModelError, match=f"can't answer its example R4: error: {why}"):
        save_classifier(tmp_path / "model", network(1), make_manifest(**fields), saved.example)
    assert not (tmp_path / "model").exists()


def test_a_function_without_its_file(saved, tmp_path, network):
    missing = r"are in \['filters_of_test/gains.py', 'grid_of_test.py'\], which a model must"
    with pytest.raises(ModelError, match=missing):
        save_classifier(tmp_path / "model", network(1), saved.manifest, saved.example)


def test_all_is_pinned_to_what_is_installed():
    found = dict(one.split("==") for one in classifier_requirements())
    expected = "mlflow keras numpy numba scipy pandas wfdb filelock platformdirs"
    (tensorflow,) = found.keys() - set(expected.split())
    assert tensorflow in ("tensorflow", "tensorflow-cpu")
    assert len(found) == 10
    assert all(version(name) == number for name, number in found.items())


def test_what_the_users_own_files_import_is_needed_too(tmp_path):
    grid, helper = tmp_path / "grid.py", tmp_path / "helper" / "__init__.py"
    helper.parent.mkdir()
    grid.write_text("import os, helper\nfrom ecg_mlflow import C\ndef f():\n    import sklearn.svm")
    helper.write_text("import numpy as np\nfrom . import sibling\nfrom .. import beyond")
    found = set(classifier_requirements(UserCode.read(tmp_path, ["grid.py"])))
    assert found - {*classifier_requirements()} == {f"scikit-learn=={version('scikit-learn')}"}
    grid.write_text("import my_lab_tools")
    with pytest.raises(ModelError, match=r"my_lab_tools, which .*grid.py import, belongs to no"):
        classifier_requirements(UserCode.read(tmp_path, ["grid.py"]))
