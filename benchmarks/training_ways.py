"""The three ways to train that `training_iteration` compares, each behind ``run(n)``.

Every way starts from the same weights and, iteration by iteration, takes the same records; the
second and third take the very same windows.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
import numpy.typing as npt
import tensorflow as tf

from ecg_mlflow import Pipeline, ResNet, ResNet18
from ecg_mlflow.pipeline import Batch, BatchSource, WindowMaker, class_targets, prefetched
from ecg_mlflow.pipeline.prepare import prepare, select
from ecg_mlflow.records import Corpus, load_corpus
from ecg_mlflow.records.catalogue import find_headers
from ecg_mlflow.training.loop import Branch, TrainingLoop
from ecg_mlflow.training.schedule import Schedule
from ecg_mlflow.training.step import CompiledStep, JointStep

Floats = npt.NDArray[np.float32]

CLASSES = ("A", "NO")
WINDOWS_OF = {"A": 6, "NO": 2}
LENGTH = 3000
RECORDS = 32
SEED = 0

_SMALL = {"blocks": [1] * 7, "filters": [4, 4, 8, 8, 16, 16, 20], "input_filters": 8}
_LARGE = {
    "blocks": [2, 3, 4, 5, 4, 3, 2],
    "filters": [4, 8, 16, 32, 64, 128, 256],
    "input_filters": 32,
}
NETS = {
    "S": (ResNet, {"layout": "cna", **_SMALL}),
    "L": (ResNet, {"layout": "cnacna", **_LARGE}),
    "ResNet18": (ResNet18, {}),
}


@dataclass(frozen=True)
class Material:
    """Records to train on: the files of each, and our source of batches of them."""

    paths: dict[int, Path]
    source: BatchSource

    def batches(self, n: int) -> list[Batch]:
        """Prepare the first batches of a training."""
        return list(itertools.islice(self.stream(), n))

    def stream(self) -> Iterator[Batch]:
        return self.source.stream(SEED, 0)


def load(data: str, batch_size: int = RECORDS) -> Material:
    """Open a folder of WFDB records with the labels of the 2017 Challenge."""
    corpus: Corpus = load_corpus(data)
    stages = (
        Pipeline()
        .drop_labels(["~"])
        .rename_labels({"N": "NO", "O": "NO"})
        .center_flip()
        .random_resample_signals("normal", loc=300, scale=10)
        .random_split_signals(LENGTH, WINDOWS_OF)
        .stages()
    )
    chosen = select(corpus, stages)
    windows = WindowMaker(
        stages, prepare(corpus, stages, chosen.rows), chosen.rows, chosen.labels, training=True
    )
    targets = class_targets(chosen.labels, CLASSES)
    # Batches of one size, as a comparison per iteration needs.
    source = BatchSource(windows, chosen.rows, targets, batch_size, drop_last=True)
    files = {path.stem: path for path in find_headers(data).headers}
    return Material({int(row): files[corpus.ids[row]] for row in chosen.rows}, source)


def build(net: str) -> keras.Model:
    """Build a net from the seed that all ways share."""
    keras.utils.set_random_seed(SEED)
    builder, arguments = NETS[net]
    return builder((LENGTH, 1), len(CLASSES), **arguments)


def build_stock(net: str) -> keras.Model:
    """Build a net and compile it as any Keras program would."""
    model = build(net)
    model.compile(
        keras.optimizers.Adam(1e-3), keras.losses.CategoricalCrossentropy(from_logits=True)
    )
    return model


class Way(Protocol):
    """A way to train. It is made with what it trains on and the number of iterations to come."""

    def run(self, n: int) -> None:
        """Train n iterations; when it returns, the losses of all of them are known."""


class OldWay:
    """(a) CardIO's formulas from files, then `train_on_batch`."""

    def __init__(self, net: str, material: Material, n_per_run: int, n_total: int) -> None:
        # Here, so that the other ways' processes don't hold what it loads.
        from cardio_style import make_batch

        self._make_batch = make_batch
        self._model = build_stock(net)
        self._rng = np.random.default_rng(SEED)
        classes = material.source.targets.argmax(axis=1)
        class_of = dict(zip(material.source.rows.tolist(), classes.tolist(), strict=True))
        rows = [batch.rows.tolist() for batch in material.batches(n_total)]
        self._batches = iter(
            [([material.paths[row] for row in b], [class_of[row] for row in b]) for b in rows]
        )
        self._windows_of = {i: WINDOWS_OF[name] for i, name in enumerate(CLASSES)}

    def run(self, n: int) -> None:
        for paths, classes in itertools.islice(self._batches, n):
            batch = self._make_batch(
                paths, classes, self._windows_of, LENGTH, len(CLASSES), self._rng
            )
            self._model.train_on_batch(*batch)


