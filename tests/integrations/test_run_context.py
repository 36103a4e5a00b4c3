"""The tags that MLflow gets from the run context, in a process of any kind."""

from __future__ import annotations

import json
import subprocess
import sys

import mlflow
import pytest
from mlflow.tracking.context.registry import resolve_tags

from ecg_mlflow import load_corpus, records
from ecg_mlflow.integrations import datasets, run_context
from ecg_mlflow.integrations.run_context import EcgRunContext
from ecg_mlflow.tracking.recordings_source import DIGEST_LIMIT

HEAVY = ("numba", "keras", "tensorflow", "wfdb", "matplotlib")


def in_a_new_process(program: str) -> list[object]:
    """Run a program that assigns `found`, and return that."""
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-c",
            f"import json, sys\n{program}\nprint(json.dumps(found))",
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


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


def test_a_process_that_starts_a_run_loads_nothing_heavy():
    found = in_a_new_process(
        "import ecg_mlflow.integrations.run_context as run_context\n"
        "tags = run_context.EcgRunContext().tags()\n"
        f"found = [m for m in {HEAVY} if m in sys.modules]\n"
        f"found += [m for m in sys.modules if m.startswith('{records.__name__}')]\n"
        "found += [tag for tag in tags if tag == 'ecg_mlflow.corpus']"
    )
    assert found == []


def test_beside_mlflow_it_loads_only_its_own_modules():
    found = in_a_new_process(
        "import mlflow.tracking.context.abstract_context, mlflow.data\n"
        "own = [m for m in sys.modules if m.startswith('ecg_mlflow')]\n"
        "for name in own: del sys.modules[name]\n"
        "before = set(sys.modules)\n"
        "import ecg_mlflow.integrations.run_context\n"
        "found = sorted({m.split('.')[0] for m in set(sys.modules) - before})"
    )
    assert found == ["ecg_mlflow"]


@pytest.mark.parametrize("module", [run_context, datasets])
def test_each_module_may_be_imported_before_mlflow(module):
    assert in_a_new_process(f"import {module.__name__}; found = []") == []
