"""From a research and a corpus to the plan of a study, validated before the first run starts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ecg_mlflow.errors import ResearchError, SearchError
from ecg_mlflow.executors.base import Job, Outcome, OutcomeState
from ecg_mlflow.executors.devices import plan_slots
from ecg_mlflow.executors.factory import make_executor
from ecg_mlflow.grids import C, ConfigAlias, Grid
from ecg_mlflow.grids.canonical import Known, digest
from ecg_mlflow.grids.code_transfer import pickle_for_worker
from ecg_mlflow.grids.selection import choose
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.records import BadRecord, Corpus, bad_records_error
from ecg_mlflow.records.column_split import list_records
from ecg_mlflow.records.grouping import patients_note
from ecg_mlflow.records.splits import Split, split_records, spread
from ecg_mlflow.search.pruners import Pruner
from ecg_mlflow.search.space import Space
from ecg_mlflow.study.data_plan import uncovered_labels
from ecg_mlflow.study.plan import ConfigPlan, ConfigPlanner, Network, StudyPlan
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.research import Research, Settings, config_name
from ecg_mlflow.study.search_config import GRID, SELECTS_BY_TEST, read_search, sampler_of
from ecg_mlflow.study.trials import rungs_of

#: Groups of copies that a note lists.
SHOWN_COPIES = 10


def plan_study(research: Research, corpus: Corpus, request: StudyRequest) -> StudyPlan:
    """Plan every run and check all that can be checked without training.

    1. Apply the request; expand the grid; put every configuration's values in their places.
    2. Leave out, or refuse, bad records, those whose label no class covers among them.
    3. Divide the records; read how to choose among configurations.
    4. Per distinct pair of pipelines, select, cut and make a first batch.
    5. Describe the models that can describe themselves.

    Where a sampler chooses while the study runs, examples are planned, among which every value of
    every option occurs.

    Parameters
    ----------
    research, corpus, request
        What, on which records, and what the user asks for in place of the research's words.

    Raises
    ------
    ResearchError, BadRecordsError, SplitError, PipelineError, ModelError, SearchError
        For what is wrong; the message names the configuration, side or records.
    """
    research = _override(research, request)
    assert isinstance(research.split, Split)
    configs, notes = _list_configs(research, request)
    chosen = choose(configs, request.configs)
    settings = {index: research.settings(configs[index]) for index in chosen}
    rows, bad = _leave_out_bad(corpus, settings.values(), request)
    parts = split_records(
        list_records(research.split, corpus, rows),
        corpus.ids,
        corpus.labels,
        corpus.copies,
        rows,
        patients=corpus.patients,
    )
    search = read_search(request, research, parts)
    planner = ConfigPlanner(research, corpus, parts)
    plans = [planner.plan(index, configs[index], one) for index, one in settings.items()]
    if search.pruner is not None:
        _check_pruner(search.pruner, plans)
    notes += dict.fromkeys(note for plan in plans for note in plan.data.notes)
    if (whose := patients_note(parts, corpus.patients)) is not None:
        notes.append(whose)
    if corpus.copies:
        listed = "; ".join(" = ".join(group) for group in corpus.copies[:SHOWN_COPIES])
        more = len(corpus.copies) - SHOWN_COPIES
        rest = f" and {more} more such groups" if more > 0 else ""
        notes.append(f"the same recording under several names: {listed}{rest}")
    if search.is_sampled and search.trials is None:
        assert isinstance(research.grid, Grid)
        notes.append(
            f"trials is not given: {search.sampler} goes on until all "
            f"{Space(research.grid).n_configs} configurations are tried"
        )
    if search.selects and not len(parts.validation):
        notes.append(SELECTS_BY_TEST)
    return StudyPlan(
        research,
        corpus,
        parts,
        tuple(plans),
        tuple(bad),
        (*corpus.provenance.notes, *notes),
        planner,
        search,
    )


def _list_configs(research: Research, request: StudyRequest) -> tuple[list[ConfigAlias], list[str]]:
    """List the configurations, or examples for a sampler, and say which are the same."""
    assert isinstance(research.grid, Grid)
    if sampler_of(request) == GRID:
        configs, twins = research.grid.unique()
        return configs, [
            f"configuration {config_name(twin)} equals {config_name(kept)} by value and runs once"
            for kept, twin in twins
        ]
    if request.configs is not None:
        raise ResearchError(
            f"configs={request.configs!r} chooses from a list of configurations, and a sampler "
            "chooses itself: leave configs out, or narrow the grid in the grid file"
        )
    return Space(research.grid).examples(), []


def _check_pruner(pruner: Pruner, plans: Iterable[ConfigPlan]) -> None:
    """Check that every configuration is evaluated at an age at which it can be pruned."""
    numbers = range(20)  # trials of every bracket
    for config in plans:
        epochs, test_every = config.settings.epochs, config.settings.test_every
        ages = {age for n in numbers for age in pruner.rungs(n, epochs)}
        if not rungs_of(config, sorted(ages)):
            raise SearchError(
                f"pruner={pruner} has nothing to judge configuration {config.name!r} by: it trains "
                f"{epochs} epochs and is evaluated by test_every={test_every!r}. Evaluate more "
                "often, or train longer"
            )


def _override(research: Research, request: StudyRequest) -> Research:
    changes = {
        name: value
        for name in ("epochs", "repetitions", "test_every")
        if (value := getattr(request, name)) is not None
    }
    for name in changes:
        if isinstance(given := getattr(research, name), C):
            raise ResearchError(
                f"{name}={changes[name]!r} can't take the place of {given!r}: the grid file makes "
                "it an option; choose configurations with configs instead"
            )
    return replace(research, **changes)


def _leave_out_bad(
    corpus: Corpus, settings: Iterable[Settings], request: StudyRequest
) -> tuple[npt.NDArray[np.int64], list[BadRecord]]:
    """Return the rows of the records to use, and the bad ones, of the label too."""
    if request.limit is not None and request.limit < 2:
        raise ResearchError(f"limit={request.limit} must leave at least 2 records")
    rows = spread(len(corpus), request.limit)
    distinct = {digest([one.train.labels, one.test.labels, one.classes]): one for one in settings}
    uncovered: dict[str, BadRecord] = {}
    for one in distinct.values():
        uncovered = {found.id: found for found in uncovered_labels(corpus, rows, one)} | uncovered
    bad = [*corpus.bad, *uncovered.values()]
    if bad and not request.skip_bad_records:
        raise bad_records_error(bad)
    return np.array([row for row in rows if corpus.ids[row] not in uncovered], dtype=np.int64), bad


# --- Models that can't describe themselves --------------------------------------------------------


def probe_networks(plan: StudyPlan, code: UserCode) -> StudyPlan:
    """Build every model that can't describe itself once, on a CPU worker, and complete the plan.

    Raises
    ------
    ResearchError
        If a model can't be built; the message lists every such configuration.
    """
    known: Known = {}
    # Configurations that differ in something else, such as a learning rate, share a model.
    sharing: dict[str, list[ConfigPlan]] = {}
    for one in plan.configs:
        if one.network is None:
            of_model = [one.settings.builder, one.settings.arguments, one.settings.classes]
            key = digest([*of_model, one.data.input_shape], known=known)
            sharing.setdefault(key, []).append(one)
    if not sharing:
        return plan
    groups = [*sharing.values()]
    asked = [(group[0].settings, group[0].data.input_shape) for group in groups]
    outcome = _ask_worker(pickle_for_worker(asked, code))
    if outcome.state is not OutcomeState.DONE:
        raise ResearchError(f"the models could not be built for a look at them: {outcome.error}")
    networks: dict[int, Network] = {}
    failed: list[str] = []
    for group, answer in zip(groups, outcome.value, strict=True):
        if isinstance(answer, str):
            failed += [f"configuration {config_name(one.config)}: {answer}" for one in group]
        else:
            networks |= {one.index: Network(*answer) for one in group}
    if failed:
        raise ResearchError("the model can't be built:\n" + "\n".join(failed))
    complete = (replace(one, network=networks.get(one.index, one.network)) for one in plan.configs)
    return replace(plan, configs=tuple(complete))


def _ask_worker(payload: bytes) -> Outcome:
    (cpu,) = plan_slots(1, None, n_cores=1)
    with make_executor("ecg_mlflow.study.worker.main:probe", [cpu]) as executor:
        executor.submit(Job("probe", payload))
        while True:
            for report in executor.events(timeout=60.0):
                if isinstance(report, Outcome):
                    return report
