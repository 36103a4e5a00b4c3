"""What a training is to be tested with, and when: checked before it begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ecg_mlflow.errors import AutologError
from ecg_mlflow.integrations.autolog.labelled_records import LabelledRecords
from ecg_mlflow.integrations.autolog.network import Activation, check_activation
from ecg_mlflow.training.schedule import Rule, Schedule

#: Of rules in epochs, as iterations.
_NEVER: list[Rule] = ["last"]


@dataclass(frozen=True, eq=False)
class FitSettings:
    """What `RunLogger` and `autolog` are told.

    Attributes
    ----------
    windows
        ``(n_windows, ...)`` to predict; empty without a test.
    records
        What they are of; None without a test.
    epochs, iterations
        The schedule, in rules of epochs and in rules of iterations.
    test_every
        The schedule as it was given.
    activation
        Of the outputs, where it was given.
    """

    windows: Any
    records: LabelledRecords | None
    epochs: Schedule
    iterations: Schedule
    test_every: str
    activation: Activation | None

    @classmethod
    def of(
        cls,
        test: tuple[Any, Any, Sequence[object] | None] | None,
        classes: Sequence[str] | None,
        positive: str | None,
        test_every: Rule | Sequence[Rule],
        activation: Activation | None,
    ) -> FitSettings:
        """Check the arguments; see `RunLogger`.

        Raises
        ------
        AutologError
            They don't fit together.
        ScheduleError
            `test_every` can't be read.
        """
        listed: list[Any] = (
            list(test_every) if isinstance(test_every, list | tuple) else [test_every]
        )
        Schedule.parse(listed, 1)
        # Iterations of an epoch need not be known: Keras says when one ends.
        by_epoch = [rule for rule in listed if isinstance(rule, str) and "epoch" in rule]
        others = [rule for rule in listed if rule not in by_epoch]
        check_activation(activation)
        windows, records = np.empty(0, np.float32), None
        if test is not None:
            windows, records = _read_test(test, classes, positive)
        elif classes is not None or positive is not None or activation is not None:
            raise AutologError(
                "classes=, positive= and activation= say how to score, and there is nothing to "
                "score; give test=(windows, labels, records), or leave them out"
            )
        return cls(
            windows,
            records,
            Schedule.parse(by_epoch or _NEVER, 1),
            Schedule.parse(others or _NEVER),
            ", ".join(map(str, listed)),
            activation,
        )

    def tests_between(self, begin: int, end: int) -> bool:
        """Say whether a test is due after one of these iterations, `end` left out."""
        return any(self.iterations.fires(i, last=False) for i in range(begin, end))

    def tests_after_epoch(self, epoch: int) -> bool:
        """Say whether a test is due after this epoch, of those that count from 0."""
        return self.epochs.fires(epoch, last=False)


def _read_test(test: Any, classes: Sequence[str] | None, positive: str | None) -> Any:
    if not isinstance(test, list | tuple) or len(test) != 3:
        raise AutologError(
            "test= must be (windows, labels, records), with records=None where each window is a "
            f"record of its own; given is {type(test).__name__}"
            + (f" of {len(test)}" if isinstance(test, list | tuple) else "")
        )
    windows, labels, names = test
    windows = windows if hasattr(windows, "shape") else np.asarray(windows)
    records = LabelledRecords.of(labels, names, classes, positive, "test=")
    if len(windows.shape) < 2 or windows.shape[0] != len(records.order):
        raise AutologError(
            f"test=: {len(records.order)} labels came with windows of shape "
            f"{tuple(windows.shape)}; there must be one label for each window, and the first axis "
            "counts the windows"
        )
    return windows, records
