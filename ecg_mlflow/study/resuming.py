"""What is left to do of a study: its plan held against the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum

from ecg_mlflow.study.plan import PlannedRun
from ecg_mlflow.tracking.stored_run import StoredRun


class Action(Enum):
    """What to do about a planned run."""

    START = "start"
    """Nothing is there: a new child run."""
    CONTINUE = "continue"
    """A run was interrupted, or its processes died: it goes on in its own curves."""
    REPLACE = "replace"
    """A run failed by an error of its own, and shall be tried again: a new child run."""
    SKIP = "skip"
    """It is finished."""
    REUSE = "reuse"
    """A run of an earlier study is finished and has the same identity."""
    LEAVE = "leave"
    """It failed, and nobody wants it tried again."""
    PRUNED = "pruned"
    """Others were better: it is not gone on with."""


@dataclass(frozen=True)
class Standing:
    """A planned run, what is to be done about it, and the run of the ledger that says so."""

    run: PlannedRun
    action: Action
    entry: StoredRun | None = None


class Stock:
    """What the ledger has of a study, to hold planned runs against.

    Parameters
    ----------
    entries
        The study's children so far, the oldest first.
    reusable
        Finished runs of other studies, by identity.
    retry_failed
        Try failed runs again.
    """

    def __init__(
        self,
        entries: Iterable[StoredRun] = (),
        reusable: Mapping[str, StoredRun] | None = None,
        *,
        retry_failed: bool = False,
    ) -> None:
        self.entries = list(entries)
        self._reusable = reusable or {}
        self._retry_failed = retry_failed
        self._by_identity: dict[str, list[StoredRun]] = {}
        for entry in self.entries:
            self._by_identity.setdefault(entry.identity, []).append(entry)

    @property
    def identities(self) -> set[str]:
        """What the study's children so far have trained."""
        return set(self._by_identity)

    def standing(self, run: PlannedRun) -> Standing:
        """Say what is to be done about a planned run."""
        entries = self._by_identity.get(run.identity, [])
        return _standing(run, entries, self._reusable.get(run.identity), self._retry_failed)


def _standing(
    run: PlannedRun,
    entries: Sequence[StoredRun],
    reusable: StoredRun | None,
    retry_failed: bool,
) -> Standing:
    for entry in entries:
        if entry.is_finished:
            return Standing(run, Action.SKIP, entry)
    current = [entry for entry in entries if not entry.is_replaced]
    if current and current[-1].is_pruned:
        return Standing(run, Action.PRUNED, current[-1])
    if reusable is not None:
        return Standing(run, Action.REUSE, reusable)
    if not current:
        return Standing(run, Action.START)
    entry = current[-1]
    if entry.status != "FAILED":
        return Standing(run, Action.CONTINUE, entry)
    if not retry_failed:
        return Standing(run, Action.LEAVE, entry)
    return Standing(run, Action.CONTINUE if entry.has_died else Action.REPLACE, entry)


def summary(standings: Sequence[Standing]) -> str | None:
    """Say in a line what was found of a study; None if nothing was."""
    n = Counter(standing.action for standing in standings)
    words = (
        (n[Action.SKIP], "finished"),
        (n[Action.REUSE], "taken over from other studies"),
        (n[Action.CONTINUE], "to go on with"),
        (n[Action.LEAVE], "failed and left so"),
        (n[Action.PRUNED], "pruned"),
        (n[Action.START] + n[Action.REPLACE], "to begin"),
    )
    if n[Action.START] == len(standings):
        return None
    return f"of {len(standings)} runs: " + ", ".join(f"{k} {word}" for k, word in words if k)


def superfluous(standings: Sequence[Standing], entries: Iterable[StoredRun]) -> list[StoredRun]:
    """List the runs that look alive and that no planned run goes on with.

    They are of configurations that are no longer planned, or a second one of an identity that is
    finished or goes on in another.
    """
    going_on = (Action.CONTINUE, Action.PRUNED)
    kept = {s.entry.run_id for s in standings if s.entry and s.action in going_on}
    return [entry for entry in entries if entry.status == "RUNNING" and entry.run_id not in kept]
