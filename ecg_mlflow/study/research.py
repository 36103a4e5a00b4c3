"""What a grid file declares, and what follows from it for one configuration."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import Any

from ecg_mlflow.errors import EcgMlflowError, ResearchError
from ecg_mlflow.grids import C, ConfigAlias, Grid, Option, references, resolve
from ecg_mlflow.grids.canonical import counts_as
from ecg_mlflow.grids.numbers import is_integer
from ecg_mlflow.models.arguments import (
    ModelBuilder,
    builder_name,
    model_arguments,
    quoted,
    signature,
)
from ecg_mlflow.pipeline import Pipeline, Stages
from ecg_mlflow.records.label_sets import SEPARATOR
from ecg_mlflow.records.reading import Reading
from ecg_mlflow.records.splits import TRAIN, Split
from ecg_mlflow.stats.scores import objective_of
from ecg_mlflow.study.grid_update import UpdateGrid
from ecg_mlflow.training.declared import LOSSES, MULTILABEL, Loss, Optimizer
from ecg_mlflow.training.schedule import Schedule

#: One rule of a `Schedule`, or a list of them.
Rules = str | int | Sequence[str | int]
#: What MLflow takes as the name of a param.
_PARAM = re.compile(r"[\w\-. :/]{1,250}", re.ASCII)
#: Names of params and of the leaderboard's columns that every run has for itself.
RESERVED = frozenset(
    {
        *("config", "rank", "repetition", "runs", "weight_seed"),
        *("test_f1", "trainable_parameters", "validation_f1"),
    }
)
#: The fields of a research in which `C` may stand; the others hold for the whole study.
_DESIGN = frozenset(
    {
        *("train", "test", "model", "model_arguments", "optimizer", "loss"),
        *("epochs", "batch_size", "drop_last", "test_every", "seed"),
    }
)


@dataclass(frozen=True)
class DemoBudget:
    """What a study does on the demo corpus, where it is to show rather than to find something.

    Parameters
    ----------
    records
        Size of the corpus.
    epochs, repetitions, test_every
        In place of the research's own; None keeps those.
    """

    records: int = 400
    epochs: int | None = None
    repetitions: int | None = None
    test_every: Rules | None = None

    def __post_init__(self) -> None:
        given = {name: value for name, value in vars(self).items() if value is not None}
        _check_values({**given, "records": self.records}, "demo ")


@counts_as("Settings", version=1)
@dataclass(frozen=True)
class Settings:
    """Everything that decides one training, apart from the records and the repetition."""

    builder: ModelBuilder
    arguments: Mapping[str, Any]
    train: Stages
    test: Stages
    classes: tuple[str, ...]
    positive: str
    epochs: int
    batch_size: int
    drop_last: bool
    test_every: Rules
    seed: int
    optimizer: Optimizer
    loss: Loss

    @property
    def multilabel(self) -> bool:
        """Whether a record may be of several classes, or of none: the loss says so."""
        return self.loss.activation == "sigmoid"

    @property
    def objective(self) -> str:
        """The metric that "best" means."""
        return objective_of(self.multilabel)

    @property
    def model_name(self) -> str:
        """The builder's name."""
        return builder_name(self.builder)

    def stages(self, side: str) -> Stages:
        """Return the pipeline of one side: train, validation or test."""
        return self.train if side == TRAIN else self.test


