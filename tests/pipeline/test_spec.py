"""A pipeline as JSON and back, and what no model can keep of one."""

from __future__ import annotations

import importlib
import json
import sys
from functools import partial
from operator import attrgetter

import numpy as np
import pytest
from numba import njit
from scipy.special import expit

from ecg_mlflow.errors import PipelineError
from ecg_mlflow.pipeline import Pipeline
from ecg_mlflow.pipeline.spec import (
    check_deterministic,
    functions_of,
    stages_from_json,
    stages_to_json,
)


def halve(signal, fs):
    return signal / 2


@njit
def double(signal, fs):
    return signal * 2


class Filters:
    @staticmethod
    def invert(signal, fs):
        return -signal

    def __call__(self, signal, fs):
        return signal


def make_inner():
    def inner(signal, fs):
        return signal

    return inner


replaced = make_inner()
replaced.__qualname__ = "halve"
of_main = make_inner()
of_main.__module__, of_main.__qualname__ = "__main__", "of_main"


def find(module: str, qualname: str):
    return attrgetter(qualname)(importlib.import_module(module))


PIPELINES = {
    "labels": lambda p: p.drop_labels(["~"]).keep_labels(["A", "N"]).rename_labels({"N": "NO"}),
    "limits": lambda p: p.drop_short_signals(9.5),
    "leads": lambda p: p.keep_leads(["I", "V1"]).drop_leads(["I"]).reorder_leads(["V1"]),
    "names of leads": lambda p: p.rename_leads({"AVR": "aVR"}),
    "filter": lambda p: p.band_pass_signals(0.5, 40.0, 4).band_pass_signals(low=1),
    "scale": lambda p: p.standardise_signals().resample_signals(250),
    "interference": lambda p: (
        p.remove_powerline(50).remove_baseline().resample_signals(9, "linear")
    ),
    "center": lambda p: p.center_flip(),
    "numpy numbers": lambda p: p.resample_signals(np.float32(0.1)),
    "function": lambda p: p.apply(halve).apply(double).apply(Filters.invert),
    "chance": lambda p: p.center_flip(flip_at_test=True).random_resample_signals("normal", loc=3),
}
SPLITS = [
    lambda p: p.split_signals(np.int64(3000), {"A": 5, "N": 7}).standardise_signals(),
    lambda p: p.random_split_signals(100, {"A": 2}).apply(halve),
]


@pytest.mark.parametrize("build", PIPELINES.values(), ids=PIPELINES)
def test_a_pipeline_comes_back_equal(build):
    for split in SPLITS:
        stages = split(build(Pipeline())).stages()
        text = json.dumps(stages_to_json(stages), allow_nan=False)
        assert stages_from_json(json.loads(text), find) == stages


def test_what_is_written_is_what_a_reader_expects():
    stages = Pipeline().center_flip().apply(double).split_signals(3000, step=1500).stages()
    assert stages_to_json(stages) == [
        {"name": "center_flip", "arguments": {"flip_at_test": False}},
        {
            "name": "apply",
            "arguments": {"step": {"module": double.py_func.__module__, "qualname": "double"}},
        },
        {"name": "split_signals", "arguments": {"length": 3000, "step": 1500}},
    ]
    assert functions_of(stages_to_json(stages)) == [(double.py_func.__module__, "double")]


def test_resampling_that_names_no_method_interpolates_as_when_it_was_stored():
    split = {"name": "split_signals", "arguments": {"length": 3, "step": 3}}
    stored = [{"name": "resample_signals", "arguments": {"fs": 100}}, split]
    assert stages_from_json(stored, find).once[0].method == "linear"


@pytest.mark.parametrize(
    ("step", "shown"),
    [
        (lambda signal, fs: signal, "<lambda>"),
        (make_inner(), "inner"),
        (partial(halve, fs=300), "partial"),
        (np.divide, "divide"),
        (expit, "expit"),
        (Filters(), "Filters"),
        (of_main, "of_main"),
        (replaced, "halve"),
    ],
)
def test_functions_that_no_name_leads_to(monkeypatch, step, shown):
    monkeypatch.setattr(sys.modules["__main__"], "of_main", of_main, raising=False)
    stages = Pipeline().apply(step).split_signals(10, 10).stages()
    with pytest.raises(
        PipelineError, match=f"{shown}.*can't be found.*def at the top of the grid file"
    ):
        stages_to_json(stages)


def test_arguments_that_json_has_no_form_for():
    with pytest.raises(PipelineError, match=r"keys .* must be text"):
        stages_to_json(Pipeline().split_signals(10, {1: 5}).stages())
    chance = Pipeline().random_resample_signals("choice", a=np.arange(3)).split_signals(10, 10)
    with pytest.raises(PipelineError, match="ndarray can't be stored"):
        stages_to_json(chance.stages())


@pytest.mark.parametrize(
    ("name", "arguments", "why"),
    [
        ("wavelet", {}, "another version wrote the pipeline"),
        ("split_signals", {"length": 10}, "another version wrote the pipeline"),
        ("split_signals", {"length": 10, "step": 10, "pad": 0}, "another version wrote"),
        ("split_signals", {"length": 0, "step": 10}, "at least 1"),
    ],
)
def test_what_another_version_wrote_is_not_guessed_at(name, arguments, why):
    with pytest.raises(PipelineError, match=why):
        stages_from_json([{"name": name, "arguments": arguments}], find)


@pytest.mark.parametrize(
    ("refused", "instead"),
    [
        (lambda p: p.random_split_signals(10, 3), r"split_signals\(10, step\)"),
        (
            lambda p: p.random_resample_signals("normal", loc=300).split_signals(10, 10),
            r"resample_signals\(fs\)",
        ),
        (lambda p: p.center_flip(flip_at_test=True).split_signals(10, 10), r"center_flip\(\)"),
        (lambda p: p.split_signals(10, {"A": 5, "N": 10}), r"split_signals\(10, 5\)"),
    ],
)
def test_a_random_test_pipeline_is_refused(refused, instead):
    with pytest.raises(PipelineError, match=f"Write .*{instead}.* in the test pipeline"):
        check_deterministic(refused(Pipeline()).stages())


def test_a_test_pipeline_without_chance_is_allowed():
    root = Pipeline().resample_signals(300).center_flip()
    for step in (10, {"A": 5, "N": 5}):
        check_deterministic(root.split_signals(10, step).stages())
