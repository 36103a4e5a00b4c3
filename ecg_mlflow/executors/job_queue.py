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
        Whether the job that runs or ends there is an exclusive one.
    warm
        Whether an idle worker waits there.
    """

    device: str
    busy: bool = False
    alone: bool = False
    warm: bool = False


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
        self._reserved: dict[str, str] = {}  # devices by the keys of exclusive jobs

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Add a job at the end."""
        self._jobs[job.key] = job

    def clear(self) -> list[str]:
        """Remove all jobs, and return their keys."""
        keys = list(self._jobs)
        self._jobs.clear()
        self._reserved.clear()
        return keys

    def count_free(self, slots: Sequence[SlotState]) -> int:
        """Return how many more non-exclusive jobs would start if they were added now."""
        n_waiting = sum(not job.exclusive for job in self._jobs.values())
        return max(0, len(self._open_slots(slots)) - n_waiting)

    def next_step(self, slots: Sequence[SlotState]) -> tuple[int, Job | None] | None:
        """Return what to do now. Call it again with the new states until it returns None.

        Returns
        -------
        A slot, and the job to start there, which leaves the queue; or None in place of the job: end
        the idle worker there to free its memory.
        """
        for job in self._jobs.values():
            if not job.exclusive:
                if not (free := self._open_slots(slots)):
                    return None  # later jobs must wait too
                return self._start(job, free[0])
            if not self._reserve(job, slots):
                return None
            if step := self._clear_or_start(job, slots):
                return step
        return None

    def _closed(self, slots: Sequence[SlotState]) -> set[str]:
        """Return the devices that are reserved for an exclusive job or run one."""
        closed = {*self._reserved.values(), *(slot.device for slot in slots if slot.alone)}
        return closed | {UNKNOWN} if closed else closed

    def _open_slots(self, slots: Sequence[SlotState]) -> list[int]:
        closed = self._closed(slots)
        return [i for i, slot in enumerate(slots) if not slot.busy and slot.device not in closed]

    def _reserve(self, job: Job, slots: Sequence[SlotState]) -> bool:
        """Reserve a device for an exclusive job if one is available; return whether it has one."""
        if job.key not in self._reserved:
            n_busy = dict.fromkeys((slot.device for slot in slots), 0)
            for slot in slots:
                n_busy[slot.device] += slot.busy
            if len(n_busy) > 1:
                n_busy.pop(UNKNOWN, None)
            if not (available := n_busy.keys() - self._closed(slots)):
                return False
            self._reserved[job.key] = min(
                (device for device in n_busy if device in available), key=n_busy.__getitem__
            )
        return True

    def _clear_or_start(
        self, job: Job, slots: Sequence[SlotState]
    ) -> tuple[int, Job | None] | None:
        device = self._reserved[job.key]
        there = [index for index, slot in enumerate(slots) if slot.device == device]
        if not there:  # its workers have died, and the device of the next ones is unknown
            del self._reserved[job.key]
            return None
        if any(slot.busy for slot in slots if slot.device in (device, UNKNOWN)):
            return None
        warm = [index for index in there if slots[index].warm]
        if to_end := warm if self._fresh else warm[1:]:
            return to_end[0], None
        return self._start(job, (warm or there)[0])

    def _start(self, job: Job, slot: int) -> tuple[int, Job]:
        del self._jobs[job.key]
        self._reserved.pop(job.key, None)
        return slot, job
