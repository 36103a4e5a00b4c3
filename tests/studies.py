"""Small studies for the tests of the assembly: records, grid files, the command line in process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from mlflow import MlflowClient
from mlflow.entities import Run

from ecg_mlflow import Option, Pipeline, Research, ResNet, load_corpus
from ecg_mlflow.cli import main, program
from ecg_mlflow.executors import worker_main
from ecg_mlflow.records import Corpus
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.tracking.runs import REASON_TAG

PARENT_TAG = "mlflow.parentRunId"
#: What a process needs in PYTHONPATH to train the network of `numpy_net`.
NETWORKS = Path(__file__).parent / "networks"

#: The fields of the small research, as the text of their values.
FIELDS = {
    "grid": "Option('layout', ['cna', 'cac'])",
    "model": "ResNet",
    "model_arguments": "{'blocks': [1], 'filters': [4], 'input_filters': 4}",
    "train": "root.random_split_signals(128, 2)",
    "test": "root.split_signals(128, step=64)",
    "classes": "['A', 'N']",
    "batch_size": "5",
    "epochs": "3",
    "test_every": "'1 epoch'",
    "optimizer": "Optimizer('adam', learning_rate=1e-2)",
    "demo": "DemoBudget(records=24)",
}
IMPORTS = (
    "from ecg_mlflow import C, DemoBudget, Grid, KV, Loss, Optimizer, Option, Pipeline, Research\n"
    "from ecg_mlflow import ResNet, ResNet18, ResNet34, Split\n"
)

ROOT = Pipeline().center_flip()
#: The fields of another small research, as values.
DESIGN = {
    "grid": Option("layout", ["cna", "cnacna"]),
    "model": ResNet,
    "model_arguments": {"blocks": [1], "filters": [4], "input_filters": 4},
    "train": ROOT.random_split_signals(100, 2),
    "test": ROOT.split_signals(100, step=100),
    "classes": ["A", "N"],
}


def small_research(**changes: Any) -> Research:
    """Make a small research, with some fields changed."""
    return Research(**{**DESIGN, **changes})


def small_plan(
    corpus: Corpus | Path,
    request: Mapping[str, Any] | None = None,
    **changes: Any,
) -> StudyPlan:
    """Plan the small research on some records."""
    found = load_corpus(str(corpus)) if isinstance(corpus, Path) else corpus
    asked = StudyRequest(**(request or {}))
    return plan_study(small_research(**changes), found, asked)


def grid_text(before: str = "", **fields: str) -> str:
    """Write a grid file; `fields` are source text, `before` stands above the research."""
    values = {**FIELDS, **fields}
    listed = "".join(f"    {name}={value},\n" for name, value in values.items() if value)
    return f"{IMPORTS}{before}\nroot = Pipeline().center_flip()\nresearch = Research(\n{listed})\n"


def numpy_grid(before: str = "", **fields: str) -> str:
    """Write a grid file of a study that trains in NumPy, which needs no TensorFlow."""
    before = f"from numpy_net import NumpyNet, unhurried\n{before}"
    return grid_text(before, **{"model": "NumpyNet", "model_arguments": "", **fields})


def write_files(folder: Path, files: Mapping[str, str]) -> None:
    """Write texts by their paths in a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


@dataclass
class Workplace:
    """A folder with records and a tracking store, where commands are run."""

    folder: Path
    records: Path
    client: MlflowClient

    def write_grid(self, text: str, name: str = "small.py", **beside: str) -> Path:
        """Write a grid file, and files beside it by their paths from there."""
        path = self.folder / name
        write_files(path.parent, {path.name: text, **beside})
        return path

    def run(self, grid: str | Path, *more: str, experiment: str, data: str | None = None) -> int:
        """Run ``ecg-mlflow run`` in this process; return the exit status."""
        arguments = ["run", str(grid), "--data", data or str(self.records)]
        return main([*arguments, "--experiment", experiment, *more])

    def resume(self, parent: Run, *more: str) -> int:
        """Run ``ecg-mlflow run --resume`` in this process; return the exit status."""
        return main(["run", "--resume", parent.info.run_id, *more])

    def runs(self, experiment: str) -> tuple[Run | None, list[Run]]:
        """Return the last parent run of an experiment and its children in order of their names."""
        found = self.client.get_experiment_by_name(experiment)
        if found is None:
            return None, []
        runs = self.client.search_runs([found.experiment_id], max_results=1000)
        parents = [run for run in runs if PARENT_TAG not in run.data.tags]
        if not parents:
            return None, []
        parent = max(parents, key=lambda run: run.info.start_time)
        children = [r for r in runs if r.data.tags.get(PARENT_TAG) == parent.info.run_id]
        return parent, sorted(children, key=lambda run: run.info.run_name)

    def losses(self, run: Run) -> list[float]:
        """Return a run's losses, from iteration 0, after a check that none lacks or is double."""
        history = self.client.get_metric_history(run.info.run_id, "loss")
        history.sort(key=lambda metric: metric.step)
        assert [metric.step for metric in history] == list(range(len(history)))
        return [metric.value for metric in history]

    def text(self, run: Run, name: str) -> str:
        """Return a text artifact."""
        return Path(self.client.download_artifacts(run.info.run_id, name)).read_text()

    def artifacts(self, run: Run, folder: str | None = None) -> set[str]:
        """Return the names of all files in a run's artifacts."""
        found: set[str] = set()
        for item in self.client.list_artifacts(run.info.run_id, folder):
            found |= self.artifacts(run, item.path) if item.is_dir else {item.path}
        return found


def parsed(words: Sequence[str]) -> dict[str, Any]:
    """Read the words of a command line, without running the command; return its parameters.

    Raises
    ------
    click.UsageError
        If the command line would refuse them.
    """
    name, *rest = words
    with program.make_context("ecg-mlflow", [name]) as whole:
        return program.commands[name].make_context(name, rest, parent=whole).params


def reason(run: Run) -> str:
    """Return why a run did not finish."""
    return run.data.tags.get(REASON_TAG, "")


def worker_pids() -> list[int]:
    """List this process's worker processes."""
    children = psutil.Process().children()
    alive = [one for one in children if one.status() != psutil.STATUS_ZOMBIE]
    return [one.pid for one in alive if worker_main.__name__ in one.cmdline()]
