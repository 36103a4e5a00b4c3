"""What a grid file declares, and what follows from it for one configuration."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from numbers import Integral
from typing import Any

from ecg_mlflow.errors import EcgMlflowError, ResearchError
from ecg_mlflow.grids import C, ConfigAlias, Grid, Option, references, resolve
from ecg_mlflow.models.arguments import (
    ModelBuilder,
    builder_name,
    model_arguments,
    quoted,
    signature,
)
from ecg_mlflow.pipeline import Pipeline, Stages
from ecg_mlflow.records.label_sets import SEPARATOR
from ecg_mlflow.records.splits import Split
from ecg_mlflow.study.grid_update import UpdateGrid
from ecg_mlflow.study.settings import Rules, Settings
from ecg_mlflow.training import Loss, Optimizer
from ecg_mlflow.training.declared import LOSSES, MULTILABEL
from ecg_mlflow.training.schedule import Schedule

#: What MLflow takes as the name of a param.
_PARAM = re.compile(r"[\w\-. :/]{1,250}", re.ASCII)
#: Names of params and of the leaderboard's columns that every run has for itself.
RESERVED = frozenset(
    {
        "config",
        "rank",
        "repetition",
        "runs",
        "test_f1",
        "trainable_parameters",
        "validation_f1",
        "weight_seed",
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
        for name in ("records", "epochs", "repetitions"):
            if name == "records" or getattr(self, name) is not None:
                check_whole(f"demo {name}", getattr(self, name), 1)
        if self.test_every is not None:
            Schedule.parse(self.test_every, iterations_per_epoch=1)


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
        A `Split`, or its first argument.
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
    split: Split | float | tuple[float, ...] = 0.8
    update_grid: UpdateGrid | None = None
    update_every: Rules = "last"
    demo: DemoBudget = field(default_factory=DemoBudget)
    name: str | None = None

    def __post_init__(self) -> None:
        self._check_places()
        if isinstance(self.grid, Option):
            object.__setattr__(self, "grid", Grid(self.grid))
        if not isinstance(self.split, Split):
            object.__setattr__(self, "split", Split(self.split))
        if isinstance(self.classes, str):
            raise ResearchError(
                f"classes={self.classes!r} must be a list of names, as in [{self.classes!r}, ...]"
            )
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.positive is None:
            object.__setattr__(self, "positive", self.classes[0] if self.classes else None)
        if self.loss is None:
            usual = MULTILABEL[0] if self.multilabel is True else "softmax_cross_entropy"
            object.__setattr__(self, "loss", Loss(usual))
        self._check_kinds()
        self._check_option_names()
        check_whole("repetitions", self.repetitions, 1)
        Schedule.parse(self.update_every)
        if self.update_grid is not None and not callable(self.update_grid):
            raise ResearchError(
                f"update_grid={self.update_grid!r} must be a function of a DataFrame of results"
            )
        self._check_design({f.name: getattr(self, f.name) for f in fields(self)})

    def _check_places(self) -> None:
        """Refuse a `C` where one value holds for the whole study."""
        for one in fields(self):
            if one.name in _DESIGN or one.name == "grid":
                continue
            if found := references(getattr(self, one.name)):
                raise ResearchError(
                    f"{one.name} holds for the whole study, so C({min(found)!r}) can't stand "
                    f"there; it may stand in {', '.join(sorted(_DESIGN))}"
                )

    def _check_kinds(self) -> None:
        kinds: dict[str, type] = {
            "grid": Grid,
            "demo": DemoBudget,
            "model_arguments": Mapping,
            "multilabel": bool,
        }
        for name, kind in kinds.items():
            _check_kind(name, getattr(self, name), kind)
        if self.name is not None and (not isinstance(self.name, str) or not self.name.strip()):
            raise ResearchError(f"name={self.name!r} must be a text, or left out")
        fewest, word = (1, "one") if self.multilabel else (2, "two")
        if len(self.classes) < fewest or len(set(self.classes)) < len(self.classes):
            raise ResearchError(f"classes={list(self.classes)} must name {word} or more, each once")
        if self.multilabel and any(not one or SEPARATOR in one for one in self.classes):
            raise ResearchError(
                f"classes={list(self.classes)}: with several labels a record, a class has a name "
                f"without {SEPARATOR!r}"
            )
        if self.positive not in self.classes:
            raise ResearchError(
                f"positive={self.positive!r} is not among classes={list(self.classes)}"
            )

    def _check_option_names(self) -> None:
        for name in self.grid.names:
            if name in RESERVED:
                raise ResearchError(
                    f"option {name!r} needs another name: every run has a param or column of that "
                    f"name already, as it has {quoted(sorted(RESERVED - {name}))}"
                )
            if (
                not _PARAM.fullmatch(name)
                or posixpath.normpath(name) != name
                or name.startswith((".", "/"))
            ):
                raise ResearchError(
                    f"option {name!r} can't be the name of an MLflow param: letters, digits, '_', "
                    "'-', '.', ':', spaces and single slashes inside only, at most 250"
                )

    def _check_design(self, values: Mapping[str, Any]) -> None:
        """Check what decides a training, as far as the values are known."""
        for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
            if not isinstance(values[name], C):
                check_whole(name, values[name], least)
        kinds: dict[str, type] = {
            "train": Pipeline,
            "test": Pipeline,
            "optimizer": Optimizer,
            "loss": Loss,
            "drop_last": bool,
        }
        for name, kind in kinds.items():
            if not isinstance(values[name], C):
                _check_kind(name, values[name], kind)
        loss = values["loss"]
        if isinstance(loss, Loss) and not references(loss):
            self._check_loss(loss)
        if not references(values["test_every"]):
            Schedule.parse(values["test_every"], iterations_per_epoch=1)

    def _check_loss(self, loss: Loss) -> None:
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
        try:
            return self._settings(config)
        except EcgMlflowError as error:
            raise ResearchError(f"configuration {config_name(config)}: {error}") from error

    def _settings(self, config: ConfigAlias) -> Settings:
        design = {name: getattr(self, name) for name in _DESIGN}
        mentioned = references(design)
        values = config.config()
        made = {name: resolve(value, values) for name, value in design.items()}
        builder = made.pop("model")
        given = made.pop("model_arguments")
        taken = model_arguments(builder, given, values, mentioned)
        unused = sorted(set(values) - mentioned - set(taken))
        if unused:
            raise ResearchError(
                f"nothing consumes the option {quoted(unused)}: {builder_name(builder)} takes "
                f"{quoted(signature(builder)) or 'no options'}, and no C({unused[0]!r}) stands "
                "in the grid file. Rename it, mention it, or leave it out"
            )
        self._check_design(made)
        for name in ("epochs", "batch_size", "seed"):
            made[name] = int(made[name])
        train, test = made.pop("train"), made.pop("test")
        assert self.positive is not None
        return Settings(
            builder=builder,
            arguments={**given, **taken},
            train=_stages("train", train),
            test=_stages("test", test),
            classes=tuple(self.classes),
            positive=self.positive,
            **made,
        )


#: The fields of a research in which `C` may stand; the others hold for the whole study.
_DESIGN = frozenset(
    {
        "train",
        "test",
        "model",
        "model_arguments",
        "epochs",
        "batch_size",
        "drop_last",
        "test_every",
        "seed",
        "optimizer",
        "loss",
    }
)


def _stages(side: str, pipeline: Pipeline) -> Stages:
    try:
        return pipeline.stages()
    except EcgMlflowError as error:
        raise ResearchError(f"the {side} pipeline: {error}") from error


def config_name(config: ConfigAlias) -> str:
    """Return a configuration's name, for messages."""
    return config.alias(as_string=True) or "(without options)"


def check_whole(name: str, value: object, least: int) -> None:
    """Raise a `ResearchError` unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, Integral) or int(value) < least:
        raise ResearchError(f"{name}={value!r} must be a whole number of at least {least}")


def _check_kind(name: str, value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise ResearchError(
            f"{name} must be of type {kind.__name__}, not {type(value).__name__}: {value!r}"
        )
