"""How a study chooses among its configurations: sampler, objectives, pruner, repetitions."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import Grid
from ecg_mlflow.records.splits import TEST, VALIDATION
from ecg_mlflow.search.objective import Objective, parse_objectives
from ecg_mlflow.search.pruners import Pruner, make_pruner
from ecg_mlflow.stats.metrics import class_suffix
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.trials import rungs_of

GRID = "grid"
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
class Contest:
    """How configurations are compared.

    Attributes
    ----------
    objectives
        What values are; the first is what pruning and repetitions go by.
    pruner
        Gives configurations up early; None gives none up.
    adaptive
        The first repetition for every configuration, more for those still in contention.
    """

    objectives: tuple[Objective, ...] = (Objective("test_f1", maximize=True),)
    pruner: Pruner | None = None
    adaptive: bool = False

    @property
    def first(self) -> Objective:
        """The first objective."""
        return self.objectives[0]


@dataclass(frozen=True)
class SearchDesign:
    """How a study chooses.

    Attributes
    ----------
    sampler
        ``grid`` for all configurations of the grid, or what chooses from it.
    trials
        How many configurations a sampler may choose; None for all there are.
    contest
        How they are compared.
    finalists
        How many configurations a study that selects scores on the test records, at its end.
    seed
        Of the sampler; None for the research's.
    """

    sampler: str = GRID
    trials: int | None = None
    contest: Contest = field(default_factory=Contest)
    finalists: int = 3
    seed: int | None = None

    @property
    def selects(self) -> bool:
        """Whether what is trained depends on what others have reached."""
        contest = self.contest
        return self.sampler != GRID or contest.pruner is not None or contest.adaptive

    def holds_test_back(self, plan: StudyPlan) -> bool:
        """Say whether runs leave the test records alone until the study is over."""
        return self.selects and len(plan.parts.validation) > 0

    def __str__(self) -> str:
        contest = self.contest
        pruner = "" if contest.pruner is None else f", pruner {contest.pruner}"
        more = ", repetitions for those in contention" if contest.adaptive else ""
        return f"sampler {self.sampler}{pruner}{more}; " + ", ".join(map(str, contest.objectives))


def design_search(
    plan: StudyPlan,
    *,
    sampler: str = GRID,
    trials: int | None = None,
    pruner: str = "none",
    objective: str | None = None,
    direction: str | None = None,
    adaptive: bool = False,
    finalists: int = 3,
    search_seed: int | None = None,
) -> SearchDesign:
    """Read how a study is to choose, and check it against the plan.

    Raises
    ------
    SearchError
        If a metric is none that runs log, a study would select by its test records though it has
        validation records, or the parts don't go together.
    """
    side = VALIDATION if len(plan.parts.validation) else TEST
    usual = objective_of(plan.research.multilabel)
    objectives = parse_objectives(objective or f"{side}_{usual}", direction)
    contest = Contest(objectives, make_pruner(pruner), adaptive)
    design = SearchDesign(sampler, trials, contest, finalists, search_seed)
    _check_metrics(plan, design, side)
    if trials is not None and sampler == GRID:
        raise SearchError(
            f"trials={trials} is for samplers, and sampler=grid trains the whole grid: leave it "
            "out, or choose a sampler such as tpe"
        )
    if adaptive and plan.research.repetitions < 2:
        raise SearchError(
            "adaptive=true spends repetitions on those still in contention, and there is 1 "
            "repetition: say reps=3, or leave it out"
        )
    if len(objectives) > 1 and (contest.pruner or adaptive):
        raise SearchError(
            f"{len(objectives)} objectives leave no order in which to prune or to repeat: use "
            "one objective, or pruner=none and adaptive=false"
        )
    if contest.pruner is not None:
        _check_rungs(plan, contest)
    if sampler != GRID:
        _check_sampler(plan, design)
    return design


def _check_sampler(plan: StudyPlan, design: SearchDesign) -> None:
    """Make the sampler once, for nothing but its complaints."""
    # Optuna takes half a second to load, which a plain grid should not cost.
    from ecg_mlflow.search.samplers import make_sampler

    assert isinstance(plan.research.grid, Grid)
    with TemporaryDirectory() as folder:
        make_sampler(
            design.sampler,
            plan.research.grid,
            n_trials=design.trials,
            directions=[one.direction for one in design.contest.objectives],
            seed=0,
            journal=Path(folder, "trial.journal"),
        )


def _check_metrics(plan: StudyPlan, design: SearchDesign, side: str) -> None:
    classes = plan.research.classes
    multilabel = plan.research.multilabel
    more = _MULTILABEL_SCORES if multilabel else ()
    scores = [*_SCORES, *more, *(f"f1_{class_suffix(name)}" for name in classes)]
    best = f"best_{side}_{objective_of(multilabel)}"
    known = [*(f"{side}_{name}" for name in scores), best, *_FIGURES]
    for one in design.contest.objectives:
        if one.metric in known:
            continue
        if side == VALIDATION and one.metric.startswith((f"{TEST}_", f"best_{TEST}_")):
            raise SearchError(
                f"objective={one.metric!r} would choose by the test records, which are there to "
                f"judge what was chosen: say {one.metric.replace(TEST, VALIDATION)}"
            )
        close = difflib.get_close_matches(one.metric, known, n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise SearchError(
            f"objective={one.metric!r} is no metric of these runs; {hint}There are "
            + ", ".join(known)
        )
    if design.contest.pruner is not None and design.contest.first.metric in _FIGURES:
        raise SearchError(
            f"objective={design.contest.first.metric!r} is known at the end of a run only, so "
            "nothing can be pruned by it: use a score of the evaluations, or pruner=none"
        )


def _check_rungs(plan: StudyPlan, contest: Contest) -> None:
    assert contest.pruner is not None
    numbers = range(20)  # trials of every bracket
    for config in plan.configs:
        ages = {age for n in numbers for age in contest.pruner.rungs(n, config.settings.epochs)}
        if not rungs_of(config, sorted(ages)):
            raise SearchError(
                f"pruner={contest.pruner} has nothing to judge configuration {config.name!r} by: "
                f"it trains {config.settings.epochs} epochs and is evaluated by "
                f"test_every={config.settings.test_every!r}. Evaluate more often, or train longer"
            )


def selection_warnings(plan: StudyPlan, design: SearchDesign) -> Sequence[str]:
    """Say where a study would select by the records that it is judged by."""
    if not design.selects or len(plan.parts.validation):
        return ()
    return (
        "this study selects by its test records, so the best score will be too good: give it "
        "validation records, as in split=Split((0.7, 0.1, 0.2), stratified=True, seed=0)",
    )
