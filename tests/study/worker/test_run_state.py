"""What a run has come to, through a checkpoint and back."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.errors import CheckpointError
from ecg_mlflow.study.worker.run_state import RunState


def there_and_back(state, identity="run"):
    return RunState.from_checkpoint(state.to_checkpoint("run", {}, []), identity, ("A", "NO"), "A")


def test_a_state_comes_back_as_it_went():
    state = RunState(7, 5, 3.0, 2.0, 0.25, [np.arange(7, dtype=np.float32)], [(5, {"f1": 0.5})])
    found = there_and_back(state)
    assert (found.iteration, found.tested, found.seconds, found.step_seconds) == (7, 5, 3.0, 2.0)
    assert found.tests == state.tests
    np.testing.assert_array_equal(found.losses[0], state.losses[0])
    # Known after a death between the last evaluation and the end, where nothing is scored again.
    assert found.ms_per_record == 0.25


def test_the_state_of_another_run_is_refused():
    with pytest.raises(CheckpointError, match="another identity"):
        there_and_back(RunState(), "another")
