"""Choose the finalists of a study that selects, and score them on the test records, once."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence

from tqdm import tqdm

from ecg_mlflow.executors import Executor, Outcome, OutcomeState
from ecg_mlflow.records.splits import TEST
from ecg_mlflow.search.objective import pareto_front
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study.dispatcher import Dispatcher
from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.study.search_config import SearchConfig
from ecg_mlflow.study.signals import StopRequest
from ecg_mlflow.study.trial_scheduler import TrialScheduler
from ecg_mlflow.study.trials import OpenTrial

#: How often a run is scored anew after its process has died.
TRIES = 3


def finalists(scheduler: TrialScheduler, search: SearchConfig) -> list[OpenTrial]:
    """Return the trials that a study ends with, the best first.

    They have all their repetitions. With several objectives the Pareto front comes first.
    """
    done = [trial for trial in scheduler.trials.values() if trial.state is TrialState.COMPLETE]
    most = max((len(trial.metrics) for trial in done), default=0)
    done = [trial for trial in done if len(trial.metrics) == most]
    objectives = search.rule.objectives
    values = [trial.values(objectives) for trial in done]
    front = set(pareto_front(values, objectives)) if len(objectives) > 1 else set()
    order = sorted(
        range(len(done)),
        key=lambda place: (place not in front, -objectives[0].merit(values[place][0])),
    )
    return [done[place] for place in order[: max(search.finalists, len(front))]]


def is_scored(metrics: Mapping[str, float]) -> bool:
    """Say whether a run has been scored on the test records."""
    return any(name.startswith(f"{TEST}_") for name in metrics)


def score_finalists(
    trials: Sequence[OpenTrial],
    dispatcher: Dispatcher,
    executor: Executor,
    stop: StopRequest,
) -> int:
    """Score the finished runs of some trials; return how many could not be.

    Raises
    ------
    KeyboardInterrupt
        If `stop` was asked for; the others are scored when the study is resumed.
    """
    waiting = [
        (trial.runs[repetition], TRIES)
        for trial in trials
        for repetition in sorted(trial.metrics)
        if not is_scored(trial.metrics[repetition])
    ]
    under_way: dict[str, tuple[PlannedRun, int]] = {}
    n_failed = 0
    while waiting or under_way:
        while waiting and executor.free_slots:
            stop.check()
            run, tries = waiting.pop(0)
            key = f"{run.key} {TEST} #{tries}"
            under_way[key] = (run, tries)
            executor.submit(dispatcher.score_job(key, run))
        stop.check()
        for report in executor.events(1.0):
            if not isinstance(report, Outcome):
                continue
            run, tries = under_way.pop(report.key)
            if report.state is OutcomeState.DONE and report.value is not None:
                dispatcher.scored(run, report.value)
            elif report.state is OutcomeState.DIED and tries > 1:
                waiting.append((run, tries - 1))
            else:
                n_failed += 1
                reason = f"{run.key}: its test records could not be scored: {report.reason}"
                tqdm.write(reason, file=sys.stderr)
        dispatcher.refresh()
    return n_failed
