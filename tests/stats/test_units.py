"""Independent observations."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from simulated import equal_models

from ecg_mlflow.stats.units import degrees_of_freedom, shared_groups


def test_the_rarer_class_says_how_well_standard_errors_are_known():
    (one,) = equal_models(np.random.default_rng(0), 1, 40)
    few = replace(one, targets=(np.arange(40) < 6).astype(np.int64))
    many = replace(one, targets=(np.arange(40) < 33).astype(np.int64))
    assert degrees_of_freedom([few]) == 5
    assert degrees_of_freedom([many]) == 6
    assert degrees_of_freedom([replace(few, groups=np.arange(40) // 3)]) == 1
    assert degrees_of_freedom([replace(one, targets=np.zeros(40, np.int64))]) == 1


def test_patients_are_those_of_the_first_model_that_knows_them():
    one, other = equal_models(np.random.default_rng(0), 2, 40)
    assert shared_groups([one, other]) is None
    groups = np.arange(40) // 2
    found = shared_groups([one, replace(other, groups=groups)])
    np.testing.assert_array_equal(found, groups)
