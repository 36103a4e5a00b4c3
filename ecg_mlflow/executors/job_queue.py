"""Decide which job starts next and in which slot, from the states of the slots."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ecg_mlflow.executors.base import Job

UNKNOWN = ""
"""The device of a slot without a worker, if the cluster chooses the device."""


@dataclass(frozen=True)
class SlotState:
    """The state of a slot.

    Attributes
    ----------
    device
        Its device, or `UNKNOWN`.
    busy
        Whether a job runs there, or its worker is ending.
    alone
        Whether its current or last job is an exclusive one.
    warm
        Whether an idle worker waits there.
    """

    device: str
    busy: bool = False
    alone: bool = False
    warm: bool = False


@dataclass(frozen=True)
class StartJob:
    """Start `job`, which was removed from the queue, in the slot of this number."""

    job: Job
    slot: int


@dataclass(frozen=True)
class EndIdle:
    """End the idle worker in the slot of this number to free its memory."""

    slot: int


class JobQueue:
    """The waiting jobs, in order, and the devices that are reserved for exclusive ones.

    1. The first job starts in the first free slot whose device is not reserved.
    2. When an exclusive job is first, the device with the fewest jobs is reserved for it. No other
       job starts there. After its last job has ended, its idle workers are ended, and the
       exclusive job starts.
    3. Meanwhile the jobs behind it start on the other devices.

    A worker on an unknown device may start on any device. Therefore none is started while a device
    is reserved, and an exclusive job waits for workers that are still starting.

    Parameters
    ----------
    fresh
        Whether an exclusive job gets a new worker. False reuses an idle one, since a new one could
        start on another device.
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
        """Remove a job; return whether it was in the queue."""
        self._kept.pop(key, None)
        return self._jobs.pop(key, None) is not None

    def clear(self) -> list[str]:
        """Remove all jobs, and return their keys."""
        keys = list(self._jobs)
        for key in keys:
            self.remove(key)
        return keys

    def count_free(self, slots: Sequence[SlotState]) -> int:
        """Return how many more non-exclusive jobs would start if they were added now."""
        closed = self._closed(slots)
        free = sum(not slot.busy and slot.device not in closed for slot in slots)
        return max(0, free - sum(not job.exclusive for job in self._jobs.values()))

    def next_step(self, slots: Sequence[SlotState]) -> StartJob | EndIdle | None:
        """Return what to do now. Call it again with the new states until it returns None."""
        for job in self._jobs.values():
            if job.exclusive:
                if not self._keep_a_device(job, slots):
                    return None
                step = self._clear_or_start(job, slots)
            else:
                step = self._start_anywhere(job, slots)
                if step is None:
                    return None  # later jobs must wait too
            if step:
                return step
        return None

    def _closed(self, slots: Sequence[SlotState]) -> set[str]:
        """Return the devices that are reserved for an exclusive job or run one."""
        closed = {*self._kept.values(), *(slot.device for slot in slots if slot.alone)}
        return closed | {UNKNOWN} if closed else closed

    def _start_anywhere(self, job: Job, slots: Sequence[SlotState]) -> StartJob | None:
        closed = self._closed(slots)
        for index, slot in enumerate(slots):
            if not slot.busy and slot.device not in closed:
                return self._start(job, index)
        return None

    def _keep_a_device(self, job: Job, slots: Sequence[SlotState]) -> bool:
        """Reserve a device for an exclusive job if one is available; return whether it has one."""
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
        if not there:  # its workers have died, and the device of the next ones is unknown
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
