"""Turn labelled recordings into batches of windows.

A `Pipeline` declares the actions; its `Stages` divide them into those that run once per record
(`prepare`) and those that run for every batch (`WindowMaker`, in one fused kernel); a
`BatchSource` makes epochs of batches.
"""

from ecg_mlflow.pipeline.batches import Batch, BatchSource, class_targets, prefetched
from ecg_mlflow.pipeline.pipeline import Pipeline, Stages
from ecg_mlflow.pipeline.prepare import Prepared, Selection, output_leads, prepare, select
from ecg_mlflow.pipeline.windows import WindowMaker

__all__ = [
    "Batch",
    "BatchSource",
    "Pipeline",
    "Prepared",
    "Selection",
    "Stages",
    "WindowMaker",
    "class_targets",
    "output_leads",
    "prefetched",
    "prepare",
    "select",
]
