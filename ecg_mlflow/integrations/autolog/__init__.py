"""Log trainings outside of studies: any `model.fit`, and training loops of one's own.

`RunLogger` is a Keras callback, `autolog` adds one to every `fit`, `start_run` is for a loop. The
runs have the layout of a study's runs. Only `run_logger` imports Keras, with what it builds on.
"""
