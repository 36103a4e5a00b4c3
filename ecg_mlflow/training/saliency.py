"""Compute saliency: how a network's output changes with each sample of its input.

It uses TensorFlow directly, like the training steps: Keras has no gradients of inputs that work
with every backend.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import tensorflow as tf

if TYPE_CHECKING:
    import keras

Floats = npt.NDArray[np.float32]

#: Windows of one call.
CHUNK = 32


class GradientTimesInput:
    """Each sample's first-order share in a class's log-odds.

    The gradient of ``z_k - log(sum of exp of the other z)`` with respect to the input, times the
    input: the loss in log-odds, to first order, if the sample were 0.

    Parameters
    ----------
    model
        Returns logits.
    multilabel
        Whether classes are independent; the logit of a class is then its log-odds.

    Notes
    -----
    Source: Simonyan, Vedaldi & Zisserman, arXiv 1312.6034; times the input: Shrikumar et al.,
    arXiv 1605.01713.
    """

    def __init__(self, model: keras.Model, *, multilabel: bool = False) -> None:
        shape = (None, *model.input_shape[1:])

        # A graph leaves out the unused gradients of the weights. Computing them eagerly corrupts
        # memory in TensorFlow 2.21 on some CPUs.
        @tf.function(  # type: ignore[untyped-decorator]
            input_signature=[tf.TensorSpec(shape, tf.float32), tf.TensorSpec((), tf.int32)],
            autograph=False,
        )
        def shares(windows: tf.Tensor, place: tf.Tensor) -> tf.Tensor:
            logits = model(windows, training=False)
            own = tf.one_hot(place, logits.shape[1])
            log_odds = tf.reduce_sum(own * logits, axis=1)
            if not multilabel:
                others = tf.where(own > 0, -np.inf, logits)
                log_odds -= tf.reduce_logsumexp(others, axis=1)
            return tf.gradients(log_odds, windows)[0] * windows

        self._shares = shares

    def __call__(self, windows: Floats, place: int) -> Floats:
        """Return the shares in the log-odds of class k.

        Parameters
        ----------
        windows
            ``(n_windows, length, n_leads)``.
        place
            Index k of the class.

        Returns
        -------
        ``(n_windows, length, n_leads)``, in nats.
        """
        chunks = (windows[first : first + CHUNK] for first in range(0, len(windows), CHUNK))
        return np.concatenate([self._shares(chunk, place).numpy() for chunk in chunks])


def along_record(
    shares: Floats, starts: npt.NDArray[np.int64], n_samples: int, smooth: int
) -> Floats:
    """Combine the windows' shares along their record: the importance of each sample.

    Parameters
    ----------
    shares
        ``(n_windows, length, n_leads)``.
    starts
        ``(n_windows,)`` first sample of each window in the record; a record that is shorter than
        a window is padded with zeros on the left.
    n_samples
        Length of the record.
    smooth
        Samples of the moving average.

    Returns
    -------
    ``(n_samples,)``: absolute shares, added over leads, averaged over the windows that cover a
    sample, smoothed, and scaled so that the 99th percentile is 1; 0 outside all windows.
    """
    strength = np.abs(shares).sum(axis=2, dtype=np.float64)
    length = strength.shape[1]
    missing = max(0, length - n_samples)
    total, cover = np.zeros(n_samples + missing), np.zeros(n_samples + missing)
    for start, window in zip(starts, strength, strict=True):
        total[start : start + length] += window
        cover[start : start + length] += 1
    mean = (total / np.maximum(cover, 1))[missing:]
    size = max(1, min(smooth, n_samples))
    even = np.convolve(
        np.pad(mean, (size // 2, (size - 1) // 2), mode="edge"), np.ones(size), "valid"
    )
    # The percentile limits the effect of a single spike; if the rest is 0, use the maximum.
    top = np.percentile(even[cover[missing:] > 0], 99) or even.max()
    scaled = np.clip(even / top, 0, 1) if top > 0 else np.zeros_like(even)
    return np.where(cover[missing:] > 0, scaled, 0).astype(np.float32)
