"""How a study chooses among its configurations: read from the request, checked before training."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import Grid
from ecg_mlflow.records.splits import TEST, VALIDATION, Parts
from ecg_mlflow.search.objective import Objective, parse_objectives
from ecg_mlflow.search.pruners import Pruner, make_pruner
from ecg_mlflow.search.sampler import GridSampler, Sampler
from ecg_mlflow.stats.metrics import class_suffix
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.research import Research

GRID = "grid"
#: A note on a study that selects and has no validation records.
SELECTS_BY_TEST = (
    "this study selects by its test records, so the best score will be too good: give it "
    "validation records, as in split=Split((0.7, 0.1, 0.2), stratified=True, seed=0)"
)
#: Names of the metrics that every evaluation has, but for those of the classes.
_SCORES = (
    *("f1", "f1_macro", "accuracy", "sensitivity", "specificity", "precision"),
    *("roc_auc", "average_precision", "log_loss", "brier", "cinc2017"),
)
#: Where a record may be of several classes.
_MULTILABEL_SCORES = ("f1_micro", "roc_auc_macro", "average_precision_macro")
#: What is known of a run at its end only.
_FIGURES = (
    "loss",
    "trainable_parameters",
    "system/iterations_per_second",
    "system/setup_seconds",
    "system/ms_per_record",
    "system/time_outside_step",
    "system/worker_peak_memory_mb",
)


@dataclass(frozen=True)
class SearchConfig:
    """How a study chooses among its configurations, and what it compares them by.

    Attributes
    ----------
    sampler
        ``grid`` for all configurations of the grid, or what chooses from it.
    trials
        How many configurations a sampler may choose; None for all there are.
    seed
        Of the sampler.
    objectives
        What values are; the first is what pruning and repetitions go by.
    pruner
        Gives configurations up early; None gives none up.
    adaptive
        The first repetition for every configuration, more for those still in contention.
    finalists
        How many configurations a study that selects scores on the test records, at its end.
    """

    sampler: str = GRID
    trials: int | None = None
    seed: int = 0
    objectives: tuple[Objective, ...] = (Objective("test_f1", maximize=True),)
    pruner: Pruner | None = None
    adaptive: bool = False
    finalists: int = 3

    @property
    def first(self) -> Objective:
        """The first objective."""
        return self.objectives[0]

    @property
    def is_sampled(self) -> bool:
        """Whether a sampler chooses configurations: those of the plan are examples."""
        return self.sampler != GRID

    @property
    def selects(self) -> bool:
        """Whether what is trained depends on what others have reached."""
        return self.is_sampled or self.pruner is not None or self.adaptive

    def __str__(self) -> str:
        pruner = "" if self.pruner is None else f", pruner {self.pruner}"
        more = ", repetitions for those in contention" if self.adaptive else ""
        return f"sampler {self.sampler}{pruner}{more}; " + ", ".join(map(str, self.objectives))

    def make_sampler(
        self, grid: Grid, known: Mapping[int, Mapping[str, str]] | None = None
    ) -> Sampler:
        """Make the study's sampler.

        Parameters
        ----------
        grid
            What it chooses from.
        known
            By number, the options of trials that an earlier session has asked for.

        Raises
        ------
        SearchError
            If there is no such sampler, or it does not work here.
        """
        if not self.is_sampled:
            return GridSampler(grid)
        # Optuna takes half a second to load, which a plain grid should not cost.
        from ecg_mlflow.search.samplers import make_sampler

        directions = [one.direction for one in self.objectives]
        options = {"n_trials": self.trials, "directions": directions, "seed": self.seed}
        return make_sampler(self.sampler, grid, **options, known=known)


def sampler_of(request: StudyRequest) -> str:
    """Return the name of the sampler; that of the whole grid if the user named none."""
    return GRID if request.sampler is None else request.sampler


def read_search(request: StudyRequest, research: Research, parts: Parts) -> SearchConfig:
    """Read how a study is to choose, with the usual score for its objective.

    Raises
    ------
    SearchError
        If a metric is none that runs log, a study would select by its test records though it
        has validation records, or the parts don't go together.
    """
    side = VALIDATION if len(parts.validation) else TEST
    usual = f"{side}_{objective_of(research.multilabel)}"
    # An option may stand for the research's seed.
    seeds = (request.search_seed, research.seed, 0)
    search = SearchConfig(
        sampler_of(request),
        request.trials,
        next(seed for seed in seeds if isinstance(seed, int)),
        parse_objectives(request.objective or usual, request.direction),
        make_pruner("none" if request.pruner is None else request.pruner),
        bool(request.adaptive),
        request.finalists or SearchConfig.finalists,
    )
    for one in search.objectives:
        _check_metric(research, one.metric, side, usual)
    if search.trials is not None and not search.is_sampled:
        raise SearchError(
            f"trials={search.trials} is for samplers, and sampler=grid trains the whole grid: "
            "leave it out, or choose a sampler such as tpe"
        )
    if search.adaptive and research.repetitions < 2:
        raise SearchError(
            "adaptive=true spends repetitions on those still in contention, and there is 1 "
            "repetition: say reps=3, or leave it out"
        )
    if len(search.objectives) > 1 and (search.pruner or search.adaptive):
        raise SearchError(
            f"{len(search.objectives)} objectives leave no order in which to prune or to repeat: "
            "use one objective, or pruner=none and adaptive=false"
        )
    if search.pruner and search.first.metric in _FIGURES:
        raise SearchError(
            f"objective={search.first.metric!r} is known at the end of a run only, so nothing can "
            "be pruned by it: use a score of the evaluations, or pruner=none"
        )
    if search.is_sampled:
        assert isinstance(research.grid, Grid)
        search.make_sampler(research.grid)  # so that its errors show before training
    return search


def _check_metric(research: Research, metric: str, side: str, usual: str) -> None:
    more = _MULTILABEL_SCORES if research.multilabel else ()
    of_classes = (f"f1_{class_suffix(name)}" for name in research.classes)
    scores = [f"{side}_{name}" for name in (*_SCORES, *more, *of_classes)]
    known = [*scores, f"best_{usual}", *_FIGURES]
    if metric in known:
        return
    if side == VALIDATION and metric.startswith((f"{TEST}_", f"best_{TEST}_")):
        raise SearchError(
            f"objective={metric!r} would choose by the test records, which are there to "
            f"judge what was chosen: say {metric.replace(TEST, VALIDATION)}"
        )
    close = difflib.get_close_matches(metric, known, n=1)
    hint = f"did you mean {close[0]}? " if close else ""
    listed = ", ".join(known)
    raise SearchError(f"objective={metric!r} is no metric of these runs; {hint}There are {listed}")
