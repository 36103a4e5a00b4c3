"""How work gets from the driver to the workers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import cloudpickle

from ecg_mlflow.executors import Executor, InProcessExecutor, ProcessExecutor, Slot

#: Seconds that a worker has to flush when it is told to stop.
GRACE = 30.0


def make_executor(function: str, slots: Sequence[Slot], log_dir: Path | None = None) -> Executor:
    """Make the executor for these slots; without any, jobs run in this process."""
    if not slots:
        return InProcessExecutor(function)
    return ProcessExecutor(function, slots, log_dir=log_dir, grace=GRACE)


def pickle_for_worker(value: object, modules: Sequence[ModuleType]) -> bytes:
    """Pickle for a worker; what these modules define goes by value.

    They are the grid file and what it imports from beside itself: workers can't import them.
    """
    for module in modules:
        cloudpickle.register_pickle_by_value(module)
    try:
        payload: bytes = cloudpickle.dumps(value)
    finally:
        for module in modules:
            cloudpickle.unregister_pickle_by_value(module)
    return payload
