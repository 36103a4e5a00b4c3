"""I have a Keras script of my own. Can its runs look like those of a study?

    python examples/09_any_keras_script.py

No grid file: three lines above `fit` log the loss of every iteration, the metrics of records at
every second epoch, predictions, curves and models into MLflow, as a study's runs have them. A loop
of one's own does so through `start_run`.
"""

import keras
import numpy as np

import ecg_mlflow

N_SAMPLES = 300
rng = np.random.default_rng(0)


def make_windows(n_records):
    """Two windows a record, (n, N_SAMPLES, 1): of regular beats (NO) or irregular ones (A)."""
    windows, labels, records = [], [], []
    for i in range(2 * n_records):
        label = ("A", "NO")[i // 2 % 2]
        gaps = rng.uniform(30, 110, 12) if label == "A" else np.full(12, 70.0)
        beats = np.cumsum(gaps).astype(int)
        signal = rng.normal(0, 0.05, N_SAMPLES)
        signal[beats[beats < N_SAMPLES]] += 1
        windows.append(signal[:, None])
        labels.append(label)
        records.append(f"R{i // 2:03d}")
    return np.array(windows, np.float32), np.array(labels), records


def make_model():
    model = keras.Sequential(
        [
            keras.Input((N_SAMPLES, 1)),
            keras.layers.Conv1D(8, 31, activation="relu"),
            keras.layers.MaxPooling1D(4),
            keras.layers.Conv1D(8, 31, activation="relu"),
            keras.layers.GlobalMaxPooling1D(),
            keras.layers.Dense(2, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    return model


def main():
    train_windows, train_labels, _ = make_windows(80)
    windows, labels, records = make_windows(20)
    targets = (train_labels == "NO").astype(int)

    ecg_mlflow.autolog(test=(windows, labels, records), classes=["A", "NO"], test_every="2 epochs")
    make_model().fit(train_windows, targets, epochs=6, verbose=0)
    ecg_mlflow.autolog(disable=True)

    model = make_model()
    with ecg_mlflow.start_run("my own loop", params={"batch_size": 16}) as log:
        for _ in range(3):
            for i in range(0, len(targets), 16):
                log.loss(model.train_on_batch(train_windows[i : i + 16], targets[i : i + 16]))
            probabilities = model.predict(windows, verbose=0)
            log.test(records, labels, probabilities, classes=["A", "NO"], model=model)


if __name__ == "__main__":
    main()
