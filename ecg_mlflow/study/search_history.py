"""What a search's child runs tell of it: which trials there are, and what the sampler was told.

A child is created with its trial's number and options as a tag. When the trial ends, its end is a
second tag of one of its children, with its place between the choices: the sampler chooses by what
it knows, so a driver that resumes the search asks and tells in the same order.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from ecg_mlflow.errors import ResearchError, SearchError
from ecg_mlflow.grids import Grid
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.search.space import configuration
from ecg_mlflow.study.plan import PlannedRun, StudyPlan
from ecg_mlflow.tracking.stored_run import StoredRun

#: A trial's number and its options by alias; on the children of a search.
TRIAL_TAG = "ecg_mlflow.trial"
#: How a trial ended; on one of its children.
TRIAL_END_TAG = "ecg_mlflow.trial_end"
#: Longest text of a reason, so that the tag is not cut.
NOTE_LIMIT = 1000


@dataclass(frozen=True)
class TrialEnd:
    """What a sampler was told of a trial.

    Attributes
    ----------
    number
        Of the trial.
    n_asked
        How many trials had been asked for by then.
    order
        Its place among the ends.
    state, values, note
        What was told.
    """

    number: int
    n_asked: int
    order: int
    state: TrialState
    values: Sequence[float] = ()
    note: str = ""

    def tags(self) -> dict[str, str]:
        """Return the tag that stores it."""
        told = vars(self) | {"state": self.state.value, "values": [*map(float, self.values)]}
        return {TRIAL_END_TAG: json.dumps(told | {"note": self.note[:NOTE_LIMIT]})}


@dataclass(frozen=True)
class SearchHistory:
    """The trials of earlier sessions.

    Attributes
    ----------
    options
        By number, the options of the trials that have a child run.
    ends
        In their order.
    n_asked
        How many trials were asked for, as far as is known.
    """

    options: Mapping[int, Mapping[str, str]] = field(default_factory=dict)
    ends: Sequence[TrialEnd] = ()
    n_asked: int = 0

    @property
    def numbers(self) -> set[int]:
        """The trials of which anything is stored."""
        return {*self.options, *(end.number for end in self.ends)}


def trial_tags(run: PlannedRun, n_asked: int) -> dict[str, str]:
    """Return the tag by which a run of a search is known to be of its trial.

    It also tells how many trials have been asked for: some may wait, without a run.
    """
    options = run.config.config.alias()
    trial = {"number": run.config.index, "n_asked": n_asked, "options": options}
    return {TRIAL_TAG: json.dumps(trial)}


def read_history(entries: Iterable[StoredRun]) -> SearchHistory:
    """Read the history of a search from its children; a tag that was cut counts as missing."""
    options: dict[int, dict[str, str]] = {}
    ends: dict[int, TrialEnd] = {}
    n_asked = 0
    for entry in entries:
        if trial := _parsed(entry.tags.get(TRIAL_TAG)):
            options.setdefault(trial["number"], trial["options"])
            n_asked = max(n_asked, trial["number"] + 1, trial["n_asked"])
        if told := _parsed(entry.tags.get(TRIAL_END_TAG)):
            ends[told["number"]] = TrialEnd(**told | {"state": TrialState(told["state"])})
            n_asked = max(n_asked, told["n_asked"])
    in_order = sorted(ends.values(), key=lambda end: (end.n_asked, end.order))
    return SearchHistory(options, in_order, n_asked)


def _parsed(text: str | None) -> Any:
    with suppress(ValueError):
        return json.loads(text or "null")
    return None


def known_identities(
    plan: StudyPlan, trials: Mapping[int, Mapping[str, str]], trained: Set[str]
) -> set[str]:
    """Plan the stored trials of a search again; return their runs' identities.

    Parameters
    ----------
    plan
        The study as it is now.
    trials
        By number, the options of the trials that have a child run.
    trained
        Identities of the study's child runs.

    Raises
    ------
    SearchError
        If the grid lacks a trial's configuration, or it means something else than before.
    """
    assert isinstance(plan.research.grid, Grid)
    planned: dict[int, set[str]] = {}
    for number, options in trials.items():
        config = configuration(plan.research.grid, options)
        if config is not None:
            with suppress(ResearchError):  # the scheduler says so
                planned[number] = set(plan.planner.plan(number, config).identities)
        elif plan.research.update_grid is None:
            raise SearchError(
                f"trial {number} of this study has the options {dict(options)}, which are not in "
                "the grid any more: undo the change, or start a new study, which takes over the "
                "finished runs"
            )
    identities = set[str]().union(*planned.values())
    for number, identities_of_trial in planned.items():
        if identities & trained and not identities_of_trial & trained:
            raise SearchError(
                f"trial {number} of this study, {dict(trials[number])}, means another training "
                "now than when it was chosen: values of options have changed. Undo that, or start "
                "a new study"
            )
    return identities
