"""Log trainings outside of studies: any `model.fit`, and training loops of one's own.

`RunLogger` is a Keras callback, `autolog` adds one to every `fit`, `start_run` is for a loop. The
runs have the layout of a study's runs. Keras is imported when a training
is logged.
"""
