"""Find a study in the store, and read its runs, however they have ended."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from ecg_mlflow.errors import RunGoneError, TrackingError
from ecg_mlflow.tracking.artifacts import parse_json, read_artifacts
from ecg_mlflow.tracking.client import NO_PROGRESS_BAR, environment
from ecg_mlflow.tracking.retry import store_errors
from ecg_mlflow.tracking.stored_run import (
    CORPUS_TAG,
    IDENTITY_TAG,
    PLAN_TAG,
    REQUEST_TAG,
    StoredRun,
)
from ecg_mlflow.tracking.trusted_code import file_hashes

PLAN = "design/plan.json"
#: The entry of the plan that has the SHA-256 of each file of the study's code.
CODE = "code"
CONFIGURATION = "configuration.json"
#: Runs of other studies that a study has taken over: their ids by identity.
REUSED = "design/reused.json"

#: Characters of a run's id that are enough to name a study.
LEAST_ID = 6
#: Studies that a message lists.
LISTED = 20
_PAGE = 1000
#: No part of a path begins with a point, so that none leads out of the folder.
_CODE_FILE = re.compile(r"(?:[^/\\\0.][^/\\\0]*/)*[^/\\\0.][^/\\\0]*\.py")


@dataclass(frozen=True, eq=False)
class StoredStudy(StoredRun):
    """A study's parent run; its runs and its plan are read when they are first asked for.

    Attributes
    ----------
    client, experiment_id
        Where it is.
    """

    client: MlflowClient = field(kw_only=True)
    experiment_id: str = ""

    @cached_property
    def finished(self) -> tuple[StoredRun, ...]:
        """Those of its `runs` that have finished, with all of their ``configuration.json``.

        Raises
        ------
        TrackingError
            If the store fails.
        """
        runs = [run for run in self.runs if run.is_finished]
        whole = _with_configurations(self.client, runs)
        return tuple(
            replace(one, configuration={**one.configuration, **run.configuration})
            for run, one in zip(runs, whole, strict=True)
        )

    @cached_property
    def runs(self) -> tuple[StoredRun, ...]:
        """All its runs with their options, by configuration and repetition, one of each.

        Of several that were begun it is the oldest finished one, or the last. The index of a
        configuration is this study's, also for runs that were taken over from other studies.

        Raises
        ------
        TrackingError
            If the store fails.
        """
        found: dict[str, StoredRun] = {}
        for child in read_children(self.client, self.experiment_id, self.run_id):
            if child.identity not in found or not found[child.identity].is_finished:
                found[child.identity] = child
        for identity, run in self._taken_over.items():
            if run is not None and not (identity in found and found[identity].is_finished):
                found[identity] = run
        known = {
            run["identity"]: {
                "options": run["config"],
                "config": int(run["key"].partition("-")[0]),
                "repetition": run["repetition"],
            }
            for run in self._planned_runs
        }
        indices = {frozenset(one["options"].items()): one["config"] for one in known.values()}
        unplanned = [run for run in found.values() if run.identity not in known]
        for run in _with_configurations(self.client, unplanned):
            known[run.identity] = {"options": run.options, "repetition": run.repetition}
            if run.study_id == self.run_id:  # another study counts its configurations differently
                indices[frozenset(run.options.items())] = run.config
        runs = []
        for run in found.values():
            one = known[run.identity]
            next_index = max(indices.values(), default=-1) + 1
            index = indices.setdefault(frozenset(one["options"].items()), next_index)
            runs.append(replace(run, configuration={**one, "config": index}))
        return tuple(sorted(runs, key=lambda run: (run.config, run.repetition)))

    @property
    def planned(self) -> tuple[Mapping[str, str], ...]:
        """The options of all planned runs, in the grid's order; empty where a sampler chooses."""
        return tuple(run["config"] for run in self._planned_runs)

    @property
    def _planned_runs(self) -> Sequence[Mapping[str, Any]]:
        runs: Sequence[Mapping[str, Any]] = self._json.get(PLAN, {}).get("runs", ())
        return runs

    @property
    def plan(self) -> Mapping[str, Any]:
        """Its ``design/plan.json``.

        Raises
        ------
        TrackingError
            If there is none, or the store fails.
        """
        if PLAN not in self._json:
            raise TrackingError(
                f"study {self.name} ({self.run_id}) has no {PLAN}: it was deleted, or the study "
                "never began"
            )
        return self._json[PLAN]

    @property
    def request(self) -> Mapping[str, Any]:
        """What it was asked for."""
        return parse_json(self.tags.get(REQUEST_TAG), f"the tag {REQUEST_TAG} of {self.run_id}")

    @cached_property
    def code(self) -> Mapping[str, bytes]:
        """Its grid file, and what that imports from beside it: contents by name, as data.

        Raises
        ------
        TrackingError
            If a file is missing, or a name is none of a file beside a grid file; or the store
            fails.
        """
        listed = self._listed_code
        if listed is None:
            return self._python_files()
        found = read_artifacts(
            self.client, [(self.artifact_uri, f"design/{one}") for one in listed]
        )
        files = {path.removeprefix("design/"): data for (_, path), data in found.items()}
        if missing := [name for name, data in files.items() if data is None]:
            raise TrackingError(
                f"study {self.run_id} has no design/{missing[0]} any more, which its plan names: "
                "it was deleted in the store"
            )
        return {name: data for name, data in files.items() if data is not None}

    @property
    def code_hashes(self) -> Mapping[str, str] | None:
        """The SHA-256 of each file of `code`, by name, in hexadecimal digits.

        None where the study has no plan, since it was killed before. Raises as `code` does.
        """
        if PLAN not in self._json:
            return None
        listed = self._listed_code
        if listed is not None:
            return listed
        return file_hashes(self.code)

    @property
    def _listed_code(self) -> Mapping[str, str] | None:
        """The plan's list of the study's files; None if it was begun before plans had one."""
        listed: Mapping[str, str] | None = self.plan.get(CODE)
        for name in listed or ():
            if not _CODE_FILE.fullmatch(name):
                raise TrackingError(
                    f"{PLAN} of study {self.run_id} names {name!r} as a file of the study's code, "
                    "which is no Python file below the grid file's folder: somebody has changed "
                    "the plan in the store"
                )
        return listed

    def _python_files(self) -> Mapping[str, bytes]:
        """Read all Python files beside the plan."""
        doing = f"fetch the code of study {self.run_id}"
        with (
            environment(**NO_PROGRESS_BAR),
            store_errors(doing),
            tempfile.TemporaryDirectory(prefix="ecg-mlflow-") as scratch,
        ):
            design = Path(self.client.download_artifacts(self.run_id, "design", scratch))
            return {
                path.relative_to(design).as_posix(): path.read_bytes()
                for path in sorted(design.rglob("*.py"))
            }

    @cached_property
    def _json(self) -> Mapping[str, Mapping[str, Any]]:
        """The content of those of its JSON files that there are."""
        wanted = [(self.artifact_uri, path) for path in (PLAN, REUSED)]
        files = read_artifacts(self.client, wanted)
        return {
            path: parse_json(data, f"{path} of study {self.run_id}")
            for (_, path), data in files.items()
            if data is not None
        }

    @property
    def n_lost(self) -> int:
        """How many runs of other studies it has taken over that are not in the store any more."""
        return sum(run is None for run in self._taken_over.values())

    @cached_property
    def _taken_over(self) -> Mapping[str, StoredRun | None]:
        """The runs of other studies whose results the study says it has taken over."""
        reused = self._json.get(REUSED, {})
        return {identity: self._reusable(identity, run_id) for identity, run_id in reused.items()}

    def _reusable(self, identity: str, run_id: str) -> StoredRun | None:
        """Read a run that was taken over; None if it is gone, or not the finished run it was."""
        try:
            with store_errors(f"read run {run_id}, which study {self.run_id} has taken over"):
                found = self.client.get_run(run_id)
        except RunGoneError:
            return None
        run = StoredRun.from_mlflow(found)
        is_deleted = found.info.lifecycle_stage != "active"
        is_other = run.identity != identity or not run.is_finished
        return None if is_deleted or is_other else run


