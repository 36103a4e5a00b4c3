"""From real recordings to answers over HTTP, in an environment of the model's own requirements."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import numpy as np
import pytest
import requests
from servers import model_server
from stored_runs import read_table
from studies import grid_text

from ecg_mlflow.cli import main
from ecg_mlflow.records import read_record

pytestmark = [
    pytest.mark.slow,
    pytest.mark.nightly,
    pytest.mark.server,
    pytest.mark.timeout(1800),
    # Of NumPy 2, in Keras's way of saving a model.
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),
]

STUDY = grid_text(
    before="labels = {'N': 'NO', 'O': 'NO'}",
    grid="Option('layout', ['cna', 'cnacna']) * Option('input_filters', [4, 8])",
    model_arguments="{'blocks': [1] * 5, 'filters': [8] * 5}",
    train="root.drop_labels(['~']).rename_labels(labels).random_split_signals(3000, 3)",
    test="root.drop_labels(['~']).rename_labels(labels).split_signals(3000, step=3000)",
    classes="['A', 'NO']",
    batch_size="16",
    epochs="6",
    split="Split((0.5, 0.25, 0.25), stratified=True, seed=0)",
    repetitions="3",
)


@pytest.fixture(scope="module")
def promoted(shared_workplace, sample_records):
    """Train four small nets three times each on 300 real recordings; promote the winner."""
    with shared_workplace() as work:
        grid = work.write_grid(STUDY, "real.py")
        assert work.run(grid, experiment="real", data=str(sample_records)) == 0
        assert main(["compare", "real"]) == 0
        assert main(["promote", "real", "--name", "real"]) == 0
        yield work


@pytest.fixture(scope="module")
def fresh_python(promoted, tmp_path_factory) -> Iterator[Path]:
    """Make a virtual environment with the model's requirements, and nothing else."""
    folder = tmp_path_factory.mktemp("fresh")
    free = shutil.disk_usage(folder).free / 2**30
    if free < 6:
        pytest.skip(f"an environment of the model's own takes 4 GiB; {free:.1f} are free")
    python = folder / "venv" / "bin" / "python"
    try:
        subprocess.run([sys.executable, "-m", "venv", str(folder / "venv")], check=True)
        needed = mlflow.artifacts.download_artifacts(
            "models:/real/1/requirements.txt", dst_path=str(folder)
        )
        install = [str(python), "-m", "pip", "install", "--quiet", "-r", needed]
        done = subprocess.run(install, capture_output=True, text=True, check=False)
        if any(sign in done.stderr for sign in ("ConnectionError", "No matching distribution")):
            pytest.skip(f"the model's requirements can't be installed: {done.stderr[-500:]}")
        assert done.returncode == 0, done.stderr
        yield python
    finally:
        shutil.rmtree(folder)  # three gigabytes


def test_the_served_model_says_what_the_study_has_logged(
    promoted, fresh_python, sample_records, tmp_path
):
    imports = [str(fresh_python), "-c", "import ecg_mlflow"]
    missing = subprocess.run(imports, capture_output=True, cwd=tmp_path, check=False)
    assert missing.returncode, "the environment must not have this package"
    run_id = promoted.client.get_model_version("real", "1").run_id
    logged = read_table(promoted.client, run_id, "predictions/best.csv")
    environment = {
        "MLFLOW_TRACKING_URI": os.environ["MLFLOW_TRACKING_URI"],
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "CUDA_VISIBLE_DEVICES": "",
        "HOME": str(tmp_path),
        "ECG_MLFLOW_SERVE_FOLDER": str(sample_records),
    }
    paths = [str(sample_records / f"{name}.hea") for name in logged["record"]]
    records = [read_record(path) for path in paths[:20]]
    signals = [{"signal": r.signal.tolist(), "fs": r.fs, "leads": list(r.leads)} for r in records]
    with model_server(fresh_python, "models:/real@champion", tmp_path, environment) as url:
        by_path = ask(url, [{"record": path} for path in paths])
        by_array = ask(url, signals)
    assert len(by_path) == len(logged["record"]) > 60
    for name in ("p_A", "p_NO"):
        expected = np.array(logged[name])
        np.testing.assert_allclose([one[name] for one in by_path], expected, atol=1e-5)
        np.testing.assert_allclose([one[name] for one in by_array], expected[:20], atol=1e-5)
    # A thousand times the tolerance: how much so few epochs teach depends on the processor.
    assert np.ptp([one["p_A"] for one in by_path]) > 0.01, "answers that differ tell more"


def ask(url: str, rows: list[dict[str, object]]) -> list[dict[str, float]]:
    answer = requests.post(url, json={"dataframe_records": rows}, timeout=1000)
    answer.raise_for_status()
    found: list[dict[str, float]] = answer.json()["predictions"]
    return found
