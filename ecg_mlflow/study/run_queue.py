"""Queue the runs that wait for a worker; choose which of them share a process."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from ecg_mlflow.study.plan import PlannedRun


@dataclass
class OpenRun:
    """A planned run that has not ended yet, and what has happened to it.

    Attributes
    ----------
    run
        The plan of it.
    run_id
        The child run; None until it is opened.
    attempt
        How often it was started or continued.
    saved
        The iteration of its last checkpoint that this driver has heard of.
    deaths
        How often processes died under it since it has last got further.
    alone
        It is to be tried without others in its process.
    exclusive
        ... and without other processes on its device: memory may have been at its end.
    is_open
        This driver has created the child run, or continues it.
    pruned
        Why others are preferred, once its process was told to give it up.
    """

    run: PlannedRun
    run_id: str | None = None
    attempt: int = 0
    saved: int = 0
    deaths: int = 0
    alone: bool = False
    exclusive: bool = False
    is_open: bool = False
    pruned: str | None = None


class RunQueue(deque[OpenRun]):
    """Runs in the order in which they are handed out.

    Parameters
    ----------
    branches
        How many may share a process and a stream of batches.
    """

    def __init__(self, branches: int = 1) -> None:
        super().__init__()
        self._branches = branches

    def take(self, key: str) -> OpenRun | None:
        """Take a run out, wherever it stands; None if it is not there."""
        found = next((one for one in self if one.run.key == key), None)
        if found is not None:
            self.remove(found)
        return found

    def take_group(self, n_slots: int) -> list[OpenRun]:
        """Take the next run, and those behind it that can share its stream of batches.

        No more than leaves each of the slots its share.
        """
        first = self.popleft()
        group = [first]
        share = -(-(len(self) + 1) // n_slots)
        most = 1 if first.alone else min(self._branches, share)
        for other in list(self):
            if len(group) == most:
                break
            if (
                not other.alone
                and other.run.repetition == first.run.repetition
                and other.run.config.stream == first.run.config.stream
            ):
                self.remove(other)
                group.append(other)
        return group
