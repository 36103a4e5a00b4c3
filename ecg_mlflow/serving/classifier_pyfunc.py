"""The code that MLflow saves beside a network and runs when the model is loaded.

The package itself lies beside it in the model, under ``code``; where another version of it is
imported already, that one runs, and the model tries itself on a recording with a known answer.
"""

from __future__ import annotations

import mlflow

from ecg_mlflow.serving.classifier import RawEcgClassifier

mlflow.models.set_model(RawEcgClassifier())
