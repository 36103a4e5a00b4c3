"""The trials that a search has handed out, as its journal has them."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import optuna
from optuna.pruners import NopPruner
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial
from optuna.trial import TrialState as OptunaState

from ecg_mlflow.canonical import digest
from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import Grid
from ecg_mlflow.search.journal import damaged, open_journal
from ecg_mlflow.search.sampler import TrialState

# User attributes of Optuna's trials.
NUMBER = "number"  # among those that were handed out; written last, so that the others are there
DIGEST = "digest"  # of the configuration
NOTE = "note"
_GRID = "grid"  # of a study
_TO_OPTUNA = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}
_FROM_OPTUNA = {theirs: ours for ours, theirs in _TO_OPTUNA.items()} | {
    OptunaState.RUNNING: TrialState.RUNNING
}


@dataclass(frozen=True)
class Place:
    """Where a trial stands in the journal.

    Attributes
    ----------
    generation
        Which grid it was chosen from: the first, 0, or one that came later.
    study
        The Optuna study of that grid.
    index
        The trial's number there, where trials that were not handed out count too.
    trial_id
        Its number in the journal.
    """

    generation: int
    study: optuna.Study
    index: int
    trial_id: int


class AskedTrials:
    """The trials that were handed out, by number, and what they were told.

    Parameters
    ----------
    journal
        File of the search.
    directions
        ``"maximize"`` or ``"minimize"`` for each objective.

    Attributes
    ----------
    tried : dict
        By the digest of its configuration, the number of each trial.

    Raises
    ------
    SearchError
        If the journal is damaged, or is of a search with other objectives.
    """

    def __init__(self, journal: Path, directions: Sequence[str]) -> None:
        self._journal = journal
        self._directions = [StudyDirection[direction.upper()] for direction in directions]
        self._storage = open_journal(journal)
        self._places: list[Place] = []
        self.tried: dict[str, int] = {}
        self._read()

    def __len__(self) -> int:
        return len(self._places)

    def study(self, generation: int, grid: Grid) -> optuna.Study:
        """Open the Optuna study of a grid, or begin it.

        Raises
        ------
        SearchError
            If another grid was searched in its place.
        """
        study = optuna.create_study(
            storage=self._storage,
            study_name=_name(generation),
            directions=self._directions,
            sampler=RandomSampler(),
            pruner=NopPruner(),
            load_if_exists=True,
        )
        domain = digest(repr(grid))
        if _GRID not in study.user_attrs:
            study.set_user_attr(_GRID, domain)
        if study.user_attrs[_GRID] != domain:
            raise SearchError(
                f"the journal {self._journal} is of a search in another grid than {grid!r}, so "
                "that it can't be gone on with in this one: move it away to search anew"
            )
        return study

    def add(self, generation: int, study: optuna.Study, trial: optuna.Trial, digest: str) -> int:
        """Write down that an Optuna trial is handed out, and return the number that it gets."""
        number = len(self._places)
        trial.set_user_attr(DIGEST, digest)
        trial.set_user_attr(NUMBER, number)
        self._places.append(self._place(generation, study, trial.number))
        self.tried[digest] = number
        return number

    def place(self, number: int) -> Place:
        """Return where a trial stands."""
        return self._places[number]

    def trial(self, number: int) -> FrozenTrial:
        """Return a trial as Optuna has it."""
        return self._storage.get_trial(self._places[number].trial_id)

    def state(self, number: int) -> TrialState:
        """Return how far a trial has come."""
        return _FROM_OPTUNA[self.trial(number).state]

    def tell(self, number: int, state: TrialState, values: Sequence[float], note: str) -> None:
        """Write down what has become of a trial; see :meth:`Sampler.tell`.

        What is written before the state has no meaning without it, so that a process may die
        between the two.
        """
        assert 0 <= number < len(self._places), f"trial {number} was not asked for"
        assert state is not TrialState.RUNNING, f"trial {number} is told that it is under way"
        assert self.state(number) is TrialState.RUNNING, f"trial {number} was told before"
        place = self._places[number]
        are_finite = all(map(math.isfinite, values))
        if state is TrialState.COMPLETE:
            assert len(values) == len(self._directions), f"trial {number} has values {values}"
            if not are_finite:
                state, note = TrialState.FAILED, note or f"not finite: {[*map(float, values)]}"
        if state is TrialState.PRUNED and are_finite and len(values) == len(self._directions) == 1:
            # TPE ranks pruned trials by how far they came, and then by value. How far this one came
            # is not known here, so all have come to step 0. With several objectives Optuna has no
            # values of pruned trials; they are ranked last.
            self._storage.set_trial_intermediate_value(place.trial_id, 0, float(values[0]))
        if note:
            self._storage.set_trial_user_attr(place.trial_id, NOTE, note)
        reached = [*map(float, values)] if state is TrialState.COMPLETE else None
        place.study.tell(place.index, reached, _TO_OPTUNA[state])

    def _read(self) -> None:
        """Find the trials that earlier sessions have handed out, and end the others."""
        known = {study.study_name for study in self._storage.get_all_studies()}
        found: dict[int, tuple[Place, str]] = {}
        for generation in itertools.takewhile(lambda i: _name(i) in known, itertools.count()):
            study = optuna.load_study(
                study_name=_name(generation), storage=self._storage, sampler=RandomSampler()
            )
            if study.directions != self._directions:
                raise SearchError(
                    f"the journal {self._journal} is of a search that had to "
                    f"{_spelled(study.directions)} its objectives, and this one has to "
                    f"{_spelled(self._directions)}: move it away to search anew"
                )
            for trial in study.get_trials(deepcopy=False):
                if NUMBER in trial.user_attrs:
                    place = self._place(generation, study, trial.number)
                    found[trial.user_attrs[NUMBER]] = place, trial.user_attrs[DIGEST]
                elif trial.state is OptunaState.RUNNING:  # the process died while it asked
                    study.tell(trial.number, state=OptunaState.FAIL)
                elif trial.state is OptunaState.WAITING:
                    study.tell(study.ask(), state=OptunaState.FAIL)
        for number, (place, config) in sorted(found.items()):
            if number != len(self._places):
                raise damaged(
                    self._journal, f"trial {len(self._places)} of {len(found)} is missing"
                )
            self._places.append(place)
            self.tried[config] = number

    def _place(self, generation: int, study: optuna.Study, index: int) -> Place:
        study_id = self._storage.get_study_id_from_name(study.study_name)
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(study_id, index)
        return Place(generation, study, index, trial_id)


def _spelled(directions: Sequence[StudyDirection]) -> str:
    return ", ".join(direction.name.lower() for direction in directions)


def _name(generation: int) -> str:
    return f"search-{generation}" if generation else "search"
