"""A study's results as a DataFrame."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ecg_mlflow.errors import ResultsError
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.stored_run import STATUSES, StoredRun
from ecg_mlflow.tracking.stored_study import StoredStudy, read_study
from ecg_mlflow.tracking.trace import LOSS, RunTrace, read_traces

#: Columns of every frame beside options and metrics.
COLUMNS = ("config", "repetition", "run", "status", "iteration")
#: Metrics that are no curves; `final` has them, and whoever names them.
_NO_CURVES = ("system/", "trainable_parameters")


def load_results(
    study: str,
    tracking_uri: str | None = None,
    *,
    metrics: Iterable[str] | None = None,
    every: int = 1,
    final: bool = False,
    status: str | Iterable[str] | None = None,
) -> pd.DataFrame:
    """Return a study's results as a table.

    Parameters
    ----------
    study
        Its parent run's id, six or more characters of the id's beginning, its name, or the name of
        the study.
    tracking_uri
        Its store; by default that of ``MLFLOW_TRACKING_URI``, else ``mlflow.db``.
    metrics
        Which metrics; by default all, but the figures of the machine (``system/...``) and
        ``trainable_parameters``, which are no curves, only with `final`. Without ``loss``
        there are rows for those iterations alone at which one of the others was found.
    every
        Take one iteration in so many: with 100, iterations 99, 199, ... Those after which a test
        was made are always among them.
    final
        One row for each run, with the last value of each metric, instead of one for each iteration.
        It takes a second where curves take longer.
    status
        Only runs with this status, or one of these: ``FINISHED``, ``PRUNED``, ``RUNNING``,
        ``FAILED``, ``KILLED``.

    Returns
    -------
    pandas.DataFrame
        In order of configuration, repetition and iteration, with the columns

        - each option by its name, as a categorical in the grid's order. Its values are numbers
          where all of the option's aliases are, and the aliases otherwise; missing where the
          configuration has no such option. An option that is named like another column is
          ``option_NAME``;
        - ``config``, the configuration's index; ``repetition``; ``run``, the run's id; ``status``;
        - ``iteration``, from 0, not with `final`;
        - each metric. ``loss`` is float32, as it was computed, and the others are float64, NaN at
          iterations without a test.

        Runs that were taken over from other studies are among them, and those that were pruned,
        failed or still run.

    Raises
    ------
    TrackingError
        If there is no such study, or several; the message lists them. Or the store fails.
    ResultsError
        If there is no such metric or status, or `every` is no number of iterations.

    Examples
    --------
    The mean over repetitions of each test, a line for each layout::

        frame = load_results("resnet", metrics=["test_f1"])
        frame.groupby(["layout", "iteration"])["test_f1"].mean().unstack("layout").plot()

    As an array with a dimension for each option::

        frame.set_index(["layout", "filters", "repetition", "iteration"]).to_xarray()
    """
    if not isinstance(every, int | np.integer) or every < 1:
        raise ResultsError(f"every={every!r} is no number of iterations: give 1, 2, 3, ...")
    if final and every != 1:
        raise ResultsError(
            f"final=True takes one row of each run, and every={every} one of so many iterations: "
            "give one of them"
        )
    client = connect(tracking_uri)
    found = read_study(client, study)
    runs = _chosen(found, status)
    names = _metric_names(found, metrics, final)
    frame = _run_frame(found, runs)
    if not final:
        return _with_curves(frame, read_traces(client, runs, names), names, every)
    for name in names:
        frame[name] = np.array([run.metrics.get(name, math.nan) for run in runs], _dtype(name))
    return frame


def _chosen(found: StoredStudy, status: str | Iterable[str] | None) -> list[StoredRun]:
    if status is None:
        return list(found.runs)
    wanted = [status] if isinstance(status, str) else list(status)
    for one in wanted:
        if one not in STATUSES:
            raise ResultsError(f"status={one!r} is none that a run has: {', '.join(STATUSES)}")
    return [run for run in found.runs if run.shown_status in wanted]


def _metric_names(found: StoredStudy, metrics: Iterable[str] | None, final: bool) -> list[str]:
    """Return the names of the metrics that are wanted, the loss first."""
    known = sorted({name for run in found.runs for name in run.metrics})
    known.sort(key=lambda name: name != LOSS)
    if metrics is None:
        return [name for name in known if final or not name.startswith(_NO_CURVES)]
    wanted = [metrics] if isinstance(metrics, str) else list(dict.fromkeys(metrics))
    for name in wanted:
        if name not in known:
            raise ResultsError(
                f"metrics={name!r} is none of study {found.name} ({found.run_id}), which has "
                + (", ".join(known) or "none yet")
            )
    return wanted


def _with_curves(
    runs: pd.DataFrame, traces: Sequence[RunTrace], names: Sequence[str], every: int
) -> pd.DataFrame:
    """Repeat each run's row for its iterations, and add these and the metrics."""
    rows = [_iterations(trace, every) for trace in traces]
    lengths = [len(one) for one in rows]
    frame = runs.iloc[np.repeat(np.arange(len(runs)), lengths)].reset_index(drop=True)
    columns = {name: np.full(len(frame), np.nan, _dtype(name)) for name in names}
    ends = np.cumsum(lengths, dtype=np.int64)
    for trace, iterations, end in zip(traces, rows, ends.tolist(), strict=True):
        begin = end - len(iterations)
        if len(trace.losses):
            there = iterations[: np.searchsorted(iterations, len(trace.losses))]
            columns[LOSS][begin : begin + len(there)] = trace.losses[there]
        places = begin + np.searchsorted(iterations, trace.iterations)
        for name, values in trace.metrics.items():
            columns[name][places] = values
    iterations = np.concatenate([np.empty(0, np.int32), *rows])
    whole: dict[Any, Any] = {**dict(frame.items()), "iteration": iterations, **columns}
    return pd.DataFrame(whole, copy=False)


