"""What a user asks of a promotion."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from ecg_mlflow.reports.options import Question
from ecg_mlflow.reports.study_corpus import Place
from ecg_mlflow.serving.gate import Requirements


@dataclass(frozen=True)
class PromotionRequest:
    """What a user asks of a promotion.

    Attributes
    ----------
    study
        By id or name.
    name, alias
        The registered model, and the alias to assign.
    question
        How the winner is found.
    requirements
        What it has to fulfil.
    threshold
        Rule by which the threshold is chosen on validation records.
    run_id
        A run to promote in place of the winner.
    place
        Where the recordings are now.
    """

    study: str
    name: str
    alias: str
    question: Question
    requirements: Requirements
    threshold: str = "f1"
    run_id: str | None = None
    place: Place | None = None

    def about(self, usual: str) -> Self:
        """Fill in the metric of a study where none was asked for."""
        question = self.question.about(usual)
        return replace(
            self,
            question=question,
            requirements=replace(self.requirements, metric=question.metric),
        )