@dataclass(frozen=True, kw_only=True)
class Research:
    """An experimental design, whole: what is varied, and everything that is not.

    ``C("name")`` may stand for an option's value anywhere in what decides one training: pipelines,
    model, its arguments, epochs, batch size, tests, seed, optimizer and loss. Options named like
    arguments of the model builder reach it without being mentioned.

    Parameters
    ----------
    grid
        The configurations.
    train, test
        Pipelines for training, and for testing and validation.
    classes
        Labels that the pipelines end with; the order of the model's outputs.
    positive
        The class that F1 is of; the first by default.
    multilabel
        Whether a record may be of several classes, or of none. Its labels stand in one text then,
        ``AF,RBBB``; "best" means the mean F1 over the classes, and the loss is
        ``sigmoid_cross_entropy`` unless it is said to be ``sigmoid_focal``.
    model
        A function ``(input_shape, n_classes, **options) -> keras.Model`` that ends in logits.
    model_arguments
        Arguments of `model` beside the options.
    epochs, batch_size
        `batch_size` counts records, not windows.
    drop_last
        Leave out an epoch's last batch where it is smaller.
    test_every
        When to evaluate: a rule or a list of them, see `Schedule`; the end is always among them.
    repetitions
        Trainings of each configuration, with different initial weights and order.
    seed
        Of everything that is drawn.
    optimizer, loss
        See `Optimizer` and `Loss`.
    split
        A `Split`, or its first argument, such as "official".
    leads, gaps
        Which leads of the recordings are read, and what becomes of missing samples, where the
        command doesn't say it; see `ecg_mlflow.load_corpus`.
    update_grid
        A function that gets the results so far, a `pandas.DataFrame` with a row per configuration
        that has ended, and returns the grid to go on with, or None to keep the present one.
        Columns: ``trial``, ``state``, every option (numbers, or else aliases), ``runs``, and the
        mean of each metric.
    update_every
        When it is called: a rule or a list of them, see `Schedule`, over configurations in the
        order in which they end, counted from 0. ``"last"`` is after the one with which there is
        nothing left to do.
    demo
        Smaller numbers for the demo corpus.
    name
        Name of the study; the grid file's by default.

    Raises
    ------
    ResearchError
        If a value is of the wrong kind or out of range.
    """

    grid: Grid | Option
    train: Pipeline | C
    test: Pipeline | C
    classes: Sequence[str]
    positive: str | None = None
    multilabel: bool = False
    model: ModelBuilder | C = field(default_factory=lambda: C("model"))
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | C = 1
    batch_size: int | C = 32
    drop_last: bool | C = False
    test_every: Rules | C = "1 epoch"
    repetitions: int = 1
    seed: int | C = 0
    optimizer: Optimizer | C = field(default_factory=Optimizer)
    loss: Loss | C | None = None
    split: Split | float | tuple[float, ...] | str = 0.8
    leads: str | Sequence[str] | None = None
    gaps: str | None = None
    update_grid: UpdateGrid | None = None
    update_every: Rules = "last"
    demo: DemoBudget = field(default_factory=DemoBudget)
    name: str | None = None

    def __post_init__(self) -> None:
        for one in fields(self):
            if one.name not in {*_DESIGN, "grid"} and (
                found := references(getattr(self, one.name))
            ):
                raise ResearchError(
                    f"{one.name} holds for the whole study, so C({min(found)!r}) can't stand "
                    f"there; it may stand in {', '.join(sorted(_DESIGN))}"
                )
        if isinstance(self.classes, str):
            raise ResearchError(
                f"classes={self.classes!r} must be a list of names, as in [{self.classes!r}, ...]"
            )
        usual = MULTILABEL[0] if self.multilabel is True else "softmax_cross_entropy"
        short_forms = {
            "grid": Grid(self.grid) if isinstance(self.grid, Option) else self.grid,
            "split": self.split if isinstance(self.split, Split) else Split(self.split),
            "classes": tuple(self.classes),
            "positive": self.positive or next(iter(self.classes), None),
            "loss": Loss(usual) if self.loss is None else self.loss,
        }
        for name, value in short_forms.items():
            object.__setattr__(self, name, value)
        _check_values(vars(self))
        with located_errors("leads or gaps"):
            _ = self.reading
        self._check_loss(self.loss)
        self._check_names()
        Schedule.parse(self.update_every)
        if self.update_grid is not None and not callable(self.update_grid):
            raise ResearchError(
                f"update_grid={self.update_grid!r} must be a function of a DataFrame of results"
            )

    @property
    def reading(self) -> Reading:
        """How recordings are read, where the command doesn't say it."""
        return Reading.of(self.leads, self.gaps)

    def _check_names(self) -> None:
        """Check the names of the study, the classes and the options."""
        if self.name is not None and (not isinstance(self.name, str) or not self.name.strip()):
            raise ResearchError(f"name={self.name!r} must be a text, or left out")
        listed = list(self.classes)
        fewest, word = (1, "one") if self.multilabel else (2, "two")
        if len(listed) < fewest or len(set(listed)) < len(listed):
            raise ResearchError(f"classes={listed} must name {word} or more, each once")
        if self.multilabel and any(not one or SEPARATOR in one for one in listed):
            raise ResearchError(
                f"classes={listed}: with several labels a record, a class has a name "
                f"without {SEPARATOR!r}"
            )
        if self.positive not in listed:
            raise ResearchError(f"positive={self.positive!r} is not among classes={listed}")
        for name in self.grid.names:
            if name in RESERVED:
                raise ResearchError(
                    f"option {name!r} needs another name: every run has a param or column of that "
                    f"name already, as it has {quoted(sorted(RESERVED - {name}))}"
                )
            is_path = posixpath.normpath(name) != name or name.startswith((".", "/"))
            if is_path or not _PARAM.fullmatch(name):
                raise ResearchError(
                    f"option {name!r} can't be the name of an MLflow param: letters, digits, '_', "
                    "'-', '.', ':', spaces and single slashes inside only, at most 250"
                )

    def _check_loss(self, loss: object) -> None:
        if not isinstance(loss, Loss) or references(loss):
            return
        if (loss.name in MULTILABEL) != self.multilabel:
            kind = "of several classes" if self.multilabel else "of one class each"
            allowed = [name for name in LOSSES if (name in MULTILABEL) == self.multilabel]
            raise ResearchError(
                f"multilabel={self.multilabel} means records {kind}, for which the loss is "
                f"{' or '.join(map(repr, allowed))}, not {loss.name!r}"
            )

    def settings(self, config: ConfigAlias) -> Settings:
        """Put a configuration's values in their places.

        Raises
        ------
        ResearchError
            If an option is consumed by nothing, a `C` has no option, or the model lacks an
            argument; the message names it and the configuration.
        """
        with located_errors(f"configuration {config_name(config)}"):
            design = {name: getattr(self, name) for name in _DESIGN}
            mentioned = references(design)
            values = config.config()
            made = {name: resolve(value, values) for name, value in design.items()}
            builder, given = made.pop("model"), made.pop("model_arguments")
            taken = model_arguments(builder, given, values, mentioned)
            unused = sorted(set(values) - mentioned - set(taken))
            if unused:
                raise ResearchError(
                    f"nothing consumes the option {quoted(unused)}: {builder_name(builder)} takes "
                    f"{quoted(signature(builder)) or 'no options'}, and no C({unused[0]!r}) stands "
                    "in the grid file. Rename it, mention it, or leave it out"
                )
            _check_values(made)
            self._check_loss(made["loss"])
            made |= {name: int(made[name]) for name in ("epochs", "batch_size", "seed")}
            for side in ("train", "test"):
                with located_errors(f"the {side} pipeline"):
                    made[side] = made[side].stages()
            assert self.positive is not None
            return Settings(
                builder=builder,
                arguments={**given, **taken},
                classes=tuple(self.classes),
                positive=self.positive,
                **made,
            )


