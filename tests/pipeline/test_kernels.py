"""The kernels at the limits of what is allowed: no index leaves its array."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ecg_mlflow.pipeline import Pipeline, WindowMaker, windows
from ecg_mlflow.pipeline.prepare import Prepared
from ecg_mlflow.pipeline.windows import signals_of
from ecg_mlflow.records import DigitalRecord

CHECK = "NUMBA_BOUNDSCHECK"

#: Lengths of records and windows: single samples, neighbours of each other, and long ones.
LENGTHS = st.one_of(st.integers(1, 9), st.integers(62, 66), st.integers(1, 5000))
RATES = st.sampled_from([1e-3, 1, 99.999, 100, 250, 250.0001, 300, 1e4])
CHAINS = st.permutations(["center", "resample", "split"]).filter(
    lambda names: names.index("resample") < names.index("split")
)


def pipeline_of(names, length, rate, number, by_chance):
    pipeline = Pipeline()
    for name in names:
        if name == "center":
            pipeline = pipeline.center_flip()
        elif name == "resample" and rate is not None:
            drawn = {"low": -rate, "high": rate}
            pipeline = (
                pipeline.random_resample_signals("uniform", **drawn)
                if by_chance
                else pipeline.resample_signals(rate, "linear")
            )
        elif name == "split" and by_chance:
            pipeline = pipeline.random_split_signals(length, number)
        elif name == "split":
            pipeline = pipeline.split_signals(length, number)
    return pipeline


@pytest.mark.skipif(not os.environ.get(CHECK), reason="run by the test below, with bounds checked")
@given(
    lengths=st.lists(LENGTHS, min_size=1, max_size=40),
    length=LENGTHS,
    n_leads=st.integers(1, 3),
    dtype=st.sampled_from(["int16", "float32"]),
    names=CHAINS,
    rate=st.one_of(st.none(), RATES),
    number=st.integers(1, 40),
    by_chance=st.booleans(),
    epoch=st.integers(0, 1000),
)
@settings(max_examples=300, deadline=None, derandomize=True, database=None)
def test_no_index_leaves_its_array(
    lengths, length, n_leads, dtype, names, rate, number, by_chance, epoch
):
    leads = tuple(f"L{i}" for i in range(n_leads))
    extreme = np.iinfo("int16").min if dtype == "int16" else 1e30
    records = [
        DigitalRecord(
            f"R{i}",
            250.0,
            leads,
            np.full((n, n_leads), extreme, dtype),
            np.ones(n_leads, np.float32),
            np.zeros(n_leads, np.float32),
        )
        for i, n in enumerate(lengths)
    ]
    rows = np.arange(len(records))
    fs = np.array([record.fs for record in records])
    ids = tuple(record.id for record in records)
    prepared = Prepared(signals_of(records), rows, fs, leads, ids)
    stages = pipeline_of(names, length, rate, number, by_chance).stages()
    maker = WindowMaker(stages, prepared, rows, ["N"] * len(rows), training=True)
    assert windows.fuse(stages)
    made, counts = maker.make(rows, maker.draw(0, 0, epoch))
    assert made.shape == (counts.sum(), length, n_leads)
    assert np.isfinite(made).all()


def test_the_kernels_stay_within_their_arrays_when_numba_checks_them(tmp_path):
    # In a process of its own: numba reads the variable once, and keeps what it compiled.
    environment = {**os.environ, CHECK: "1", "NUMBA_CACHE_DIR": str(tmp_path)}
    test = f"{__file__}::{test_no_index_leaves_its_array.__name__}"
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-n0", test],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert found.returncode == 0, found.stdout[-4000:]
    assert "1 passed" in found.stdout


@pytest.mark.parametrize(("n_samples", "fused"), [(2**31 - 1, True), (2**31, False)])
def test_records_whose_samples_32_bits_cannot_count_are_left_to_numpy(n_samples, fused):
    record = DigitalRecord.from_millivolts("R0", np.zeros((9, 1), np.float32), 250.0, ("I",))
    signals = replace(signals_of([record]), n_samples=np.array([n_samples]))
    prepared = Prepared(signals, np.array([0]), np.array([250.0]), ("I",), ("R0",))
    stages = Pipeline().resample_signals(100, "linear").split_signals(5, 5).stages()
    maker = WindowMaker(stages, prepared, np.array([0]), ["N"], training=False)
    assert (maker._chain is not None) == fused
