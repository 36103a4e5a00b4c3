"""Configurations chosen by one of Optuna's samplers, with a history that outlives the process.

The journal is the only state. Optuna's sampler objects hold some too, a random generator at least,
so each choice is made by a new one, whose seed follows from what was asked before: a search that is
gone on with after its process died chooses what it would have chosen anyway.

Each grid that the search has chosen from, the first one and those that `update` has brought, has an
Optuna study of its own in the journal, for within a study Optuna keeps a parameter to one domain.
What was found out with the earlier grids is copied into the later ones' studies.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FixedTrial, create_trial
from optuna.trial import TrialState as OptunaState

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import ConfigAlias, Grid
from ecg_mlflow.search.asked import DIGEST, AskedTrials
from ecg_mlflow.search.quiet import quiet
from ecg_mlflow.search.sampler import Trial, TrialState
from ecg_mlflow.search.space import Space

N_STARTUP = 10
"""So many trials must have ended well before a sampler has enough to learn from."""
_N_ATTEMPTS = 10
_LEARNT_FROM = (OptunaState.COMPLETE, OptunaState.PRUNED)
_COPY_OF, _DUPLICATE_OF = "copy_of", "duplicate_of"

MakeSampler: TypeAlias = "Callable[[int, int], BaseSampler]"


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
    journal
        Where the search is written down; no other process may have it open.

    Raises
    ------
    SearchError
        If the search would never end, because the grid has a range and `n_trials` is None; if the
        journal is damaged, or is of another search.
    """

    is_exhaustive = False

    def __init__(
        self,
        grid: Grid,
        *,
        n_trials: int | None,
        directions: Sequence[str],
        sampler: MakeSampler | None,
        seed: int,
        journal: Path,
    ) -> None:
        _check_end(n_trials, grid)
        self._limit = n_trials
        self._make_sampler = sampler
        self._seed = seed
        self._journal = journal
        with quiet():
            self._asked = AskedTrials(journal, directions)
        self._n_earlier = len(self._asked)
        self._configs: dict[int, ConfigAlias] = {}
        """By number; what is known of them, for it takes its grid to read a trial."""
        self._generation = -1
        self.update(grid)

    @property
    def n_trials(self) -> int:
        """How many trials there will be: as many as allowed, or as there are configurations."""
        n_asked, n_configs = len(self._asked), self._space.n_configs
        ends = [] if self._limit is None else [self._limit]
        if n_configs is not None:
            ends.append(n_asked + n_configs - self._n_tried_here)
        return max(n_asked, min(ends))

    def history(self) -> list[Trial]:
        """Return the trials of earlier sessions in order, with the states that they have now.

        Those that were chosen from later grids are among them once `update` has brought these.
        """
        return [
            Trial(number, self._configs[number], self._asked.state(number))
            for number in range(self._n_earlier)
            if number in self._configs
        ]

    def ask(self) -> Trial | None:
        """Choose a configuration that was not asked before, and write it down."""
        number = len(self._asked)
        if number >= self.n_trials:
            return None
        with quiet():
            n_learnt_from = len(self._study.get_trials(deepcopy=False, states=_LEARNT_FROM))
            if self._make_sampler is not None and n_learnt_from >= N_STARTUP:
                for attempt in range(_N_ATTEMPTS):
                    if (trial := self._suggested(number, attempt)) is not None:
                        return trial
            return self._drawn(number)

    def tell(
        self, number: int, state: TrialState, values: Sequence[float] = (), note: str = ""
    ) -> None:
        """Write down what has become of a trial.

        A COMPLETE one with a value that is not finite has failed. A PRUNED one counts with TPE as
        worse than all that are complete, and with the other samplers for nothing.
        """
        with quiet():
            self._asked.tell(number, state, values, note)
            if self._asked.place(number).generation < self._generation:
                self._copy(number)

    def update(self, grid: Grid) -> None:
        """Choose from this grid from now on, with what earlier ones have taught of it.

        A session that goes on with another brings the same grids in the same order.
        """
        _check_end(self._limit, grid)
        self._generation += 1
        self._space = Space(grid)
        with quiet():
            self._study = self._asked.study(self._generation, grid)
            trials = self._study.get_trials(deepcopy=False)
            self._copied = {trial.user_attrs.get(_COPY_OF) for trial in trials}
            for number in range(self._n_earlier):
                if self._asked.place(number).generation == self._generation:
                    self._configs[number] = self._read(number)
            for number in sorted(self._configs):
                if self._asked.place(number).generation < self._generation:
                    self._copy(number)
        found = map(self._space.encode, self._configs.values())
        self._n_tried_here = sum(params is not None for params in found)

    def _suggested(self, number: int, attempt: int) -> Trial | None:
        """Hand out what the sampler suggests; None where that was asked before."""
        self._study.sampler = self._sampler(number, attempt)
        trial = self._study.ask()
        config = self._space.suggest(trial)
        earlier = self._asked.tried.get(config.digest)
        if earlier is None:
            return self._hand_out(number, trial, config)
        # It fails, rather than reaching again what the earlier one has reached: counted many times,
        # the best configuration would fill what TPE takes for the region of good ones with itself.
        trial.set_user_attr(_DUPLICATE_OF, earlier)
        self._study.tell(trial, state=OptunaState.FAIL)
        return None

    def _drawn(self, number: int) -> Trial | None:
        """Hand out a configuration that was not asked before, whichever."""
        rng = np.random.default_rng([self._seed, number])
        params = self._space.untried(self._asked.tried, rng)
        if params is None:
            return None
        self._study.sampler = self._sampler(number, _N_ATTEMPTS)
        # Not added as a trial made here: so the sampler takes note of it as of one of its own,
        # which genetic samplers need to count their generations.
        self._study.enqueue_trial(dict(params))
        trial = self._study.ask()
        return self._hand_out(number, trial, self._space.suggest(trial))

    def _hand_out(self, number: int, trial: optuna.Trial, config: ConfigAlias) -> Trial:
        self._asked.add(self._generation, self._study, trial, config.digest)
        self._configs[number] = config
        self._n_tried_here += 1
        return Trial(number, config)

    def _sampler(self, number: int, attempt: int) -> BaseSampler:
        entropy = np.random.SeedSequence([self._seed, number, attempt])
        seed = int(entropy.generate_state(1)[0])
        return self._make_sampler(seed, attempt) if self._make_sampler else RandomSampler(seed)

    def _copy(self, number: int) -> None:
        """Let the current study know of a trial that an earlier grid's has brought to an end."""
        told = self._asked.trial(number)
        params = self._space.encode(self._configs[number])
        if told.state not in _LEARNT_FROM or params is None or number in self._copied:
            return
        fixed = FixedTrial(dict(params))
        self._space.suggest(fixed)
        self._study.add_trial(
            create_trial(
                state=told.state,
                values=told.values,
                params=fixed.params,
                distributions=fixed.distributions,
                intermediate_values=told.intermediate_values,
                user_attrs={_COPY_OF: number},
            )
        )
        self._copied.add(number)

    def _read(self, number: int) -> ConfigAlias:
        trial = self._asked.trial(number)
        config = self._space.decode(trial.params)
        if config is None or config.digest != trial.user_attrs[DIGEST]:
            raise SearchError(
                f"trial {number} in the journal {self._journal} of this search has the parameters "
                f"{trial.params}, which mean another configuration now than when it was chosen: "
                "values of options have changed. Move it away to search anew"
            )
        return config


def _check_end(n_trials: int | None, grid: Grid) -> None:
    if n_trials is None and not grid.is_finite:
        options = [option for cube in grid.cubes for option in cube if option.range is not None]
        raise SearchError(
            f"the search would never end, for option {options[0].name!r} is {options[0].range!r}, "
            "which has no last value: say how many configurations to try with trials=N"
        )
