"""Run jobs in this process, in worker processes or on a Ray cluster, and report their results.

A job is a key and some bytes; its function is named by an import path and called as
``function(payload, report)``. While it runs it may call `stop_requested` and `received` of
`execution`, for what the driver tells it. The package is independent of the jobs' content.

`factory.make_executor` chooses among the executors, which are subclasses of `pool.Pool`:

`thread.InProcessExecutor`
    One job at a time in a thread of this process, for debugging and for small studies.
`processes.ProcessExecutor`
    One worker process per slot, reused for later jobs, with its own environment.
`ray_cluster.RayExecutor`
    One actor per slot, on any node of a Ray cluster. Its module needs the package `ray`.

`base` has the reports that an executor yields, and `devices` chooses the slots.
"""
