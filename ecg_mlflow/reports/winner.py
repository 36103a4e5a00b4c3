"""The run of a study that wins, and the models it was chosen from by the test records."""

from __future__ import annotations

from dataclasses import dataclass

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.records.splits import VALIDATION
from ecg_mlflow.reports.study_results import ComparisonOptions, Configuration, Results, TrainedRun
from ecg_mlflow.stats.comparison import winner
from ecg_mlflow.stats.metrics import higher_is_better
from ecg_mlflow.stats.predictions import Predictions

#: The rules in words.
RULES = {
    "lower_bound": "the best lower bound of the interval over records",
    "mean": "the best mean over its repetitions",
    "smallest": "the smallest model of those not significantly different from the best",
}


@dataclass(frozen=True)
class Choice:
    """A run that was chosen.

    Attributes
    ----------
    configuration, run
        It.
    how
        In words.
    candidates
        Predictions of the test records by all runs that it was chosen from by these records; none
        where it was chosen without them.
    """

    configuration: Configuration
    run: TrainedRun
    how: str
    candidates: tuple[Predictions, ...]

    def __str__(self) -> str:
        repetition = f"repetition {self.run.record.repetition}"
        return f"{self.configuration.name}, {repetition} ({self.how})"


def choose_run(results: Results, options: ComparisonOptions, run_id: str | None = None) -> Choice:
    """Choose a study's winner, or take the run that a user has chosen.

    A configuration is chosen by the rule, on validation records where the study has some; of its
    repetitions the one with the best metric on these.

    Raises
    ------
    PromotionError
        If there is no such run.
    PredictionsError
        If the metric isn't one of these predictions'.
    """
    everything = tuple(run.test for one in results.configurations for run in one.runs)
    if run_id is not None:
        known = {
            run.record.run_id: (one, run) for one in results.configurations for run in one.runs
        }
        if run_id not in known:
            first = (one.runs[0].record.run_id for one in results.configurations)
            raise PromotionError(
                f"run {run_id} is no run of {results.studies[0].name} that was scored on the test "
                f"records; such are {', '.join(first)}"
            )
        # Whoever chooses by hand has seen all test figures in the UI.
        return Choice(*known[run_id], "chosen by hand", everything)
    comparison = results.compare(results.side, options)
    configuration = results.configuration(winner(comparison, options.rule).name)
    sign = 1 if higher_is_better(options.metric) else -1

    def merit(run: TrainedRun) -> float:
        value = run.predictions(results.side).metrics.get(options.metric)
        return -float("inf") if value is None else sign * value

    run = max(configuration.runs, key=merit)
    how = f"{RULES[options.rule]} of {options.metric} on {results.side} records"
    seen = () if results.side == VALIDATION else everything
    return Choice(configuration, run, how, seen)
