from __future__ import annotations

import pytest

from ecg_mlflow.errors import TrackingError
from ecg_mlflow.study.request import StudyRequest


@pytest.mark.parametrize("name", [" ", "\t\n", "x" * 501])
def test_names_that_no_experiment_can_have_are_refused_before_anything_is_read(name):
    with pytest.raises(TrackingError, match="can't be the name of an experiment") as caught:
        StudyRequest(experiment=name)
    assert len(str(caught.value)) < 220


@pytest.mark.parametrize("name", ["x" * 500, "AF, 2026 (größer)", "", None])
def test_names_of_experiments(name):
    assert StudyRequest(experiment=name).experiment == name
