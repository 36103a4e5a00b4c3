"""Log trainings that are no study: any `model.fit`, and loops of one's own.

`RunLogger` is a Keras callback, `autolog` gives one to every `fit`, `start_run` is for a loop.
The runs have the layout of a study's runs. Only `head`, `loss_tap`, `saving`, `run_logger` and
`fit_patch` name Keras, inside of functions.
"""

from ecg_mlflow.integrations.autolog.fit_patch import autolog
from ecg_mlflow.integrations.autolog.live_run import LiveRun, start_run
from ecg_mlflow.integrations.autolog.run_logger import RunLogger

__all__ = ["LiveRun", "RunLogger", "autolog", "start_run"]
