"""Parameters of the commands: types of values, headings, options that several commands have."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from ecg_mlflow.cli.environment import base_folders

_BOOLEANS = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


class WholeNumber(click.IntRange):
    """A whole number of a range."""

    name = "whole number"


class FiniteNumber(click.FloatRange):
    """A number of a range; neither NaN nor infinite."""

    name = "number"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """Read a value."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class LocatedPath(click.Path):
    """A path, a glob or the name of a data set; a relative path starts at the caller's folder."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Find a path."""
        from ecg_mlflow.records.catalogue import located

        return located(value, base_folders()) if value else value


COUNT = WholeNumber(min=0)
POSITIVE = WholeNumber(min=1)
AMOUNT = FiniteNumber(min=0)
MINUTES = FiniteNumber(min=0, min_open=True)
PROBABILITY = FiniteNumber(min=0, max=1, min_open=True, max_open=True)
#: A word, a path or a glob, which stays a text.
PLACE = click.Path()
#: ... and starts at the caller's folder.
RECORDINGS = LocatedPath()
FILE = click.Path(path_type=Path)


class CliOption(click.Option):
    """An option that the help lists under a heading.

    Parameters
    ----------
    names
        Of the option, and of its value where that differs; with spaces between.
    meaning
        What the help says.
    kind
        Type of the value; a text if it is left out.
    **attributes
        Others of `click.Option`.

    Attributes
    ----------
    section
        The heading.
    """

    section = "Options"

    def __init__(
        self, names: str, meaning: str, kind: click.ParamType[Any] | None = None, **attributes: Any
    ) -> None:
        if isinstance(kind, WholeNumber | FiniteNumber):
            attributes["metavar"] = "N"
        super().__init__(names.split(), help=meaning, type=kind, **attributes)


def section(heading: str, *options: CliOption) -> tuple[CliOption, ...]:
    """Put options under a heading."""
    for option in options:
        option.section = heading
    return options


class CliCommand(click.Command):
    """A command whose help lists its options under headings, and its epilog as examples.

    It also takes parameters as ``mlflow run`` writes them; see `as_typed`.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the command's words."""
        flags = [param for param in self.params if getattr(param, "is_flag", False)]
        opposites = {flag.opts[0]: "".join(flag.secondary_opts) for flag in flags}
        return super().parse_args(ctx, as_typed(args, opposites))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options of each heading."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            if isinstance(param, click.Option) and (record := param.get_help_record(ctx)):
                heading = getattr(param, "section", CliOption.section)
                sections.setdefault(heading, []).append(record)
        for heading, records in sections.items():
            with formatter.section(heading):
                formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples, each on a line of its own."""
        if self.epilog:
            with formatter.section("Examples"):
                formatter.write_text("\b\n" + cleandoc(self.epilog))


def command(
    name: str, *params: click.Parameter, examples: str = ""
) -> Callable[[Callable[..., int]], CliCommand]:
    """Make a command of a function, whose docstring is the help."""
    return click.command(name, CliCommand, params=list(params), epilog=examples)


def as_typed(words: Sequence[str], opposites: Mapping[str, str]) -> list[str]:
    """Rewrite parameters of ``mlflow run`` as a person types them.

    MLflow writes each parameter as ``--a_name value``. Underscores become hyphens; a flag loses
    its value, or becomes its opposite if that is false; an option with an empty value is left out.

    Parameters
    ----------
    words
        What follows the command's name.
    opposites
        For each flag the option that negates it; empty if there is none.
    """
    waiting, typed = list(words), []
    while waiting:
        word = waiting.pop(0)
        if word.startswith("--"):
            name, equals, value = word.partition("=")
            word = name.replace("_", "-") + equals + value
            following = waiting[0].lower() if waiting and not equals else None
            if following == "":
                word = waiting.pop(0)
            elif word in opposites and following in _BOOLEANS:
                waiting.pop(0)
                word = word if _BOOLEANS[following] else opposites[word]
            if not word:
                continue
        typed.append(word)
    return typed


def labels_option() -> CliOption:
    """Return the option for the labels of recordings."""
    return CliOption("--labels", "CSV file or headers; see `ecg-mlflow data -h`.", RECORDINGS)


def reading_options() -> tuple[CliOption, CliOption]:
    """Return the options for what is read of each recording."""
    return (
        CliOption("--leads", "Only these leads of each recording, such as II,V5."),
        CliOption(
            "--gaps",
            "What becomes of missing samples: refuse (the default) makes a bad record, "
            "interpolate:0.5 draws a line over gaps of at most 0.5 s, avoid:10 takes the stretches "
            "between gaps that last 10 s or more as records of one patient.",
        ),
    )


def output_option(meaning: str) -> CliOption:
    """Return the option for the place that a command writes to."""
    return CliOption("--output -o", meaning, FILE)


def trust_option() -> CliOption:
    """Return the flag by which code that comes from the store may run."""
    return CliOption(
        "--trust-code",
        "Run code that the store names or holds (a study's grid file, functions in its pipeline, "
        "a model's files), although this machine has not run it before.",
        is_flag=True,
    )


#: Which run of a study is meant.
WINNER = section(
    "Model",
    CliOption("--run run_id", "Id of a child run. Default: the study's winner."),
    CliOption(
        "--rule",
        "What makes the winner: the highest lower bound of the interval, the highest mean, or the "
        "smallest of the networks that are not significantly different from the best.",
        click.Choice(["lower_bound", "mean", "smallest"]),
        default="lower_bound",
    ),
)
#: How configurations are compared.
STATISTICS = section(
    "Statistics",
    CliOption(
        "--metric",
        "Metric of record-level predictions, such as roc_auc. Default: f1, or f1_macro where a "
        "record may have several classes.",
        default="",
        show_default=False,
    ),
    CliOption("--level", "Confidence of the intervals.", PROBABILITY, default=0.95),
    CliOption("--resamples", "Resamples of the bootstrap.", POSITIVE, default=2000),
    CliOption("--seed", "Seed of the bootstrap.", COUNT, default=0),
)
#: Where the recordings of an earlier study are.
MOVED_DATA = section(
    "Data",
    CliOption("--data", "Where the study's recordings are now, if they moved.", RECORDINGS),
    CliOption("--labels", "Where their labels are now.", RECORDINGS),
)
#: What a command needs to find a study's winner and its recordings.
STUDY_OPTIONS = (*WINNER, *STATISTICS, *MOVED_DATA)


def study_options(given: dict[str, Any]) -> dict[str, Any]:
    """Take the values of `STUDY_OPTIONS` out of a command's; return them as its arguments."""
    from ecg_mlflow.reports.study_corpus import DataLocation
    from ecg_mlflow.reports.study_results import ComparisonOptions

    compared = {name: given.pop(name) for name in ("metric", "level", "resamples", "seed", "rule")}
    return {
        "options": ComparisonOptions(**compared),
        "location": DataLocation(given.pop("data"), given.pop("labels")),
        "run_id": given.pop("run_id"),
    }
