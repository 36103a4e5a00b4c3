"""The commands that report on studies: compare, errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ecg_mlflow.cli.environment import load_keras_quietly, open_store
from ecg_mlflow.cli.parameters import (
    PLACE,
    POSITIVE,
    STATISTICS,
    STUDY_OPTIONS,
    CliOption,
    command,
    output_option,
    study_options,
)

_OUTPUT = output_option("Write the report into this folder too.")


@command(
    "compare",
    click.Argument(["studies"], nargs=-1, required=True, metavar="STUDY..."),
    *STATISTICS,
    _OUTPUT,
)
def compare_command(studies: tuple[str, ...], output: Path | None, **statistics: Any) -> int:
    """Compare the configurations of studies, with intervals and tests.

    STUDY is the id of a study's parent run, the beginning of that id, or the study's name. The
    tests are corrected for the number of pairs.
    """
    from ecg_mlflow.reports.compare import compare_studies
    from ecg_mlflow.reports.options import ComparisonOptions

    print(compare_studies(open_store(), studies, ComparisonOptions(**statistics), output))
    return 0


@command(
    "errors",
    click.Argument(["study"]),
    *STUDY_OPTIONS,
    CliOption("--worst n_worst", "Errors that are drawn as strips.", POSITIVE, default=12),
    CliOption(
        "--groups groups_file",
        "CSV with the column record and others, such as age, sex or site. Default: the study's "
        "label file.",
        PLACE,
    ),
    _OUTPUT,
)
def errors_command(study: str, **given: Any) -> int:
    """Show a model's worst errors as ECG strips, and metrics by group.

    STUDY is the id of a study's parent run, the beginning of that id, or the study's name.
    """
    load_keras_quietly()
    from ecg_mlflow.reports.error_analysis import analyse_errors

    print(analyse_errors(open_store(), study, **study_options(given), **given))
    return 0
