"""Which job starts next and where: decided from the state of the slots, without acting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecg_mlflow.executors.base import Job

UNKNOWN = ""
"""The device of a slot whose worker has yet to start, where that is not for us to choose."""


@dataclass(frozen=True)
class SlotState:
    """What a slot is doing.

    Attributes
    ----------
    device
        What it runs on, or `UNKNOWN`.
    busy
        A job runs there, or its worker is ending.
    alone
        The job that keeps it busy is, or was, an exclusive one.
    warm
        An idle worker waits there.
    """

    device: str
    busy: bool = False
    alone: bool = False
    warm: bool = False


@dataclass(frozen=True)
class StartJob:
    """Start `job`, which has left the queue, in the slot of this number."""

    job: Job
    slot: int


@dataclass(frozen=True)
class EndIdle:
    """End the idle worker in the slot of this number, for it holds memory."""

    slot: int


class JobQueue:
    """The jobs that wait, in order, and the devices that are kept free for exclusive ones.

    1. The first job starts in the first free slot whose device is open.
    2. An exclusive job, once it is its turn, has a device kept free for it: the one with the
       fewest jobs at that time. Nothing new starts there. When its last job has ended, so do its
       idle workers, and then the exclusive job starts.
    3. Meanwhile the jobs behind it start on the other devices.

    A worker that starts on an unknown device may turn up on any. None does so while a device is
    kept, and an exclusive job waits for those on their way.

    Parameters
    ----------
    fresh
        Whether an exclusive job gets a new worker. It has to be a warm one where a new one could
        turn up on another device.
    """

    def __init__(self, fresh: bool = True) -> None:
        self._fresh = fresh
        self._jobs: dict[str, Job] = {}
        self._kept: dict[str, str] = {}  # the keys of exclusive jobs, and their devices

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Add a job at the end."""
        self._jobs[job.key] = job

    def remove(self, key: str) -> bool:
        """Take a job out, and say whether it was there."""
        self._kept.pop(key, None)
        return self._jobs.pop(key, None) is not None

    def clear(self) -> list[str]:
        """Take all jobs out, and return their keys."""
        keys = list(self._jobs)
        for key in keys:
            self.remove(key)
        return keys

    def count_free(self, slots: Sequence[SlotState]) -> int:
        """Return how many more jobs, none of them exclusive, would start if they came now."""
        closed = self._closed(slots)
        free = sum(not slot.busy and slot.device not in closed for slot in slots)
        return max(0, free - sum(not job.exclusive for job in self._jobs.values()))

    def next_step(self, slots: Sequence[SlotState]) -> StartJob | EndIdle | None:
        """Return what to do now; to be asked again, with new states, until there is nothing."""
        for job in self._jobs.values():
            if job.exclusive:
                if not self._keep_a_device(job, slots):
                    return None
                step = self._clear_or_start(job, slots)
            else:
                step = self._start_anywhere(job, slots)
                if step is None:
                    return None  # nor may the jobs behind it, which came later
            if step:
                return step
        return None

    def _closed(self, slots: Sequence[SlotState]) -> set[str]:
        """Return the devices where nothing but a certain exclusive job may start."""
        closed = {*self._kept.values(), *(slot.device for slot in slots if slot.alone)}
        return closed | {UNKNOWN} if closed else closed

    def _start_anywhere(self, job: Job, slots: Sequence[SlotState]) -> StartJob | None:
        closed = self._closed(slots)
        for index, slot in enumerate(slots):
            if not slot.busy and slot.device not in closed:
                return self._start(job, index)
        return None

    def _keep_a_device(self, job: Job, slots: Sequence[SlotState]) -> bool:
        """Keep a device free for an exclusive job, if any is open; say whether it has one."""
        if job.key not in self._kept:
            n_busy = dict.fromkeys((slot.device for slot in slots), 0)
            for slot in slots:
                n_busy[slot.device] += slot.busy
            if len(n_busy) > 1:
                n_busy.pop(UNKNOWN, None)
            closed = self._closed(slots)
            if not (open_ones := [device for device in n_busy if device not in closed]):
                return False
            self._kept[job.key] = min(open_ones, key=n_busy.__getitem__)
        return True

    def _clear_or_start(self, job: Job, slots: Sequence[SlotState]) -> StartJob | EndIdle | None:
        device = self._kept[job.key]
        there = [index for index, slot in enumerate(slots) if slot.device == device]
        if not there:  # its workers have died, and where the next ones will be is open
            del self._kept[job.key]
            return None
        if any(slot.busy for slot in slots if slot.device in (device, UNKNOWN)):
            return None
        warm = [index for index in there if slots[index].warm]
        for index in warm if self._fresh else warm[1:]:
            return EndIdle(index)
        return self._start(job, (warm or there)[0])

    def _start(self, job: Job, slot: int) -> StartJob:
        self.remove(job.key)
        return StartJob(job, slot)
