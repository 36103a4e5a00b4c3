"""What a grid file declares, and what follows from it for one configuration."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ecg_mlflow.errors import EcgMlflowError, ModelError, ResearchError
from ecg_mlflow.grids import C, ConfigAlias, Grid, Option, references, resolve
from ecg_mlflow.pipeline import Pipeline, Stages
from ecg_mlflow.schedule import Schedule
from ecg_mlflow.splits import Split
from ecg_mlflow.training import Loss, Optimizer

ModelBuilder = Callable[..., Any]
Rules = str | int | Sequence[str | int]


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


@dataclass(frozen=True, kw_only=True)
class Research:
    """An experimental design, whole: what is varied, and everything that is not.

    ``C("name")`` may stand anywhere below for an option's value. Options named like arguments of
    the model builder reach it without being mentioned.

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
    train: Pipeline
    test: Pipeline
    classes: Sequence[str]
    positive: str | None = None
    model: ModelBuilder | C = field(default_factory=lambda: C("model"))
    model_arguments: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | C = 1
    batch_size: int | C = 32
    drop_last: bool = False
    test_every: Rules = "1 epoch"
    repetitions: int = 1
    seed: int = 0
    optimizer: Optimizer | C = field(default_factory=Optimizer)
    loss: Loss | C = field(default_factory=Loss)
    split: Split | float | tuple[float, ...] = 0.8
    demo: DemoBudget = field(default_factory=DemoBudget)
    name: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.grid, Option):
            object.__setattr__(self, "grid", Grid(self.grid))
        if not isinstance(self.split, Split):
            object.__setattr__(self, "split", Split(self.split))
        object.__setattr__(self, "classes", tuple(self.classes))
        if self.positive is None:
            object.__setattr__(self, "positive", self.classes[0] if self.classes else None)
        self._check_kinds()
        for name in ("repetitions", "epochs", "batch_size"):
            if not isinstance(value := getattr(self, name), C):
                check_whole(name, value, 1)
        check_whole("seed", self.seed, 0)
        if not references(self.test_every):
            Schedule.parse(self.test_every, iterations_per_epoch=1)

    def _check_kinds(self) -> None:
        kinds = {"grid": Grid, "train": Pipeline, "test": Pipeline, "demo": DemoBudget}
        for name, kind in kinds.items():
            if not isinstance(value := getattr(self, name), kind):
                raise ResearchError(
                    f"{name} must be a {kind.__name__}, not {type(value).__name__} {value!r}"
                )
        if len(self.classes) < 2 or len(set(self.classes)) < len(self.classes):
            raise ResearchError(f"classes={list(self.classes)} must name two or more, each once")
        if self.positive not in self.classes:
            raise ResearchError(
                f"positive={self.positive!r} is not among classes={list(self.classes)}"
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
            raise ResearchError(
                f"configuration {config.alias(as_string=True) or '(without options)'}: {error}"
            ) from error

    def _settings(self, config: ConfigAlias) -> Settings:
        design = {f.name: getattr(self, f.name) for f in fields(self) if f.name in _DESIGN}
        mentioned = references(list(design.values()))
        values = config.config()
        made = {name: resolve(value, values) for name, value in design.items()}
        builder = made.pop("model")
        taken = model_arguments(builder, made["model_arguments"], values, mentioned)
        unused = sorted(set(values) - mentioned - set(taken))
        if unused:
            raise ResearchError(
                f"nothing consumes the option {_quoted(unused)}: {_builder_name(builder)} takes "
                f"{_quoted(_signature(builder)) or 'no options'}, and no C({unused[0]!r}) stands "
                "in the grid file. Rename it, mention it, or leave it out"
            )
        check_whole("epochs", made["epochs"], 1)
        check_whole("batch_size", made["batch_size"], 1)
        arguments = {**made.pop("model_arguments"), **taken}
        train, test = made.pop("train"), made.pop("test")
        return Settings(
            builder=builder,
            arguments=arguments,
            train=_stages("train", train),
            test=_stages("test", test),
            **made,
        )


#: The fields of a research in which `C` may stand; the others hold for the whole study.
_DESIGN = frozenset(
    {
        "train",
        "test",
        "classes",
        "positive",
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
    def model_name(self) -> str:
        """The builder's name."""
        return _builder_name(self.builder)


def model_arguments(
    builder: ModelBuilder,
    given: Mapping[str, Any],
    options: Mapping[str, Any],
    mentioned: frozenset[str],
) -> dict[str, Any]:
    """Return the options that reach the model builder by their names.

    Raises
    ------
    ModelError
        If the builder is no function, an argument has no value or two, or it takes no such
        argument.
    """
    if not callable(builder):
        raise ModelError(
            f"model={builder!r} must be a function (input_shape, n_classes, **options)"
        )
    names = _signature(builder)
    takes_all = any(
        p.kind is inspect.Parameter.VAR_KEYWORD
        for p in inspect.signature(builder).parameters.values()
    )
    unknown = sorted(set(given) - set(names))
    if unknown and not takes_all:
        raise ModelError(
            f"model_arguments has {_quoted(unknown)}, but {_builder_name(builder)} takes "
            f"{_quoted(names)}"
        )
    taken = {name: value for name, value in options.items() if name in names}
    if takes_all:
        taken |= {name: value for name, value in options.items() if name not in mentioned}
    double = sorted(set(taken) & set(given))
    if double:
        raise ModelError(f"{_quoted(double)} is given twice: as an option and in model_arguments")
    missing = [
        name for name, required in names.items() if required and name not in {*taken, *given}
    ]
    if missing:
        raise ModelError(
            f"{_builder_name(builder)} needs a value for {_quoted(missing)}: add an option of "
            "that name, or give it in model_arguments"
        )
    return taken


def _signature(builder: ModelBuilder) -> dict[str, bool]:
    """Return the names of a builder's options, and whether each needs a value."""
    parameters = list(inspect.signature(builder).parameters.values())
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return {p.name: p.default is inspect.Parameter.empty for p in parameters[2:] if p.kind in kinds}


def _builder_name(builder: object) -> str:
    inner = getattr(builder, "func", builder)
    return str(getattr(inner, "__name__", inner))


def _stages(side: str, pipeline: Pipeline) -> Stages:
    try:
        return pipeline.stages()
    except EcgMlflowError as error:
        raise ResearchError(f"the {side} pipeline: {error}") from error


def check_whole(name: str, value: object, least: int) -> None:
    """Raise a `ResearchError` unless `value` is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ResearchError(f"{name}={value!r} must be a whole number of at least {least}")


def _quoted(names: Sequence[str] | Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names)
