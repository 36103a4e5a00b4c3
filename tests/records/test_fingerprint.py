"""The same recording is recognised, another one isn't."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.records import load_corpus
from ecg_mlflow.records.fingerprint import fingerprints, is_same, same_recordings


@pytest.fixture(scope="module")
def ecgs():
    """Thirty made-up recordings of three leads, in mV."""
    corpus = load_corpus("demo12:30:3")
    return [corpus.record(i).signal[:3000, :3].copy() for i in range(30)]


def stored(signal, gain, baseline=0):
    return np.rint(signal * gain + baseline).astype(np.int16)


CONVERSIONS = {
    "another gain": lambda mv: stored(mv, 2000),
    "a coarse gain": lambda mv: stored(mv, 200),
    "gains and offsets that differ": lambda mv: stored(mv, [500, 1000, 250], [10, -900, 3]),
    "mV": lambda mv: stored(mv, 1000).astype(np.float32) / np.float32(1000),
    "µV in double": lambda mv: stored(mv, 1000) * 1e3,
    "another order": lambda mv: stored(mv, 1000)[:, [2, 0, 1]],
}


@pytest.mark.parametrize("convert", CONVERSIONS.values(), ids=CONVERSIONS)
def test_a_converted_recording_is_recognised(ecgs, convert):
    for signal in ecgs:
        original, copy = stored(signal, 1000), convert(signal)
        assert set(fingerprints(original)) & set(fingerprints(copy))
        assert is_same(original, copy)


def test_other_recordings_are_not(ecgs):
    known = [set(fingerprints(signal)) for signal in ecgs]
    assert len(set.union(*known)) == sum(map(len, known))
    assert not is_same(ecgs[0], ecgs[1])
    assert not is_same(ecgs[0], -ecgs[0])
    assert not is_same(ecgs[0], ecgs[0][:-1])
    assert not set(fingerprints(ecgs[0])) & set(fingerprints(ecgs[0][:-1]))
    noisy = ecgs[0] + np.random.default_rng(0).normal(0, 0.05, ecgs[0].shape)
    assert not is_same(ecgs[0], noisy)


def test_what_agrees_by_chance_is_told_apart_by_all_samples():
    times = np.arange(1600) / 100
    sines = [np.sin(2 * np.pi * f * times)[:, None] for f in (2, 3, 2)]
    known = [fingerprints(one) for one in sines]
    assert set(known[0]) & set(known[1]), "as all sines of whole periods"
    assert same_recordings(known, sines.__getitem__) == [(0, 2)]


def test_flat_leads_and_short_recordings():
    short = np.array([[1, 5], [2, 5], [4, 5]], np.int16)
    flat = np.zeros((3, 2), np.int16)
    records = [short, flat, short * 3 + 1, flat + 7, short[:1]]
    known = [fingerprints(one) for one in records]
    assert same_recordings(known, records.__getitem__) == [(0, 2), (1, 3)]


def test_real_recordings_are_all_different(sample_records, twelve_leads):
    for folder in (sample_records, twelve_leads / "cinc2021"):
        corpus = load_corpus(str(folder))
        found = [one for its in corpus.fingerprints for one in its]
        copies = sum(len(group) - 1 for group in corpus.copies)
        assert len(set(found)) == len(found) - 3 * copies