def read_study(client: MlflowClient, name: str) -> StoredStudy:
    """Find a study.

    Parameters
    ----------
    client
        The store.
    name
        The parent run's id, six or more characters of its beginning, its name, or the name of the
        study.

    Raises
    ------
    TrackingError
        If there is no such study, or several; the message lists them. Or the store fails.
    """
    parent = _find_parent(client, name)
    return StoredStudy.from_mlflow(parent, client=client, experiment_id=parent.info.experiment_id)


def read_children(client: MlflowClient, experiment_id: str, parent_id: str) -> list[StoredRun]:
    """Return the children of a study that carry an identity, the oldest first.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    query = f"tags.`{MLFLOW_PARENT_RUN_ID}` = '{parent_id}'"
    with store_errors(f"read the runs of study {parent_id}"):
        runs = list(search_runs(client, [experiment_id], query))
    runs.sort(key=lambda run: run.info.start_time)
    return [StoredRun.from_mlflow(run) for run in runs if run.data.tags.get(IDENTITY_TAG)]


def find_finished(client: MlflowClient, corpus: str) -> dict[str, StoredRun]:
    """Return all finished runs on a corpus, of any study in the store, by identity.

    Of several with one identity the first counts.

    Parameters
    ----------
    client
        The store.
    corpus
        Value of `CORPUS_TAG`.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    query = f"attributes.status = 'FINISHED' AND tags.`{CORPUS_TAG}` = '{corpus}'"
    with store_errors("look for finished runs of earlier studies"):
        runs = list(search_runs(client, None, query))
    runs.sort(key=lambda run: -run.info.start_time)
    found = [StoredRun.from_mlflow(run) for run in runs if IDENTITY_TAG in run.data.tags]
    return {run.identity: run for run in found}


