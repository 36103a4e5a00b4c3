"""From labelled recordings to batches of windows.

A `Pipeline` is declared; its `Stages` say what runs once per record (`prepare`) and what runs for
every batch (`WindowMaker`, in one fused kernel); a `BatchSource` makes epochs of it.
"""

from ecg_mlflow.pipeline.batches import Batch, BatchSource, Prefetch, class_targets, map_ahead
from ecg_mlflow.pipeline.pipeline import Pipeline, Stages
from ecg_mlflow.pipeline.prepare import Prepared, Selection, output_leads, prepare, select
from ecg_mlflow.pipeline.windows import WindowMaker

__all__ = [
    "Batch",
    "BatchSource",
    "Pipeline",
    "Prefetch",
    "Prepared",
    "Selection",
    "Stages",
    "WindowMaker",
    "class_targets",
    "map_ahead",
    "output_leads",
    "prepare",
    "select",
]
