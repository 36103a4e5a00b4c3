"""What is asked of a comparison: the metric, how sure, and who counts as the winner."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self


@dataclass(frozen=True)
class Question:
    """What is asked of a comparison.

    Attributes
    ----------
    metric
        The one that decides; empty for what "best" has meant in the study.
    level
        Confidence of intervals and tests.
    resamples, seed
        Of the bootstrap.
    rule
        Who wins; see `ecg_mlflow.stats.comparison.winner`.
    """

    metric: str = "f1"
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    rule: str = "lower_bound"

    def about(self, usual: str) -> Self:
        """Fill in the metric of a study where none was asked for."""
        return replace(self, metric=self.metric or usual)
