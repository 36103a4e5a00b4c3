"""The commands on the results of studies: compare, errors, promote, rollback, predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ecg_mlflow.cli.environment import load_keras_quietly, open_store, project_run
from ecg_mlflow.cli.parameters import (
    AMOUNT,
    PLACE,
    POSITIVE,
    RECORDINGS,
    STATISTICS,
    STUDY_OPTIONS,
    CliOption,
    command,
    output_option,
    section,
    study_options,
    trust_option,
)
from ecg_mlflow.terminal import say

_OUTPUT = output_option("Write the report into this folder too.")
_REGISTERED = (
    CliOption("--name", "Name of the registered model.", required=True),
    CliOption("--alias", "Alias to assign.", default="champion"),
)
_THRESHOLD = section(
    "Model",
    CliOption(
        "--threshold",
        "Rule that chooses the threshold on the validation records: f1, youden, sensitivity=0.95, "
        "specificity=0.95, or none for the most probable class.",
        default="f1",
    ),
)
_REQUIREMENTS = section(
    "Requirements",
    CliOption("--min-sensitivity", "For the lower bound of its interval.", AMOUNT),
    CliOption("--min-specificity", "For the lower bound of its interval.", AMOUNT),
    CliOption("--max-calibration-error", "For the expected calibration error.", AMOUNT),
    CliOption("--max-size-mb", "For the file of the network.", AMOUNT),
    CliOption("--max-ms-per-record", "For the time on this machine.", AMOUNT),
)


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
    from ecg_mlflow.reports.study_results import ComparisonOptions

    say(compare_studies(open_store(), studies, ComparisonOptions(**statistics), output))
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
        RECORDINGS,
    ),
    trust_option(),
    _OUTPUT,
)
def errors_command(study: str, **given: Any) -> int:
    """Show a model's worst errors as ECG strips, and metrics by group.

    STUDY is the id of a study's parent run, the beginning of that id, or the study's name.
    """
    load_keras_quietly()
    from ecg_mlflow.reports.error_analysis import analyse_errors

    say(analyse_errors(open_store(), study, **study_options(given), **given))
    return 0


@command(
    "promote",
    click.Argument(["study"]),
    *_THRESHOLD,
    *_REQUIREMENTS,
    *STUDY_OPTIONS,
    *_REGISTERED,
    trust_option(),
)
def promote_command(
    study: str, name: str, alias: str, threshold: str, trust_code: bool, **given: Any
) -> int:
    """Register a study's winner; assign the alias if it is better.

    STUDY is the id of a study's parent run, the beginning of that id, or the study's name. The
    winner gets the alias if it meets the requirements, and if no version has the alias or the
    winner is significantly better than the one that has it.
    """
    load_keras_quietly()
    from ecg_mlflow.serving.gate import PromotionRequest, Requirements
    from ecg_mlflow.serving.promote import promote

    asked = study_options(given)
    requirements = Requirements(**given)
    request = PromotionRequest(
        study,
        name,
        alias,
        requirements=requirements,
        threshold=threshold,
        trust_code=trust_code,
        **asked,
    )
    client = open_store()
    with project_run(client, f"promotion of {study}"):
        return promote(client, request)


@command("rollback", *_REGISTERED)
def rollback_command(name: str, alias: str) -> int:
    """Give an alias back to the version that had it before."""
    from ecg_mlflow.tracking.registry import rollback

    client = open_store()
    with project_run(client, f"rollback of {name}"):
        left, restored = rollback(client, name, alias)
    say(f"{alias} of {name} is {restored} again, and no longer {left}")
    return 0


@command(
    "predict",
    click.Argument(["model"]),
    click.Argument(["records"], nargs=-1, required=True, type=PLACE, metavar="RECORD..."),
    CliOption("--windows", "Add the probabilities of every window.", is_flag=True),
    trust_option(),
    output_option("CSV file. Default: the terminal."),
)
def predict_command(
    model: str, records: tuple[str, ...], windows: bool, trust_code: bool, output: Path | None
) -> int:
    """Classify recordings with a registered model, into a CSV.

    MODEL is a registered model, such as models:/af-resnet@champion. RECORD is a header, an EDF
    file, a folder of these, or a glob in quotes.
    """
    load_keras_quietly()
    from ecg_mlflow.serving.predict import predict_files

    return predict_files(
        model,
        records,
        output,
        with_windows=windows,
        client=open_store(),
        trust_code=trust_code,
    )
