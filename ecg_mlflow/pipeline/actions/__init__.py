"""Define the signal actions on one record, in plain NumPy.

An action is a frozen dataclass that checks its arguments when it is made. Signals are float32,
time first ``(n_samples, n_leads)``, in mV. Random numbers are arguments and are drawn elsewhere.
These definitions are the reference: the fused kernel of `ecg_mlflow.pipeline.kernels` must agree
with them, and replaces them where it can.

Sources: the actions of CardIO (``ecg_batch.py``) under their names, with the corrections that
their docstrings state.
"""
