"""Choose configurations by one of Optuna's samplers, reproducibly and without a storage.

Optuna's sampler objects hold state, a random generator at least. Here each choice is made by a new
one, whose seed follows from the number of the trial. So what is chosen follows from the seed and
from what was told before: to resume a search, ask for its trials again and tell their outcomes in
between, at the same places. The study is kept in memory only.

Each grid that the search chooses from, the first one and those that `update` brings, has an Optuna
study of its own, for within a study Optuna keeps a parameter to one domain. What was found out with
the earlier grids is copied into the later ones' studies.
"""

from __future__ import annotations

import logging
import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import StudyDirection
from optuna.trial import FixedTrial, FrozenTrial, create_trial
from optuna.trial import TrialState as OptunaState

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import ConfigAlias, Grid
from ecg_mlflow.search.sampler import Trial, TrialState
from ecg_mlflow.search.space import Space, configuration

N_STARTUP = 10
"""So many trials must have ended well before a sampler has enough to learn from."""
_N_ATTEMPTS = 10
_LEARNT_FROM = (OptunaState.COMPLETE, OptunaState.PRUNED)
_TO_OPTUNA = {
    TrialState.COMPLETE: OptunaState.COMPLETE,
    TrialState.PRUNED: OptunaState.PRUNED,
    TrialState.FAILED: OptunaState.FAIL,
}

MakeSampler: TypeAlias = "Callable[[int, int], BaseSampler]"


class _Asked(NamedTuple):
    """A trial that was handed out: what it tries, its Optuna study and its place in that."""

    config: ConfigAlias
    study: optuna.Study
    place: int

    def told(self) -> FrozenTrial:
        """Return what Optuna knows of it."""
        return self.study.get_trials(deepcopy=False)[self.place]


