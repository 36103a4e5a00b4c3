"""Run jobs in this process, in worker processes or on a Ray cluster, and report their results.

A job is a key and some bytes; its function is named by an import path and called as
``function(payload, report)``. While it runs it may call `stop_requested`, and `received` for
messages from the driver. The package is independent of the jobs' content.

`Executor` (pool)
    The base class of every executor; `base` has the reports that it yields.
`InProcessExecutor` (thread)
    One job at a time in a thread of this process, for debugging and for small studies.
`ProcessExecutor` (processes)
    One worker process per slot, reused for later jobs, with its own environment.
`RayExecutor` (ray_cluster)
    One actor per slot, on any node of a Ray cluster. Import it from its module, which needs the
    package `ray`.
`plan_slots` (devices)
    Choose the slots, with the device and the number of threads of each.
"""

from ecg_mlflow.executors.base import (
    Event,
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
from ecg_mlflow.executors.pool import Executor
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