class KerasFit:
    """(b) One `fit` over batches that lie prepared in memory; a run is one of its epochs.

    The batches are slices of one tensor, cut inside tf.data, which is faster than a
    `keras.utils.PyDataset` over the same arrays. Nothing is copied or computed in Python, and
    the windows' preparation isn't counted.
    """

    def __init__(self, net: str, material: Material, n_per_run: int, n_total: int) -> None:
        batches = material.batches(n_total)
        ends = np.cumsum([len(batch.windows) for batch in batches])
        starts = ends - [len(batch.windows) for batch in batches]
        with tf.device("CPU"):
            windows = tf.constant(np.concatenate([batch.windows for batch in batches]))
            targets = tf.constant(np.concatenate([batch.targets for batch in batches]))
        dataset = (
            tf.data.Dataset.from_tensor_slices((starts, ends))
            .map(lambda start, end: (windows[start:end], targets[start:end]))
            .repeat()
            .prefetch(3)
        )
        self._gate = _Gate()
        arguments = {
            "steps_per_epoch": n_per_run,
            "epochs": n_total // n_per_run,
            "callbacks": [self._gate],
            "shuffle": False,
            "verbose": 0,
        }
        model = build_stock(net)
        threading.Thread(target=model.fit, args=(dataset,), kwargs=arguments, daemon=True).start()

    def run(self, n: int) -> None:
        self._gate.let_one_epoch_run()


class _Gate(keras.callbacks.Callback):  # type: ignore[misc]
    """Holds `fit` between its epochs, so that one call lasts for the whole comparison."""

    def __init__(self) -> None:
        super().__init__()
        self._go: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self._go.get()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self._done.put(None)

    def let_one_epoch_run(self) -> None:
        self._go.put(None)
        self._done.get()


class Ours(Branch):
    """(c) What a worker runs: the packed corpus, batches ahead, the compiled step and the loop."""

    def __init__(self, net: str, material: Material, n_per_run: int, n_total: int) -> None:
        # It is stopped after each run, long before its end, so nothing is evaluated.
        super().__init__(10**9, Schedule.parse("last"))
        self.step = build_step(net)
        to_device = self.step.to_device
        # Until the process ends.
        self._ahead = prefetched(
            (to_device(one.windows), to_device(one.targets)) for one in material.stream()
        )
        batches = self._ahead.__enter__()
        self.taken: list[Floats] = []
        self._loop = TrainingLoop(JointStep([self.step]), [self], batches)

    def run(self, n: int) -> None:
        end = self.iteration + n
        self._loop.run(should_stop=lambda: self.iteration == end)

    def log_losses(self, first_iteration: int, values: Floats, times_ms: list[int]) -> None:
        self.taken.append(values)

    def test(self, iteration: int) -> None:
        raise AssertionError("the end is not reached")

    def save(self) -> None:
        """Write no checkpoint: the loop would once a minute, and when it is stopped."""

    def end(self) -> None:
        raise AssertionError("the end is not reached")

    def fail(self, error: Exception) -> None:
        raise error

    def withdraw(self) -> None:
        raise AssertionError("nobody withdraws it")


def build_step(net: str) -> CompiledStep:
    """Build a net and our step for it."""
    return CompiledStep(
        build(net),
        keras.optimizers.Adam(1e-3),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )


WAYS: dict[str, type[OldWay] | type[KerasFit] | type[Ours]] = {
    "a": OldWay,
    "b": KerasFit,
    "c": Ours,
}


def differences(net: str, data: str, n: int, batch_size: int) -> dict[str, float]:
    """Train stock layers and ours on the same batches and compare the losses.

    Returns
    -------
    dict
        The largest difference of a loss from that of stock Keras layers, of three trainings:
        ``each``: ours, with stock's weights and optimizer state copied before every iteration;
        ``together``: ours, from the same first weights on; ``rounding``: stock layers again, from
        the same first weights on, but with windows changed in their last bit. The last is what
        any difference in rounding grows to.
    """
    batches = load(data, batch_size).batches(n)
    stock, changed = build_stock(net), build_stock(net)
    following, alone = build_step(net), build_step(net)
    found = []
    for batch in batches:
        windows, targets = batch.windows, batch.targets
        for theirs, own in zip(_state(stock), _state_of_step(following), strict=True):
            own.assign(theirs)
        last_bit = windows * np.float32(1 + np.finfo(np.float32).eps)
        row = [_train_stock(stock, windows, targets), _train_stock(changed, last_bit, targets)]
        for step in (following, alone):
            row.append(float(step.train(step.to_device(windows), step.to_device(targets))))
        found.append(row)
    expected, rounding, each, together = np.asarray(found).T
    trainings = {"each": each, "together": together, "rounding": rounding}
    return {name: float(abs(x - expected).max()) for name, x in trainings.items()}


def _train_stock(model: keras.Model, windows: Floats, targets: Floats) -> float:
    # Keras reports the mean loss since the last reset.
    model.reset_metrics()
    return float(model.train_on_batch(windows, targets))


def _state(model: keras.Model) -> list[keras.Variable]:
    model.optimizer.build(model.trainable_variables)
    return [*model.weights, *model.optimizer.variables]


def _state_of_step(step: CompiledStep) -> list[keras.Variable]:
    return [*step.model.weights, *step.optimizer.variables]