class OptunaSampler:
    """Asks for what an Optuna sampler suggests, each configuration once.

    The first configurations are drawn, all of a grid's being equally likely, and so is one where
    the sampler suggests nothing but what was asked before. Left to itself Optuna would choose among
    the products of a sum first, however many configurations they have, and repeat itself.

    Parameters
    ----------
    grid
        What to choose from.
    n_trials
        How many configurations to ask for in all, with those of earlier sessions and grids; None
        for all that there are.
    directions
        ``"maximize"`` or ``"minimize"`` for each objective.
    sampler
        Makes an Optuna sampler from a seed and the number of the attempt, which counts, from 0,
        how often what was suggested in its place had been asked before. None: all configurations
        are drawn.
    seed
        Of the whole search, 0 or more.
    known
        By number, the options (by alias) of trials that an earlier session has asked for; they are
        asked for again. Those between them that are not known are chosen anew.
    is_stateless
        The Optuna samplers choose by the trials alone, and leave nothing in their study that later
        ones need. They are not asked again for what is known.

    Raises
    ------
    SearchError
        If the search would never end, because the grid has a range and `n_trials` is None.
    """

    def __init__(
        self,
        grid: Grid,
        *,
        n_trials: int | None,
        directions: Sequence[str],
        sampler: MakeSampler | None,
        seed: int,
        known: Mapping[int, Mapping[str, str]] | None = None,
        is_stateless: bool = False,
    ) -> None:
        self._limit = n_trials
        self._directions = [StudyDirection[direction.upper()] for direction in directions]
        self._make_sampler = sampler
        self._seed = seed
        self._known = known or {}
        self._is_stateless = is_stateless or sampler is None
        self._storage = InMemoryStorage()
        self._studies: list[optuna.Study] = []
        self._asked: list[_Asked] = []
        self._numbers: dict[str, int] = {}
        """By the digest of its configuration, the number of each trial, known ones included."""
        self.update(grid)

    @property
    def n_trials(self) -> int:
        """How many trials there will be: as many as allowed, or as there are configurations."""
        n_asked, n_configs = len(self._asked), self._space.n_configs
        ends = [] if self._limit is None else [self._limit]
        if n_configs is not None:
            ends.append(n_asked + n_configs - self._n_tried_here)
        return max(n_asked, max(self._known, default=-1) + 1, min(ends))

    def ask(self) -> Trial | None:
        """Choose a configuration that was not asked before, or return the next one that is known.

        Raises
        ------
        SearchError
            If the grid lacks the known one.
        """
        number = len(self._asked)
        options = self._known.get(number)
        if options is None and number >= self.n_trials:
            return None
        config: ConfigAlias | None = None
        notes: dict[str, Any] = {}
        with quiet():
            if options is None or not self._is_stateless:
                config, notes = self._suggested(number) or self._drawn(number)
            if options is not None:
                config = self._recorded(number, options)
            if config is None:
                return None
            self._add(config, OptunaState.RUNNING, {"number": number}, system_attrs=notes)
        study = self._studies[-1]
        self._asked.append(_Asked(config, study, len(study.get_trials(deepcopy=False)) - 1))
        self._numbers[config.digest] = number
        self._n_tried_here += 1
        return Trial(number, config)

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] = (), note: str = ""
    ) -> None:
        """Record the outcome of a trial.

        A COMPLETE one with a value that is not finite has failed. A PRUNED one counts with TPE as
        worse than all that are complete, and with the other samplers for nothing.
        """
        asked, reached = self._asked[number], [*map(float, values)]
        are_finite = all(map(math.isfinite, reached))
        if state is TrialState.COMPLETE and not are_finite:
            state, note = TrialState.FAILED, note or f"not finite: {reached}"
        trial_id = asked.told()._trial_id
        with quiet():
            is_single = len(self._directions) == len(reached) == 1
            if state is TrialState.PRUNED and is_single and are_finite:
                # TPE ranks pruned trials by how far they came, and then by value. How far this one
                # came is not known here, so all have come to step 0. With several objectives Optuna
                # has no values of pruned trials; they are ranked last.
                self._storage.set_trial_intermediate_value(trial_id, 0, reached[0])
            if note:
                self._storage.set_trial_user_attr(trial_id, "note", note)
            is_complete = state is TrialState.COMPLETE
            asked.study.tell(asked.place, reached if is_complete else None, _TO_OPTUNA[state])
            if asked.study is not self._studies[-1]:
                self._copy(number)

    def update(self, grid: Grid) -> None:
        """Choose from this grid from now on, with what earlier ones have taught of it.

        Raises
        ------
        SearchError
            If a range leaves the search without an end, because no number of trials was given.
        """
        if self._limit is None and not grid.is_finite:
            option = next(one for product in grid.products for one in product if one.range)
            raise SearchError(
                f"the search would never end, for option {option.name!r} is {option.range!r}, "
                "which has no last value: say how many configurations to try with trials=N"
            )
        self._space = Space(grid)
        for number, options in self._known.items():
            if (config := configuration(grid, options)) is not None:
                self._numbers.setdefault(config.digest, number)
        with quiet():
            self._studies.append(self._new_study(self._storage, len(self._studies)))
            for number in range(len(self._asked)):
                self._copy(number)
        self._n_tried_here = sum(self._space.encode(one.config) is not None for one in self._asked)

    def write_journal(self, path: Path) -> None:
        """Write the search as Optuna's journal, one study for each grid, without suggestions."""
        with quiet():
            storage = JournalStorage(JournalFileBackend(str(path)))
            for generation, study in enumerate(self._studies):
                trials = study.get_trials(deepcopy=False)
                copy = self._new_study(storage, generation)
                copy.add_trials([trial for trial in trials if trial.user_attrs])

    def _new_study(
        self, storage: InMemoryStorage | JournalStorage, generation: int
    ) -> optuna.Study:
        name = f"search-{generation}" if generation else "search"
        return optuna.create_study(storage=storage, study_name=name, directions=self._directions)

    def _suggested(self, number: int) -> tuple[ConfigAlias, dict[str, Any]] | None:
        """Return what the sampler suggests, with its notes; None without anything new."""
        n_learnt_from = len(self._studies[-1].get_trials(deepcopy=False, states=_LEARNT_FROM))
        if self._make_sampler is None or n_learnt_from < N_STARTUP:
            return None
        for attempt in range(_N_ATTEMPTS):
            config, notes = self._suggestion(number, attempt)
            if self._numbers.get(config.digest, number) == number:
                return config, notes
        return None

    def _drawn(self, number: int) -> tuple[ConfigAlias | None, dict[str, Any]]:
        """Return any configuration that was not asked before; None where there is none."""
        earlier = {digest for digest, other in self._numbers.items() if other < number}
        config = self._draw(number, earlier)
        if config is not None and self._numbers.get(config.digest, number) != number:
            config = self._draw(number, {*self._numbers})  # that is a later trial's, as is known
        if config is None or self._is_stateless:
            return config, {}
        # So the sampler takes note of it as of one of its own, which genetic samplers need to
        # count their generations.
        return config, self._suggestion(number, _N_ATTEMPTS)[1]

    def _draw(self, number: int, tried: set[str]) -> ConfigAlias | None:
        return self._space.untried(tried, np.random.default_rng([self._seed, number]))

    def _recorded(self, number: int, options: Mapping[str, str]) -> ConfigAlias:
        config = configuration(self._space.grid, options)
        if config is None:
            raise SearchError(
                f"trial {number} of this search, {dict(options)}, is of another grid than "
                f"{self._space.grid!r}, so that the search can't be resumed in this one: undo "
                "the change, or start a new study, which takes over the finished runs"
            )
        return config

    def _suggestion(self, number: int, attempt: int) -> tuple[ConfigAlias, dict[str, Any]]:
        """Let a new sampler suggest something; return it and the sampler's notes in the trial.

        The trial fails. What is handed out is a trial of its own, with the values as their ranges
        round them, so that it is the same when the search is resumed. And what was asked before
        must not reach again what it has reached: counted many times, the best configuration would
        fill what TPE takes for the region of good ones with itself.
        """
        study, entropy = self._studies[-1], np.random.SeedSequence([self._seed, number, attempt])
        assert self._make_sampler is not None
        study.sampler = self._make_sampler(int(entropy.generate_state(1)[0]), attempt)
        trial = study.ask()
        config = self._space.suggest(trial)
        notes = study.get_trials(deepcopy=False)[trial.number].system_attrs
        study.tell(trial, state=OptunaState.FAIL)
        return config, {} if self._is_stateless else dict(notes)

    def _copy(self, number: int) -> None:
        """Let the current study know of a trial that an earlier grid's has brought to an end."""
        config, told = self._asked[number].config, self._asked[number].told()
        if told.state in _LEARNT_FROM and self._space.encode(config) is not None:
            values, steps = told.values, told.intermediate_values
            attrs = {"copy_of": number}
            self._add(config, told.state, attrs, values=values, intermediate_values=steps)

    def _add(
        self, config: ConfigAlias, state: OptunaState, attrs: dict[str, Any], **more: Any
    ) -> None:
        """Add a trial to the current study."""
        params = self._space.encode(config)
        assert params is not None, f"{config} is not of the grid {self._space.grid!r}"
        fixed = FixedTrial(params)
        self._space.suggest(fixed)  # which notes the distributions
        distributions = fixed.distributions
        self._studies[-1].add_trial(
            create_trial(
                params=params, distributions=distributions, state=state, user_attrs=attrs, **more
            )
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence Optuna's logs and experimental warnings within the block; errors come through."""
    logger = logging.getLogger("optuna")
    level = logger.level
    logger.setLevel(max(level, logging.ERROR))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        logger.setLevel(level)
