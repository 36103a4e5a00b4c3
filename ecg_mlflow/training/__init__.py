"""Training and evaluation of models on one stream of batches.

The modules that import Keras (`step`, `fused_norm`) are imported by name where they are needed.
"""

from ecg_mlflow.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ecg_mlflow.training.declared import Loss, Optimizer
from ecg_mlflow.training.evaluation import Evaluation, evaluate
from ecg_mlflow.training.loop import Branch, Observer, Paused, TrainingLoop

__all__ = [
    "Branch",
    "Checkpoint",
    "Evaluation",
    "Loss",
    "Observer",
    "Optimizer",
    "Paused",
    "TrainingLoop",
    "evaluate",
    "load_checkpoint",
    "save_checkpoint",
]
