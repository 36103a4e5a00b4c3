"""The code that MLflow saves beside a network and runs when the model is loaded.

Copied into each model, so it stands alone: nothing of this package is needed to predict. It is
executed when a model is saved too, so it imports Keras only when a network is loaded.
"""

from __future__ import annotations

import os
from typing import Any

import mlflow
import numpy as np
from mlflow.pyfunc.model import PythonModel


class KerasClassifier(PythonModel):
    """Windows of a signal to class probabilities."""

    def load_context(self, context: Any) -> None:
        """Load the network, without its optimizer and without running any code stored in it."""
        os.environ.setdefault("KERAS_BACKEND", "tensorflow")
        import keras

        self._network = keras.saving.load_model(
            context.artifacts["network"], compile=False, safe_mode=True
        )
        self._activation = keras.activations.get(context.model_config["activation"])

    # MLflow looks at the annotation itself, and warns where it finds none or a string it can't
    # resolve; a bare array is the one that leaves the check to the signature.
    def predict(
        self, context: Any, model_input: np.ndarray, params: dict[str, Any] | None = None
    ) -> np.ndarray:
        """Return probabilities of shape (n_windows, n_classes), float32.

        Parameters
        ----------
        context
            Not used after loading.
        model_input
            Windows of shape (n_windows, n_samples, n_leads), float32.
        params
            None are known.
        """
        scores = self._network.predict(model_input, batch_size=64, verbose=0)
        return np.asarray(self._activation(scores), dtype=np.float32)


mlflow.models.set_model(KerasClassifier())
