"""The parent run of a study and the child runs under it, all opened and closed by the driver."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from urllib.parse import quote, urlencode

import pandas as pd
from mlflow import MlflowClient
from mlflow.entities import Metric, Run
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils import mlflow_tags

from ecg_mlflow.errors import RunGoneError, TrackingError
from ecg_mlflow.provenance import (
    DEVICE_TAGS,
    HEARTBEAT_S,
    HEARTBEAT_TAG,
    MACHINE_TAGS,
    ProcessMark,
    cluster_tags,
    heartbeat,
    version_tags,
)
from ecg_mlflow.tracking.retry import RetryPolicy, store_errors
from ecg_mlflow.tracking.run_data import (
    TAG_LIMIT,
    as_columns,
    csv_text,
    fitting_tags,
    log_new_params,
    log_params,
    log_tags,
)
from ecg_mlflow.tracking.runs import (
    ENDED,
    EndStatus,
    check_running,
    continue_run,
    end_run,
    find_or_create_experiment,
    reopen_run,
)

LEADERBOARD = "leaderboard"
#: Identifies one request to create a run, so that a lost answer makes no second run.
ORDER_TAG = "ecg_mlflow.order"
#: Names a run's configuration: what the UI groups by has room for a word or two, and for no table
#: of options.
CONFIGURATION_TAG = "ecg_mlflow.configuration"
#: Before the name of a shared view, in an experiment's tags.
VIEW_TAG = "mlflow.sharedViewState."
#: The UI's two halves are for language models and for everything else.
_WORKFLOW = "workflowType=machine_learning"
#: Runs that the UI reads at once.
PAGE = 100


class Study:
    """A parent run and its children: the process that opens it closes all of them.

    Use `Study.open` as a context manager. On leaving, runs that are still open end too: FINISHED
    for the parent after a normal end, FAILED after an error, KILLED after Ctrl-C or a signal.

    Attributes
    ----------
    client, experiment_id, run_id
        Where the parent run is.
    retry
        What the client does while the store is away.
    """

    def __init__(
        self, client: MlflowClient, run: Run, context: Mapping[str, str], retry: RetryPolicy
    ) -> None:
        self.client = retry.client(client)
        self.retry = retry
        self.experiment_id: str = run.info.experiment_id
        self.run_id: str = run.info.run_id
        self._started_ms: int = run.info.start_time or _now_ms()
        self._context = dict(context)
        self._open_children: dict[str, None] = {}
        self._closed = False
        self._view: dict[str, object] = {}
        self._beaten = time.monotonic()

    @classmethod
    def open(
        cls,
        client: MlflowClient,
        experiment: str,
        name: str,
        *,
        run_id: str | None = None,
        tags: Mapping[str, object] | None = None,
        retry: RetryPolicy | None = None,
    ) -> Study:
        """Create the parent run, or reopen the one that ``mlflow run`` created.

        The run carries the mark of this process and, while the study is open and `beat` is
        called, a heartbeat.

        Parameters
        ----------
        client
            The store.
        experiment
            Name of the experiment, made where there is none; not looked at with `run_id`, whose
            own experiment counts.
        name
            Name of the parent run. A name that the user chose with ``--run-name`` stays.
        run_id
            The run to reopen (MLFLOW_RUN_ID of an MLproject entry point).
        tags
            More tags for the parent.
        retry
            What to do while the store is away; by default raise at once.

        Raises
        ------
        TrackingError
            The experiment or run was deleted, there is no such run, or the store fails.
        """
        # Where the package is not installed but run from its project's folder, MLflow doesn't find
        # its run context.
        own = {**cluster_tags(os.environ), **version_tags()}
        # It may run git, which takes a quarter of a second: once, not for each child.
        context = {**own, **resolve_tags()}
        # The driver trains nothing; its workers log the devices that they use.
        context = {key: tag for key, tag in context.items() if key not in DEVICE_TAGS}
        all_tags = {**fitting_tags(tags or {}), **ProcessMark.own().tags(), **heartbeat()}
        retry = retry or RetryPolicy(limit_s=0.0)
        store = retry.client(client)
        if run_id is None:
            experiment_id = find_or_create_experiment(store, experiment)
            run = store.create_run(experiment_id, tags={**context, **all_tags}, run_name=name)
        else:
            run = continue_run(store, run_id, name, context, all_tags)
        # Children are the parent's: "mlflow run" knows project, commit and user better.
        inherited = {
            key: value
            for key, value in run.data.tags.items()
            if key.startswith(("mlflow.source.", "mlflow.project.")) or key == "mlflow.user"
        }
        elsewhere = {key: tag for key, tag in context.items() if key not in MACHINE_TAGS}
        return cls(client, run, {**elsewhere, **inherited}, retry)

    def create_child(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, object] | None = None,
    ) -> str:
        """Open a child run and return its id; `finish_child` or `close` ends it.

        Exactly one: where the store's answer is lost, the run is looked for before another one
        is made.

        Raises
        ------
        TrackingError
            The store fails; no run stays open then.
        """
        # With the run, not after it: a driver that dies in between leaves no child without the
        # tags by which it is found again.
        all_tags = {
            **self._context,
            **fitting_tags(tags or {}),
            mlflow_tags.MLFLOW_PARENT_RUN_ID: self.run_id,
            ORDER_TAG: uuid.uuid4().hex,
        }
        run_id = self.retry.call(self._create_once, name, all_tags)
        self._open_children[run_id] = None
        try:
            log_params(self.client, run_id, params)
        except TrackingError as error:
            self.finish_child(run_id, EndStatus.FAILED, str(error))
            raise
        return run_id

    def _create_once(self, name: str, tags: Mapping[str, str]) -> str:
        query = f"tags.`{ORDER_TAG}` = '{tags[ORDER_TAG]}'"
        found = self.client.search_runs([self.experiment_id], query, max_results=1)
        run = found[0] if found else None
        if run is None:
            run = self.client.create_run(self.experiment_id, tags=dict(tags), run_name=name)
        run_id: str = run.info.run_id
        return run_id

    def reopen_child(self, run_id: str, params: Mapping[str, object]) -> None:
        """Reopen a child run that ended, or whose process died, without being finished.

        The driver that created it may have died before it had logged all params: those that are
        not there are logged. The others stay, for a number in a grid that has grown may be another.
        """
        reopen_run(self.client, run_id)
        self._open_children[run_id] = None
        log_new_params(self.client, run_id, params)

    def tag_child(self, run_id: str, tags: Mapping[str, object]) -> None:
        """Set tags of a child."""
        log_tags(self.client, run_id, tags)

    def beat(self) -> None:
        """Renew the heartbeat where it is due; before that it costs nothing.

        Raises
        ------
        RunGoneError
            The parent run was deleted, or ended by anybody else.
        """
        now = time.monotonic()
        if now - self._beaten >= HEARTBEAT_S:
            self._beaten = now
            check_running(self.client, self.run_id)
            log_tags(self.client, self.run_id, heartbeat())

    def finish_child(self, run_id: str, status: str, reason: str | None = None) -> None:
        """End a child run.

        Parameters
        ----------
        run_id
            From `create_child`.
        status
            FINISHED, FAILED or KILLED.
        reason
            Why it did not finish; the tag ``ecg_mlflow.reason``.
        """
        end_run(self.client, run_id, status, reason)
        self._open_children.pop(run_id, None)

    def forget_child(self, run_id: str) -> None:
        """Leave a child as it is that was deleted, or ended by anybody else."""
        self._open_children.pop(run_id, None)

    def progress(self, values: Mapping[str, float]) -> None:
        """Log live metrics of the study, such as ``runs_done``.

        The step is the number of seconds since the parent run began: it grows, in a study that is
        continued too.
        """
        now = _now_ms()
        step = max(0, (now - self._started_ms) // 1000)
        metrics = [Metric(key, float(value), now, step) for key, value in values.items()]
        with store_errors(f"log the progress of run {self.run_id}"):
            self.client.log_batch(self.run_id, metrics=metrics)

    def leaderboard(self, rows: Sequence[Mapping[str, object]]) -> None:
        """Write the leaderboard as CSV and as an MLflow table, in place of the last one.

        Parameters
        ----------
        rows
            In the order to show, for example from `study.status.leaderboard`.
        """
        columns = as_columns(rows)
        frame = pd.DataFrame(columns, dtype=object)
        # Not log_table: it appends to the table that is there.
        table = frame.to_json(orient="split", index=False, double_precision=15)
        self.client.log_text(self.run_id, csv_text(columns), f"{LEADERBOARD}.csv")
        self.client.log_text(self.run_id, table, f"{LEADERBOARD}.json")
        logged = [{"path": f"{LEADERBOARD}.json", "type": "table"}]
        tags = {mlflow_tags.MLFLOW_LOGGED_ARTIFACTS: json.dumps(logged)}
        log_tags(self.client, self.run_id, tags)

    def describe(
        self,
        markdown: str,
        metric: str,
        *,
        higher_is_better: bool = True,
        n_runs: int = 0,
    ) -> None:
        """Write the parent's description, under the links to its runs, since the UI folds it.

        Parameters
        ----------
        markdown
            Cut where MLflow's limit for a tag demands it; the links always stay.
        metric, higher_is_better
            What the linked list of children is ordered by, best first.
        n_runs
            How many children there will be, for the charts in which repetitions are averaged.
        """
        query = f"tags.{mlflow_tags.MLFLOW_PARENT_RUN_ID} = '{self.run_id}'"
        view = _averages_view(query, metric, n_runs, higher_is_better=higher_is_better)
        # The UI shows no charts for children that are folded under their parent. Its address is
        # not known here, so links are relative.
        flat = urlencode(
            {
                "searchFilter": query,
                "orderByKey": f"metrics.`{metric}`",
                "orderByAsc": "false" if higher_is_better else "true",
            },
            quote_via=quote,
            safe="",
        )
        page = f"#/experiments/{self.experiment_id}/runs?"
        charts = f"&compareRunsMode=CHART&{_WORKFLOW}"
        link = (
            f"[All runs of this study with charts]({page}{flat}{charts}) | "
            f"[Averages over repetitions]({page}viewStateShareKey={self.run_id}{charts})\n\n"
        )
        room = TAG_LIMIT - len(link)
        text = markdown if len(markdown) <= room else f"{markdown[: room - 4]} ..."
        if view != self._view:
            self.client.set_experiment_tag(
                self.experiment_id, f"{VIEW_TAG}{self.run_id}", json.dumps(view)
            )
            self._view = view
        self.client.set_tag(self.run_id, mlflow_tags.MLFLOW_RUN_NOTE, link + text)

    def close(self, status: str = EndStatus.FINISHED, reason: str | None = None) -> None:
        """End the parent, and as KILLED the children that are still open; once.

        Raises
        ------
        TrackingError
            A run could not be ended; the others were.
        """
        if self._closed:
            return
        self._closed = True
        with suppress(TrackingError):  # the ends of runs are what counts
            log_tags(self.client, self.run_id, {HEARTBEAT_TAG: ENDED})
        why = reason or "the study ended before this run did"
        ends = [(run_id, EndStatus.KILLED, why) for run_id in self._open_children]
        self._open_children.clear()
        failures: list[str] = []
        for run_id, how, text in [*ends, (self.run_id, status, reason)]:
            try:
                end_run(self.client, run_id, how, text)
            except RunGoneError:  # nothing is left to be ended
                continue
            except TrackingError as error:
                failures.append(str(error))
        if failures:
            raise TrackingError(
                f"{len(failures)} run(s) could not be ended and still look RUNNING:\n"
                + "\n".join(failures)
            )

    def __enter__(self) -> Study:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None:
            self.close()
            return
        # Ctrl-C, SystemExit from a signal handler: not the study's fault.
        status = EndStatus.FAILED if isinstance(error, Exception) else EndStatus.KILLED
        try:
            self.close(status, f"{type(error).__name__}: {error}".rstrip(": "))
        except TrackingError as closing:
            error.add_note(str(closing))


def _averages_view(
    query: str, metric: str, n_runs: int, *, higher_is_better: bool
) -> dict[str, object]:
    """Return the view in which repetitions are one line, as MLflow 3.17 reads it.

    The UI averages the runs that it has read: of more than a page, the best ones would be too
    good. They are read by configuration then.
    """
    by_metric = n_runs <= PAGE
    keys = [{"mode": "tag", "groupByData": CONFIGURATION_TAG}]
    return {
        "searchFilter": query,
        "orderByKey": f"metrics.`{metric}`" if by_metric else f"tags.`{CONFIGURATION_TAG}`",
        "orderByAsc": not (by_metric and higher_is_better),
        "groupBy": {"aggregateFunction": "average", "groupByKeys": keys},
        "useGroupedValuesInCharts": True,
        "chartsSearchFilter": f"^(loss|{metric})$",
    }


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
