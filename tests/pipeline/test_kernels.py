"""The fused kernels on bare arrays, against plain NumPy."""

from __future__ import annotations

import numpy as np
import pytest

from ecg_mlflow.pipeline import kernels
from ecg_mlflow.pipeline.actions.base import interpolate

LENGTH = 16


@pytest.fixture(params=[np.int16, np.float32], ids=["int16", "float32"])
def packed(request) -> tuple[np.ndarray, list[np.ndarray], np.ndarray]:
    """Packed data of three-lead records, the records, and where each begins."""
    rng = np.random.default_rng(0)
    records = [
        rng.normal([50, -20, 0], 300, (n, 3)).astype(request.param) for n in (1, 2, 9, 40, 101)
    ]
    data = np.concatenate([record.ravel() for record in records])
    sizes = np.array([record.size for record in records])
    return data, records, np.cumsum(sizes) - sizes


def test_lead_means(packed):
    data, records, first = packed
    means = np.empty((len(records), 3))
    kernels.lead_means(data, first, np.array([len(r) for r in records]), means)
    np.testing.assert_allclose(means, [r.mean(axis=0, dtype=np.float64) for r in records])


@pytest.mark.parametrize(
    "center", [kernels.NO_CENTER, kernels.CENTER_RESAMPLED, kernels.CENTER_WINDOW]
)
@pytest.mark.parametrize("resampled", [[1, 2, 9, 40, 101], [3, 1, 23, 17, 160]])
def test_fill_windows(packed, center, resampled):
    data, records, first = packed
    rng = np.random.default_rng(1)
    n_resampled = np.array(resampled)
    base = rng.normal(0, 10, (len(records), 3)).astype(np.float32)
    scale = (rng.choice([-1, 1], (len(records), 3)) / 1000).astype(np.float32)
    counts = np.array([1, 2, 3, 1, 4])
    starts = [
        rng.integers(0, max(0, n - LENGTH) + 1, k) for n, k in zip(resampled, counts, strict=True)
    ]
    before = data.copy(), base.copy()
    windows = np.full((counts.sum(), LENGTH, 3), np.nan, np.float32)
    kernels.fill_windows(
        windows,
        data,
        first,
        np.array([len(r) for r in records]),
        n_resampled,
        base,
        scale,
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate(starts),
        center,
    )
    expected = []
    for r, record in enumerate(records):
        signal = interpolate(record.astype(np.float32), resampled[r]).astype(np.float64)
        offset = signal.mean(axis=0) if center == kernels.CENTER_RESAMPLED else base[r]
        signal = (signal - offset) * scale[r]
        signal = np.pad(signal, ((max(0, LENGTH - len(signal)), 0), (0, 0)))
        for start in starts[r]:
            window = signal[start : start + LENGTH]
            expected.append(window - window.mean(axis=0) * (center == kernels.CENTER_WINDOW))
    np.testing.assert_allclose(windows, expected, atol=1e-6)
    np.testing.assert_array_equal(data, before[0])
    np.testing.assert_array_equal(base, before[1])
