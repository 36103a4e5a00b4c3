"""Training and evaluation of one model on one stream of batches.

The modules that import Keras (`step`, `fused_norm`) are imported by name where they are needed.
"""

from ecg_mlflow.training.declared import Loss, Optimizer
from ecg_mlflow.training.evaluation import Evaluation, evaluate
from ecg_mlflow.training.loop import Observer, TrainingLoop
from ecg_mlflow.training.metrics import classification_metrics, confusion_matrix

__all__ = [
    "Evaluation",
    "Loss",
    "Observer",
    "Optimizer",
    "TrainingLoop",
    "classification_metrics",
    "confusion_matrix",
    "evaluate",
]
