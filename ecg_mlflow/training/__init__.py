"""Train and evaluate models on one stream of batches.

Import the modules that load Keras (`step`, `fused_norm`) by their names.
"""

from ecg_mlflow.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ecg_mlflow.training.declared import Loss, Optimizer
from ecg_mlflow.training.evaluation import Evaluation, evaluate
from ecg_mlflow.training.loop import Branch, Paused, TrainingLoop

__all__ = [
    "Branch",
    "Checkpoint",
    "Evaluation",
    "Loss",
    "Optimizer",
    "Paused",
    "TrainingLoop",
    "evaluate",
    "load_checkpoint",
    "save_checkpoint",
]
