"""Run jobs in this process or in warm worker processes, and watch what becomes of them.

A job is a key and some bytes; the function that executes it is named by its import path and
called as ``function(payload, report)``. While it runs it may ask `stop_requested`, and by
`received` what the driver has sent to it. The package knows nothing of what the jobs compute.

`Executor` (base)
    The protocol that every executor follows, and the reports that it yields.
`InProcessExecutor` (inprocess)
    One job at a time in a thread of this process: for debugging, and where no worker is wanted.
`ProcessExecutor` (processes)
    One warm worker process per slot, each with an environment that is complete before it starts.
`RayExecutor` (ray_cluster)
    One warm actor per slot, on any node of a Ray cluster. Its module is to be imported by who
    uses it, for it imports `ray`.
`plan_slots` (devices)
    Which slots there are, and which device and how many threads each of them has.
"""

from ecg_mlflow.executors.base import (
    Event,
    Executor,
    ExecutorError,
    Job,
    Outcome,
    OutcomeState,
    Report,
    Started,
)
from ecg_mlflow.executors.devices import (
    DEVICE_VARIABLE,
    Slot,
    build_env,
    count_cores,
    count_oom_kills,
    find_gpus,
    plan_slots,
)
from ecg_mlflow.executors.messages import describe_error, received
from ecg_mlflow.executors.processes import ProcessExecutor
from ecg_mlflow.executors.stopping import Terminated, shielded, stop_requested
from ecg_mlflow.executors.thread import InProcessExecutor

__all__ = [
    "DEVICE_VARIABLE",
    "Event",
    "Executor",
    "ExecutorError",
    "InProcessExecutor",
    "Job",
    "Outcome",
    "OutcomeState",
    "ProcessExecutor",
    "Report",
    "Slot",
    "Started",
    "Terminated",
    "build_env",
    "count_cores",
    "count_oom_kills",
    "describe_error",
    "find_gpus",
    "plan_slots",
    "received",
    "shielded",
    "stop_requested",
]