def config_name(config: ConfigAlias) -> str:
    """Return a configuration's name, for messages."""
    return config.alias(as_string=True) or "(without options)"


@contextmanager
def located_errors(place: str) -> Iterator[None]:
    """Raise this package's errors as a `ResearchError` that says where in the study they are."""
    try:
        yield
    except EcgMlflowError as error:
        raise ResearchError(f"{place}: {error}") from error


#: What the fields have to be: of a type, or a whole number of at least so much.
_ALLOWED: Mapping[str, type | int] = {
    "grid": Grid,
    "train": Pipeline,
    "test": Pipeline,
    "multilabel": bool,
    "model_arguments": Mapping,
    "epochs": 1,
    "batch_size": 1,
    "drop_last": bool,
    "repetitions": 1,
    "seed": 0,
    "optimizer": Optimizer,
    "loss": Loss,
    "demo": DemoBudget,
    "records": 1,
}


def _check_values(values: Mapping[str, Any], prefix: str = "") -> None:
    """Check types and ranges, and schedules, as far as the values are known."""
    for name, value in values.items():
        allowed = _ALLOWED.get(name)
        if allowed is None or isinstance(value, C):
            continue
        if isinstance(allowed, type):
            if not isinstance(value, allowed):
                raise ResearchError(
                    f"{name} must be of type {allowed.__name__}, not {type(value).__name__}: "
                    f"{value!r}"
                )
        elif not is_integer(value) or value < allowed:
            raise ResearchError(
                f"{prefix}{name}={value!r} must be a whole number of at least {allowed}"
            )
    if "test_every" in values and not references(values["test_every"]):
        Schedule.parse(values["test_every"], iterations_per_epoch=1)
