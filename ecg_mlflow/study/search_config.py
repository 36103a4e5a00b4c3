"""The options of a search: sampler, objectives, pruner, repetitions; checked against the plan."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace

from ecg_mlflow.errors import SearchError
from ecg_mlflow.grids import Grid
from ecg_mlflow.records.splits import TEST, VALIDATION
from ecg_mlflow.search.objective import parse_objectives
from ecg_mlflow.search.pruners import Pruner, make_pruner
from ecg_mlflow.search.sampler import GridSampler, Sampler
from ecg_mlflow.stats.metrics import class_suffix
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.study.plan import StudyPlan
from ecg_mlflow.study.trials import SelectionRule, rungs_of

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
class SearchConfig:
    """The options of a search, as they are typed, and the rule that follows from them.

    Attributes
    ----------
    sampler
        ``grid`` for all configurations of the grid, or what chooses from it.
    trials
        How many configurations a sampler may choose; None for all there are.
    search_seed
        Of the sampler; None for the research's.
    pruner
        As `make_pruner` reads it.
    objective, direction
        As `parse_objectives` reads them; None for the study's usual score.
    adaptive
        The first repetition for every configuration, more for those still in contention.
    finalists
        How many configurations a study that selects scores on the test records, at its end.
    rule
        How configurations are compared; `checked` reads it from the options.
    """

    sampler: str = GRID
    trials: int | None = None
    search_seed: int | None = None
    pruner: str = "none"
    objective: str | None = None
    direction: str | None = None
    adaptive: bool = False
    finalists: int = 3
    rule: SelectionRule = field(default_factory=SelectionRule)

    @property
    def selects(self) -> bool:
        """Whether what is trained depends on what others have reached."""
        return self.sampler != GRID or self.rule.pruner is not None or self.rule.adaptive

    def holds_test_back(self, plan: StudyPlan) -> bool:
        """Say whether runs leave the test records alone until the study is over."""
        return self.selects and len(plan.parts.validation) > 0

    def __str__(self) -> str:
        pruner = "" if self.rule.pruner is None else f", pruner {self.rule.pruner}"
        more = ", repetitions for those in contention" if self.rule.adaptive else ""
        return f"sampler {self.sampler}{pruner}{more}; " + ", ".join(map(str, self.rule.objectives))

    def make_sampler(
        self, plan: StudyPlan, known: Mapping[int, Mapping[str, str]] | None = None
    ) -> Sampler:
        """Make the study's sampler.

        Parameters
        ----------
        plan
            The study.
        known
            By number, the options of trials that an earlier session has asked for.

        Raises
        ------
        SearchError
            If there is no such sampler, or it does not work here.
        """
        grid, seed = plan.research.grid, plan.research.seed
        assert isinstance(grid, Grid)
        if self.sampler == GRID:
            return GridSampler(grid)
        # Optuna takes half a second to load, which a plain grid should not cost.
        from ecg_mlflow.search.samplers import make_sampler

        if self.search_seed is not None:
            seed = self.search_seed
        return make_sampler(
            self.sampler,
            grid,
            n_trials=self.trials,
            directions=[one.direction for one in self.rule.objectives],
            seed=seed if isinstance(seed, int) else 0,  # an option may stand for the research's
            known=known,
        )

    def checked(self, plan: StudyPlan) -> SearchConfig:
        """Check the options against the plan; return them with the rule that they mean.

        Raises
        ------
        SearchError
            If a metric is none that runs log, a study would select by its test records though it
            has validation records, or the parts don't go together.
        """
        side = VALIDATION if len(plan.parts.validation) else TEST
        usual = f"{side}_{objective_of(plan.research.multilabel)}"
        objectives = parse_objectives(self.objective or usual, self.direction)
        rule = SelectionRule(objectives, make_pruner(self.pruner), self.adaptive)
        for one in objectives:
            _check_metric(plan, one.metric, side, usual)
        if self.trials is not None and self.sampler == GRID:
            raise SearchError(
                f"trials={self.trials} is for samplers, and sampler=grid trains the whole grid: "
                "leave it out, or choose a sampler such as tpe"
            )
        if self.adaptive and plan.research.repetitions < 2:
            raise SearchError(
                "adaptive=true spends repetitions on those still in contention, and there is 1 "
                "repetition: say reps=3, or leave it out"
            )
        if len(objectives) > 1 and (rule.pruner or self.adaptive):
            raise SearchError(
                f"{len(objectives)} objectives leave no order in which to prune or to repeat: use "
                "one objective, or pruner=none and adaptive=false"
            )
        if rule.pruner is not None:
            _check_pruner(plan, rule.pruner, rule.first.metric)
        config = replace(self, rule=rule)
        if self.sampler != GRID:
            config.make_sampler(plan)  # so that its errors show before training
        return config


#: Names of the options, as they are typed.
SEARCH_OPTIONS = tuple(one.name for one in fields(SearchConfig) if one.name != "rule")


def _check_metric(plan: StudyPlan, metric: str, side: str, usual: str) -> None:
    more = _MULTILABEL_SCORES if plan.research.multilabel else ()
    of_classes = (f"f1_{class_suffix(name)}" for name in plan.research.classes)
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


def _check_pruner(plan: StudyPlan, pruner: Pruner, metric: str) -> None:
    if metric in _FIGURES:
        raise SearchError(
            f"objective={metric!r} is known at the end of a run only, so nothing can be pruned by "
            "it: use a score of the evaluations, or pruner=none"
        )
    numbers = range(20)  # trials of every bracket
    for config in plan.configs:
        epochs, test_every = config.settings.epochs, config.settings.test_every
        ages = {age for n in numbers for age in pruner.rungs(n, epochs)}
        if not rungs_of(config, sorted(ages)):
            raise SearchError(
                f"pruner={pruner} has nothing to judge configuration {config.name!r} by: it trains "
                f"{epochs} epochs and is evaluated by test_every={test_every!r}. Evaluate more "
                "often, or train longer"
            )


def selection_warnings(plan: StudyPlan, search: SearchConfig) -> Sequence[str]:
    """Say where a study would select by the records that it is judged by."""
    if not search.selects or len(plan.parts.validation):
        return ()
    return (
        "this study selects by its test records, so the best score will be too good: give it "
        "validation records, as in split=Split((0.7, 0.1, 0.2), stratified=True, seed=0)",
    )
