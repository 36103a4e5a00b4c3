"""What made-up records are of, in an order whose stretches all have about the same shares."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

Kind = TypeVar("Kind")

LABEL_STREAM, RECORD_STREAM = 0, 1


def spread_kinds(block: Mapping[Kind, int], n_records: int, seed: int) -> list[Kind]:
    """Draw the kinds of records in blocks, and spread each kind evenly within a block.

    The kind of a record does not depend on `n_records`.

    Parameters
    ----------
    block
        How many of a block's records are of each kind.
    n_records
        How many kinds to return.
    seed
        A whole number >= 0.
    """
    kinds = list(block)
    spread: list[Kind] = []
    number = 0
    while len(spread) < n_records:
        rng = np.random.default_rng(seeds(seed, LABEL_STREAM, number))
        places = [
            ((turn + rng.random()) / block[kind], position)
            for position, kind in enumerate(kinds)
            for turn in range(block[kind])
        ]
        spread += [kinds[position] for _, position in sorted(places)]
        number += 1
    return spread[:n_records]


def seeds(seed: int, *key: int) -> np.random.SeedSequence:
    """Return the source of randomness of one thing of a corpus, independent of all others."""
    return np.random.SeedSequence(entropy=seed, spawn_key=key)