def _iterations(trace: RunTrace, every: int) -> npt.NDArray[np.int32]:
    """Return the iterations that get a row: one in `every`, and those of tests."""
    n = len(trace.losses)
    wanted = np.zeros(max(n, int(trace.iterations.max(initial=-1)) + 1), np.bool_)
    wanted[every - 1 : n : every] = True
    wanted[trace.iterations] = True
    return np.flatnonzero(wanted).astype(np.int32)


def _dtype(metric: str) -> type[np.floating[Any]]:
    return np.float32 if metric == LOSS else np.float64


def _run_frame(found: StoredStudy, runs: Sequence[StoredRun]) -> pd.DataFrame:
    """Return the columns that have one value for each run.

    Options and texts are categoricals: options in the grid's order, numbers in rising order where a
    sampler chooses them.
    """
    columns: dict[str, Any] = {}
    metrics = {name for run in found.runs for name in run.metrics}
    for name, aliases in _option_values(found).items():
        numbers = _as_numbers(aliases)
        known: Mapping[str, object] = dict(zip(aliases, numbers or aliases, strict=True))
        categories: Any = numbers or aliases
        if numbers and not found.planned:
            categories = sorted(numbers)
        column = f"option_{name}" if name in COLUMNS or name in metrics else name
        values: Any = [known.get(run.options.get(name, "")) for run in runs]
        columns[column] = pd.Categorical(values, categories)
    for name in ("config", "repetition"):
        columns[name] = np.array([getattr(run, name) for run in runs], np.int32)
    run_ids = [run.run_id for run in runs]
    columns["run"] = pd.Categorical(run_ids, run_ids)
    columns["status"] = pd.Categorical([run.shown_status for run in runs], STATUSES)
    return pd.DataFrame(columns)


def _option_values(found: StoredStudy) -> dict[str, list[str]]:
    """Return the aliases of each option's values: planned ones in the grid's order, then others."""
    values: dict[str, dict[str, None]] = {}
    for options in (*found.planned, *(run.options for run in found.runs)):
        for name, alias in options.items():
            values.setdefault(name, {})[alias] = None
    return {name: list(aliases) for name, aliases in values.items()}


def _as_numbers(aliases: Sequence[str]) -> list[Any] | None:
    """Return the numbers that aliases spell; None where one is none, or two are the same."""
    numbers = pd.to_numeric(pd.Series(aliases, dtype=object), errors="coerce")
    is_plain = bool(np.isfinite(numbers).all()) and numbers.is_unique
    return numbers.tolist() if is_plain else None
