"""Log trainings outside of studies: any `model.fit`, and training loops of one's own.

`RunLogger` is a Keras callback, `autolog` adds one to every `fit`, `start_run` is for a loop. The
runs have the layout of a study's runs. Keras is imported inside of functions only.
"""

from ecg_mlflow.integrations.autolog.live_run import LiveRun, start_run
from ecg_mlflow.integrations.autolog.run_logger import RunLogger, autolog

__all__ = ["LiveRun", "RunLogger", "autolog", "start_run"]