def search_runs(client: MlflowClient, experiments: list[str] | None, query: str) -> Iterator[Run]:
    """Yield all runs that a query finds in these experiments, or in all that are not deleted."""
    if experiments is None:
        experiments = [one.experiment_id for one in _all_pages(client.search_experiments)]
    yield from _all_pages(client.search_runs, experiments, query)


def _all_pages(search: Any, *args: Any) -> Iterator[Any]:
    token = None
    while True:
        page = search(*args, max_results=_PAGE, page_token=token)
        yield from page
        token = page.token
        if not token:
            return


def _with_configurations(client: MlflowClient, runs: Sequence[StoredRun]) -> list[StoredRun]:
    files = read_artifacts(client, [(run.artifact_uri, CONFIGURATION) for run in runs])
    return [
        replace(
            run,
            configuration=parse_json(
                files[run.artifact_uri, CONFIGURATION], f"{CONFIGURATION} of run {run.run_id}"
            ),
        )
        for run in runs
    ]


# --- Names ----------------------------------------------------------------------------------------


def _find_parent(client: MlflowClient, name: str) -> Run:
    if not name.strip():
        raise TrackingError(
            f"a study is given by its parent run's id, {LEAST_ID} or more characters of that, or "
            "its name; here the name is empty"
        )
    with store_errors(f"look for the study {name!r}", "Is MLFLOW_TRACKING_URI its store?"):
        studies = list(search_runs(client, None, f"tags.`{PLAN_TAG}` != ''"))
    studies.sort(key=lambda run: -run.info.start_time)
    found = [run for run in studies if run.info.run_id == name]
    found = found or [run for run in studies if _is_called(run, name)]
    if len(found) == 1:
        return found[0]
    if found:
        raise TrackingError(
            f"{len(found)} studies are called {name!r}; give the id of one:\n{_listed(found)}"
        )
    raise TrackingError(
        f"there is no study {name!r} in this store: give a parent run's id, {LEAST_ID} or more "
        "characters of its beginning, or the name of a study; is MLFLOW_TRACKING_URI right? There "
        f"are:\n{_listed(studies) or '  none'}"
    )


def _is_called(run: Run, name: str) -> bool:
    is_prefix = re.fullmatch(rf"[0-9a-f]{{{LEAST_ID},}}", name) is not None
    return name in (run.info.run_name, run.data.params.get("study")) or (
        is_prefix and run.info.run_id.startswith(name)
    )


def _listed(studies: Sequence[Run]) -> str:
    lines = []
    for run in studies[:LISTED]:
        began = datetime.fromtimestamp(run.info.start_time / 1000, UTC)
        lines.append(
            f"  {run.info.run_id}  {began:%Y-%m-%d %H:%M} UTC  {run.info.status:8}  "
            f"{run.info.run_name}"
        )
    if len(studies) > LISTED:
        lines.append(f"  ... and {len(studies) - LISTED} more")
    return "\n".join(lines)
