from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.records.quality import lead_faults
from ecg_mlflow.records.synthetic.corpora import demo12_recording

FS = 250.0
NOISE = np.random.default_rng(0).normal(0, 100, 2500).astype(np.int16)
WAVE = (2000 * np.sin(np.arange(2500) / 40)).astype(np.int16)


def with_span(start, end, value, dtype=np.int16):
    lead = NOISE.astype(dtype)
    lead[start:end] = value
    return lead


@pytest.mark.parametrize(
    ("lead", "faults"),
    [
        (NOISE, {}),
        (WAVE, {}),
        (np.full(500, 7, np.int16), {"flat": 2.0}),
        (with_span(500, 1000, 40), {"still": 2.0}),
        (with_span(500, 1000, 900), {"still": 2.0}),
        (np.clip(WAVE, -1500, 2500), {"saturated": 2.4}),
        (np.clip(WAVE, -2500, 1500), {"saturated": 2.4}),
        (with_span(0, 50, np.nan, np.float32), {"NaN": 0.2}),
        (np.full(500, np.nan), {"NaN": 2.0}),
    ],
)
def test_faults_of_a_lead(lead, faults):
    found = {one.kind: one.seconds for one in lead_faults(lead[:, None], FS, ["I"])}
    assert found == pytest.approx(faults, rel=0.05)


def test_each_lead_is_named():
    samples = np.stack([NOISE, np.zeros(2500, np.int16), NOISE], axis=1)
    [fault] = lead_faults(samples, FS, ["I", "II", "III"])
    assert str(fault) == "lead II is flat"
    ordinary = demo12_recording(1, ("AF", "LBBB"), seed=1)
    assert lead_faults(ordinary.samples, ordinary.fs, ordinary.leads) == ()
