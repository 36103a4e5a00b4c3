"""The best configuration of a study as a grid file that can be run."""

from __future__ import annotations

from ecg_mlflow.study.trials import OpenTrial

_FOOTER = """

# --- The best configuration of a study -----------------------------------------------------------
# Above stands the study's grid file as it was; below, the part of its grid that was best:
# {why}

from dataclasses import replace as _replace

research = _replace(
    research,
    grid=research.grid.only({options!r}),
    name={name!r},
    update_grid=None,
)
"""


def best_grid_file(source: str, trial: OpenTrial, study: str, why: str) -> str:
    """Write a grid file for a trial's configuration.

    The options' values may be anything that a grid file can say, functions too, so it is the
    study's own file, followed by a choice among its options.

    Parameters
    ----------
    source
        Text of the study's grid file.
    trial
        The best one.
    study
        Name of the study.
    why
        What it has reached, in words.
    """
    options = trial.options()
    text = _FOOTER.format(options=options, name=f"{study} best", why=why.replace("\n", " "))
    return source.rstrip() + text
