"""The reference study, planned: semantics of the grid, of schedules and of the models' sizes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ecg_mlflow import load_corpus
from ecg_mlflow.study.grid_file import load_grid_file
from ecg_mlflow.study.planning import plan_study
from ecg_mlflow.study.request import StudyRequest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    """Plan the whole reference study on a small demo corpus."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setenv("ECG_MLFLOW_CACHE", str(tmp_path_factory.mktemp("cache")))
        research = load_grid_file(EXAMPLES / "resnet.py").research
        yield plan_study(research, load_corpus("demo:120"), StudyRequest())


def test_26_configurations_and_130_runs_with_repetitions_outermost(reference):
    runs, configs = reference.runs, reference.configs
    assert len(configs) == 26
    assert len({run.identity for run in runs}) == 130
    assert [run.key for run in runs] == [f"{i:02d}-r{r}" for r in range(5) for i in range(26)]
    assert configs[0].config.alias(as_string=True) == (
        "blocks_[2, 2, 2, 2]-filters_[64, 128, 256, 512]-input_filters_64-layout_cnacna"
        "-model_ResNet18"
    )
    names = [one.name.split()[0] for one in configs]
    assert names == ["ResNet18", "ResNet34", *["ResNet"] * 24]
    # Those of the tutorial.
    sizes = {one.network.parameters for one in configs}
    assert {3_843_138, 7_217_474, 3_658, 1_137_394} <= sizes
    data = configs[0].data
    labels = data.sides["train"].labels
    assert data.windows_per_epoch == 6 * labels.count("A") + 2 * labels.count("NO")
    assert data.input_shape == (3000, 1)


def test_tests_come_every_20_epochs_and_at_the_end(reference):
    one = reference.configs[0]
    per_epoch = -(-len(one.data.sides["train"].rows) // 32)
    assert one.n_iterations == 300 * per_epoch
    expected = [20 * per_epoch * k - 1 for k in range(1, 16)]
    assert one.tests.iterations(one.n_iterations) == expected
    assert expected[-1] == one.n_iterations - 1
    # The end is tested also where the schedule misses it.
    settings = dataclasses.replace(one.settings, epochs=3, test_every="2 epochs")
    odd = dataclasses.replace(one, settings=settings)
    assert odd.tests.iterations(odd.n_iterations) == [2 * per_epoch - 1, 3 * per_epoch - 1]


def test_larger_nets_are_expected_to_take_longer(reference):
    by_size = sorted(reference.configs, key=lambda one: one.network.multiply_adds)
    seconds = [one.seconds for one in by_size]
    assert seconds == sorted(seconds)
    assert reference.seconds == pytest.approx(5 * sum(seconds))
