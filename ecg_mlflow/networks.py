"""Size and cost of each configuration's model, known before the study starts."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.executors import Executor, Job, Outcome, OutcomeState, plan_slots
from ecg_mlflow.handover import make_executor, pickle_for_worker
from ecg_mlflow.plan import Network, StudyPlan


def probe_networks(plan: StudyPlan, module: ModuleType | None) -> StudyPlan:
    """Build every model that can't describe itself once, on a CPU worker, and complete the plan.

    Raises
    ------
    ResearchError
        If a model can't be built; the message lists every such configuration.
    """
    asking = [config for config in plan.configs if config.network is None]
    if not asking:
        return plan
    payload = pickle_for_worker([(one.settings, one.data.input_shape) for one in asking], module)
    (cpu,) = plan_slots(1, None, n_cores=1)
    with make_executor("ecg_mlflow.job:probe", [cpu]) as executor:
        executor.submit(Job("probe", payload))
        outcome = _wait_for_outcome(executor)
    if outcome.state is not OutcomeState.DONE:
        raise ResearchError(f"the models could not be built for a look at them: {outcome.error}")
    answers = dict(zip((one.index for one in asking), outcome.value, strict=True))
    failed = [
        f"configuration {one.config.alias(as_string=True)}: {answers[one.index]}"
        for one in asking
        if isinstance(answers[one.index], str)
    ]
    if failed:
        raise ResearchError("the model can't be built:\n" + "\n".join(failed))
    completed = {one.index: replace(one, network=Network(*answers[one.index])) for one in asking}
    configs = tuple(completed.get(one.index, one) for one in plan.configs)
    by_index = {one.index: one for one in configs}
    runs = tuple(replace(run, config=by_index[run.config.index]) for run in plan.runs)
    return replace(plan, configs=configs, runs=runs)


def _wait_for_outcome(executor: Executor) -> Outcome:
    while True:
        for report in executor.events(timeout=60.0):
            if isinstance(report, Outcome):
                return report
