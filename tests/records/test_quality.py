from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.records.quality import lead_faults
from ecg_mlflow.records.synthetic.corpora import demo_recording

FS = 250.0


def noise(seconds=10.0):
    return np.random.default_rng(0).normal(0, 100, round(seconds * FS)).astype(np.int16)


def faults(lead, fs=FS):
    return [(one.kind, one.seconds) for one in lead_faults(lead[:, None], fs, ["I"])]


def test_a_good_lead():
    assert faults(noise()) == []


def test_a_flat_lead():
    assert faults(np.full(500, 7, np.int16)) == [("flat", 2.0)]


def test_a_lead_that_stands_still_for_a_while():
    lead = noise()
    lead[500:1000] = 40
    [(kind, seconds)] = faults(lead)
    assert (kind, seconds) == ("still", pytest.approx(2.0, abs=0.02))


@pytest.mark.parametrize("side", [1, -1])
def test_a_saturated_lead(side):
    lead = (2000 * np.sin(np.arange(2500) / 40)).astype(np.int16)
    assert faults(lead) == []
    lead = np.clip(lead, -1500, 2500) if side < 0 else np.clip(lead, -2500, 1500)
    [(kind, seconds)] = faults(lead)
    assert kind == "saturated"
    assert 1.5 < seconds < 3.5


def test_numbers_that_are_missing():
    lead = noise().astype(np.float32)
    lead[:50] = np.nan
    assert faults(lead) == [("NaN", 0.2)]
    assert faults(np.full(500, np.nan)) == [("NaN", 2.0)]


def test_each_lead_is_named():
    samples = np.stack([noise(), np.zeros(2500, np.int16), noise()], axis=1)
    [fault] = lead_faults(samples, FS, ["I", "II", "III"])
    assert str(fault) == "lead II is flat"


@pytest.mark.parametrize("label", ["N", "A", "O"])
def test_ordinary_recordings_have_no_faults(label):
    recording = demo_recording(1, label, seed=1, n_leads=12)
    assert lead_faults(recording.samples, 300, recording.leads) == ()
