"""The tutorial is a notebook that runs from a fresh kernel, cell by cell."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOK = Path(__file__).parents[1] / "docs" / "tutorial.ipynb"


def read() -> Any:
    return nbformat.read(NOTEBOOK, as_version=4)


def text_of(cell: Any) -> str:
    """Return what a cell has printed or shown as text."""
    return "".join(one.get("text", "") or one.get("data", {}).get("text/plain", "")
                   for one in cell.outputs)  # fmt: skip


def test_it_is_kept_without_outputs():
    for cell in read().cells:
        if cell.cell_type == "code":
            assert not cell.outputs
            assert cell.execution_count is None


@pytest.fixture(scope="module")
def executed(shared_workplace):
    with shared_workplace() as work:
        environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        notebook = read()
        NotebookClient(
            notebook,
            timeout=1200,  # of one cell
            kernel_name="python3",
            resources={"metadata": {"path": str(work.folder)}},
        ).execute(env=environment)
        yield work, [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(2400)
# Of ipykernel and the loop that nbclient makes.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_cell_runs_and_shows_what_its_text_says(executed):
    work, cells = executed
    shown = {cell.source: text_of(cell) for cell in cells}

    def of(words: str) -> str:
        (found,) = (text for source, text in shown.items() if words in source)
        return found

    assert "ConfigAlias({'p1': '4', 'p2': 'v3'})" in of("op1 * op2 + op3 * op4")
    assert of("Option.product(op1, op2)").count("ConfigAlias") == 2
    assert "3 configurations x 2 repetitions = 6 runs" in of("ecg-mlflow plan")
    assert "6 runs finished; " in of("ecg-mlflow run tutorial.py")
    assert "metrics.test_f1" in of("search_runs")
    assert "validation_f1" in of("load_results(")
    assert "champion" in of("ecg-mlflow promote")
    assert of("model.predict(").count("ok") == 3
    assert "D00003" in of("ecg-mlflow predict")
    pictures = [one for cell in cells for one in cell.outputs if "image/png" in one.get("data", {})]
    assert len(pictures) == 3, "two strips and the learning curves"
    parent, children = work.runs("tutorial")
    assert parent.info.status == "FINISHED"
    assert [run.info.status for run in children] == ["FINISHED"] * 6
    assert len({run.data.params["trainable_parameters"] for run in children}) == 3
    version = work.client.get_model_version_by_alias("tutorial-af", "champion")
    assert str(version.version) == "1"
