"""Keeping Optuna from talking to the users of this package about what is no concern of theirs."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from optuna.exceptions import ExperimentalWarning


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back, within the block, what Optuna logs and its warnings of experimental features.

    It logs each study that it opens, and warns, for instance, that a sampler draws some parameters
    on their own, which is how conditional options are meant to be treated. Errors come through.
    """
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)
