"""Statistics of record-level predictions: metrics, resampling, comparison, calibration, the gate.

Plain arrays in, plain values out; nothing here knows of MLflow, Keras or signals.
"""
