"""Size and cost of each configuration's model, known before the study starts."""

from __future__ import annotations

from dataclasses import replace

from ecg_mlflow.errors import ResearchError
from ecg_mlflow.executors import Executor, Job, Outcome, OutcomeState, plan_slots
from ecg_mlflow.executors.factory import make_executor
from ecg_mlflow.grids.canonical import Known, digest
from ecg_mlflow.grids.code_transfer import pickle_for_worker
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.study.plan import ConfigPlan, Network, StudyPlan
from ecg_mlflow.study.research import config_name


def probe_networks(plan: StudyPlan, code: UserCode) -> StudyPlan:
    """Build every model that can't describe itself once, on a CPU worker, and complete the plan.

    Raises
    ------
    ResearchError
        If a model can't be built; the message lists every such configuration.
    """
    known: Known = {}
    asking = {one.index: _key(one, known) for one in plan.configs if one.network is None}
    if not asking:
        return plan
    # Configurations that differ in something else, such as a learning rate, share a model.
    distinct = {_key(one, known): (one.settings, one.data.input_shape) for one in plan.configs}
    payload = pickle_for_worker([distinct[key] for key in dict.fromkeys(asking.values())], code)
    (cpu,) = plan_slots(1, None, n_cores=1)
    with make_executor("ecg_mlflow.study.worker.main:probe", [cpu]) as executor:
        executor.submit(Job("probe", payload))
        outcome = _wait_for_outcome(executor)
    if outcome.state is not OutcomeState.DONE:
        raise ResearchError(f"the models could not be built for a look at them: {outcome.error}")
    answers = dict(zip(dict.fromkeys(asking.values()), outcome.value, strict=True))
    failed = [
        f"configuration {config_name(one.config)}: {answers[asking[one.index]]}"
        for one in plan.configs
        if one.index in asking and isinstance(answers[asking[one.index]], str)
    ]
    if failed:
        raise ResearchError("the model can't be built:\n" + "\n".join(failed))
    configs = tuple(
        replace(one, network=Network(*answers[asking[one.index]])) if one.index in asking else one
        for one in plan.configs
    )
    by_index = {one.index: one for one in configs}
    runs = tuple(replace(run, config=by_index[run.config.index]) for run in plan.runs)
    return replace(plan, configs=configs, runs=runs)


def _key(config: ConfigPlan, known: Known) -> str:
    """Digest what a model is built from."""
    settings = config.settings
    shape = config.data.input_shape
    return digest([settings.builder, settings.arguments, settings.classes, shape], known=known)


def _wait_for_outcome(executor: Executor) -> Outcome:
    while True:
        for report in executor.events(timeout=60.0):
            if isinstance(report, Outcome):
                return report
