"""Run experimental designs over ECG classifiers, and compare their results on MLflow.

The names below are the public API for grid files. They are imported at first use, without
TensorFlow.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ecg_mlflow.grids import KV, C, Grid, IntUniform, LogUniform, Option, Uniform
    from ecg_mlflow.integrations.autolog.live_run import start_run
    from ecg_mlflow.integrations.autolog.run_logger import RunLogger, autolog
    from ecg_mlflow.models import ResNet, ResNet18, ResNet34
    from ecg_mlflow.pipeline import Pipeline
    from ecg_mlflow.records import SNOMED, from_arrays, load_corpus, read_record
    from ecg_mlflow.records.splits import Split
    from ecg_mlflow.reports.dataframe import load_results
    from ecg_mlflow.study.research import DemoBudget, Research
    from ecg_mlflow.training.declared import Loss, Optimizer

    __version__: str

__all__ = [
    "KV",
    "SNOMED",
    "C",
    "DemoBudget",
    "Grid",
    "IntUniform",
    "LogUniform",
    "Loss",
    "Optimizer",
    "Option",
    "Pipeline",
    "ResNet",
    "ResNet18",
    "ResNet34",
    "Research",
    "RunLogger",
    "Split",
    "Uniform",
    "autolog",
    "from_arrays",
    "load_corpus",
    "load_results",
    "read_record",
    "start_run",
]

_MODULES = {
    "integrations.autolog.live_run": ("start_run",),
    "integrations.autolog.run_logger": ("RunLogger", "autolog"),
    "grids": ("KV", "C", "Grid", "IntUniform", "LogUniform", "Option", "Uniform"),
    "models": ("ResNet", "ResNet18", "ResNet34"),
    "pipeline": ("Pipeline",),
    "records": ("SNOMED", "from_arrays", "load_corpus", "read_record"),
    "study.research": ("DemoBudget", "Research"),
    "reports.dataframe": ("load_results",),
    "records.splits": ("Split",),
    "training.declared": ("Loss", "Optimizer"),
}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return import_module("importlib.metadata").version("ecg_mlflow")
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"ecg_mlflow.{module}"), name)
    raise AttributeError(f"module 'ecg_mlflow' has no attribute {name!r}")
