"""Is mains hum worth removing, and should each window be scaled? Signal steps of one's own.

    mlflow run . --env-manager local -P grid=03_own_signal_step.py
    ecg-mlflow run 03_own_signal_step.py

A signal step is any function `step(signal, fs) -> signal`; the signal is (samples, leads) float32
in mV. Where it stands in the pipeline says how often it runs: before the first action of chance
once per record, which is kept; after the split on every window of every epoch. What runs for every
window is best compiled by Numba; with `nogil=True` it doesn't hold up the training meanwhile.

Keep such functions at the top of the file: a model that is promoted takes them along, so that it
reads recordings as the study did.
"""

# In a hurry: --data demo:40 --epochs 1 --configs 3

import numpy as np
from numba import njit
from scipy.signal import filtfilt, iirnotch

from ecg_mlflow import C, DemoBudget, Optimizer, Option, Pipeline, Research, ResNet


def without_hum(signal, fs):
    """Cut 50 Hz out, forth and back, so that nothing is shifted in time."""
    b, a = iirnotch(50, Q=30, fs=fs)
    return filtfilt(b, a, signal, axis=0)


def as_it_is(signal, fs):
    return signal


@njit(nogil=True)
def peak_to_one(signal, fs):
    """Divide each lead of a window by its largest deflection; a flat lead stays flat."""
    scaled = np.empty_like(signal)
    for lead in range(signal.shape[1]):
        peak = np.float32(1e-6)
        for i in range(signal.shape[0]):
            peak = max(peak, abs(signal[i, lead]))
        for i in range(signal.shape[0]):
            scaled[i, lead] = signal[i, lead] / peak
    return scaled


# A function is a value of an option like any other; its name is what tables show.
grid = Option("filter", [as_it_is, without_hum]) * Option("scale", [as_it_is, peak_to_one])

root = Pipeline().drop_labels(["~"]).rename_labels({"N": "NO", "O": "NO"}).apply(C("filter"))
train = root.center_flip().random_split_signals(3000, {"A": 6, "NO": 2}).apply(C("scale"))
test = root.center_flip().split_signals(3000, step=3000).apply(C("scale"))

research = Research(
    grid=grid,
    model=ResNet,
    model_arguments={
        "blocks": [1] * 6,
        "filters": [8, 8, 16, 16, 32, 32],
        "layout": "cna",
        "input_filters": 8,
    },
    train=train,
    test=test,
    classes=["A", "NO"],
    epochs=40,
    test_every="4 epochs",
    optimizer=Optimizer("adam", learning_rate=3e-3),
    demo=DemoBudget(records=400),
)
