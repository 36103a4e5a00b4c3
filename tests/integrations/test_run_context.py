"""The tags that MLflow gets from the run context, in a process of any kind."""

from __future__ import annotations

import subprocess
import sys

import mlflow
import pytest
from mlflow.tracking.context.registry import resolve_tags

from ecg_mlflow import load_corpus, records, reports
from ecg_mlflow.integrations import datasets, evaluator, run_context
from ecg_mlflow.integrations.run_context import EcgRunContext
from ecg_mlflow.tracking.recordings_source import DIGEST_LIMIT

HEAVY = f"('numba', 'keras', 'tensorflow', 'wfdb', 'matplotlib', '{records.__name__}.')"


def test_a_run_of_any_script_has_the_tags(tmp_path, monkeypatch, tracking_store, experiment):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking_store)
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", experiment)
    monkeypatch.setenv("SLURM_JOB_ID", "4711")
    with mlflow.start_run() as run:
        pass
    tags = mlflow.get_run(run.info.run_id).data.tags
    assert tags["ecg_mlflow.device"].startswith("cpu")
    assert tags["ecg_mlflow.slurm_job_id"] == "4711"
    assert tags["ecg_mlflow.host"]
    assert f"mlflow {mlflow.__version__}" in tags["ecg_mlflow.versions"]


def test_the_corpus_is_the_one_that_was_opened_last(small_folder):
    corpus = load_corpus(str(small_folder))
    assert EcgRunContext().tags()["ecg_mlflow.corpus"] == corpus.digest[:DIGEST_LIMIT]
    labels = small_folder / "REFERENCE.csv"
    labels.write_text(labels.read_text().replace("R1,N", "R1,A"))
    other = load_corpus(str(small_folder))
    assert other.digest != corpus.digest
    assert resolve_tags()["ecg_mlflow.corpus"] == other.digest[:DIGEST_LIMIT]


@pytest.mark.parametrize(
    "program",
    [
        # Neither who starts a run nor who imports MLflow loads what takes long.
        "import ecg_mlflow.integrations.run_context as run_context\n"
        "tags = run_context.EcgRunContext().tags()\n"
        f"found = [m for m in sys.modules if m.startswith({HEAVY})]\n"
        "found += [tag for tag in tags if tag == 'ecg_mlflow.corpus']",
        "import mlflow.data; assert mlflow.data.from_wfdb\n"
        f"found = [m for m in sys.modules if m.startswith({HEAVY})]",
        f"import {evaluator.__name__}\n"
        f"found = [m for m in sys.modules if m.startswith(('keras', '{reports.__name__}'))]",
        # Beside MLflow only modules of this package are loaded.
        "import mlflow.tracking.context.abstract_context, mlflow.data\n"
        "own = [m for m in sys.modules if m.startswith('ecg_mlflow')]\n"
        "for name in own: del sys.modules[name]\n"
        "before = set(sys.modules)\n"
        "import ecg_mlflow.integrations.run_context\n"
        "found = {m.split('.')[0] for m in set(sys.modules) - before} - {'ecg_mlflow'}",
        # Each module may be imported before MLflow.
        f"import {run_context.__name__}; found = []",
        f"import {datasets.__name__}; found = []",
    ],
)
def test_imports(program):
    program = f"import sys\n{program}\nprint(sorted(found))"
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
