"""Options of a comparison: the metric, the confidence, the bootstrap, and the winner's rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Self


@dataclass(frozen=True)
class ComparisonOptions:
    """Options of a comparison.

    Attributes
    ----------
    metric
        The one that decides; empty for what "best" has meant in the study.
    level
        Confidence of intervals and tests.
    resamples, seed
        Of the bootstrap.
    rule
        Which configuration wins; see `ecg_mlflow.stats.comparison.winner`.
    """

    metric: str = "f1"
    level: float = 0.95
    resamples: int = 2000
    seed: int = 0
    rule: str = "lower_bound"

    @property
    def bootstrap(self) -> dict[str, Any]:
        """The arguments of everything that resamples records."""
        return {"level": self.level, "n_resamples": self.resamples, "seed": self.seed}

    def with_metric(self, usual: str) -> Self:
        """Fill in the metric of a study where none was asked for."""
        return replace(self, metric=self.metric or usual)
