"""Compares ways to train several models on one stream of batches.

    python benchmarks/branches.py
    python benchmarks/branches.py --nets S L --branches 2 4 --rounds 6 --data FOLDER

(1) alone: a process for each model, which prepares its own batches;
(2) shared: one process, one batch for all models, a call of `CompiledStep.train` each;
(3) joint: one process, one batch for all models, one call of `JointStep.train`.

It trains on GPU 0 if there is one, else on the CPU with one thread. On a machine that does other
things too, pin it to a core (``taskset -c 1 python ...``) and believe the CPU times. `README.md`
beside this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training_iteration import Round, answer, median_of, process, ratio, row

from ecg_mlflow.executors.devices import build_env, find_gpus, plan_slots

if TYPE_CHECKING:
    from ecg_mlflow.training.step import CompiledStep

#: Iterations of each model in one round.
ITERATIONS = {"S": 10, "mixed": 10, "L": 2}
#: Rounds left out: there new sizes of batches are met.
WARM_UP_ROUNDS = 5

#: What makes the small nets of "mixed" differ from S, and from each other.
MIXED: list[dict[str, Any]] = [
    {},
    {"layout": "can"},
    {"input_filters": 10},
    {"filters": [4, 4, 8, 8, 12, 16, 24]},
    {"layout": "can", "input_filters": 6},
    {"filters": [4, 6, 6, 8, 16, 16, 20]},
    {"input_filters": 12},
    {"layout": "can", "filters": [4, 6, 8, 10, 12, 16, 20]},
]


# --- In a process of its own ---------------------------------------------------------------------


def build(net: str, number: int) -> CompiledStep:
    """Build one of the models that are compared; each number has its own weights."""
    import keras
    import training_ways

    from ecg_mlflow.training.step import CompiledStep

    keras.utils.set_random_seed(number)
    builder, arguments = training_ways.NETS["L" if net == "L" else "S"]
    changed = MIXED[number % len(MIXED)] if net == "mixed" else {}
    model = builder(
        (training_ways.LENGTH, 1), len(training_ways.CLASSES), **{**arguments, **changed}
    )
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    return CompiledStep(model, keras.optimizers.Adam(1e-3), loss)


def serve(connection: Connection, net: str, numbers: Sequence[int], joint: bool, data: str) -> None:
    """Train a few iterations for every "run" that comes, preparing each batch once."""
    import training_ways

    from ecg_mlflow.training.step import JointStep

    stream = training_ways.load(data).stream()
    steps = [build(net, number) for number in numbers]
    together, everyone = JointStep(steps), range(len(steps))

    def train() -> list[Any]:
        batch = next(stream)
        arrays = steps[0].to_device(batch.windows), steps[0].to_device(batch.targets)
        if joint:
            return together.train(everyone, *arrays)
        return [step.train(*arrays) for step in steps]

    started = time.process_time()
    losses = [steps[0].fetch(train())]
    connection.send(time.process_time() - started)
    while connection.recv() == "run":
        wall, cpu, n = time.perf_counter(), time.process_time(), ITERATIONS[net]
        # The device has finished when the losses are here.
        losses += [steps[0].fetch(each) for each in [train() for _ in range(n)]]
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        connection.send(Round(wall / n * 1e3, cpu / n * 1e3, peak))
    connection.send([[float(loss) for loss in each] for each in losses])


def seconds_to_a_smaller_set(connection: Connection, net: str, k: int, data: str) -> None:
    """Send the CPU time of the first call without the last model, after one with all."""
    import training_ways

    from ecg_mlflow.training.step import JointStep

    (batch,) = training_ways.load(data).batches(1)
    steps = [build(net, number) for number in range(k)]
    together = JointStep(steps)
    together.train(range(k), batch.windows, batch.targets)
    started = time.process_time()
    steps[0].fetch(together.train(range(k - 1), batch.windows, batch.targets))
    connection.send(time.process_time() - started)


# --- In the parent -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Found:
    """What was measured of one net and number of branches.

    Times in `rounds` are per model and iteration; those of first calls are CPU seconds of all
    models together.
    """

    rounds: dict[str, list[Round]]
    first_call: dict[str, float]
    smaller_set: float | None
    difference: float


def compare(net: str, k: int, data: str, rounds: int, environment: Mapping[str, str]) -> Found:
    """Let the three ways take turns; return the rounds after the warm-up."""
    found: dict[str, list[Round]] = {"alone": [], "shared": [], "joint": []}
    with ExitStack() as stack:

        def start(numbers: Sequence[int], joint: bool) -> Connection:
            return stack.enter_context(process(environment, serve, net, numbers, joint, data))

        ways = {
            "alone": [start([number], False) for number in range(k)],
            "shared": [start(range(k), False)],
            "joint": [start(range(k), True)],
        }
        first_call = {way: sum(each.recv() for each in ways[way]) for way in ways}
        order = list(ways)
        for number in range(rounds + WARM_UP_ROUNDS):
            order = order[1:] + order[:1]
            for way in order:
                result = take_turns(ways[way], k)
                if number >= WARM_UP_ROUNDS:
                    found[way].append(result)
        losses = {way: finish(ways[way]) for way in ways}
    smaller_set = answer(environment, seconds_to_a_smaller_set, net, k, data) if k > 2 else None
    pairs = zip(losses["alone"], losses["joint"], strict=True)
    difference = max(abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=True))
    return Found(found, first_call, smaller_set, difference)


def take_turns(connections: Sequence[Connection], k: int) -> Round:
    """Let each process train; return the mean over the models, and the memory of all processes."""
    each = []
    for connection in connections:
        connection.send("run")
        each.append(connection.recv())
    return Round(
        sum(r.wall for r in each) / k, sum(r.cpu for r in each) / k, sum(r.peak_mb for r in each)
    )


def finish(connections: Sequence[Connection]) -> list[list[float]]:
    """Stop the processes; return the losses of every model in every iteration."""
    each = []
    for connection in connections:
        connection.send("stop")
        each.append(connection.recv())
    return [list(chain(*losses)) for losses in zip(*each, strict=True)]


def environment_of_a_worker() -> dict[str, str]:
    gpus = find_gpus()[:1]
    (slot,) = plan_slots(1, ",".join(gpus), 1, gpus)
    return {**build_env(slot, os.environ), "TF_CPP_MIN_LOG_LEVEL": "3"}


def report(
    results: Mapping[tuple[str, int], Found],
    columns: Sequence[str],
    cells: Callable[[Found], Sequence[Sequence[object]]],
) -> None:
    """Print a table with one or more rows for each net and number of branches."""
    print(row("net", "k", *columns))
    print(row(*["---"] * (2 + len(columns))))
    for (net, k), found in results.items():
        for line in cells(found):
            print(row(net, k, *line))
    print()


def times(found: Found) -> list[list[object]]:
    alone, shared, joint = found.rounds.values()
    return [
        [
            clock,
            *(f"{median_of(way, clock):.2f}" for way in (alone, shared, joint)),
            ratio(alone, joint, clock)[1],
            ratio(shared, joint, clock)[1],
        ]
        for clock in ("wall", "cpu")
    ]


def rest(found: Found) -> list[list[object]]:
    memory = (statistics.median(r.peak_mb for r in way) for way in found.rounds.values())
    return [
        [
            *(f"{seconds:.1f}" for seconds in found.first_call.values()),
            "" if found.smaller_set is None else f"{found.smaller_set:.1f}",
            *(f"{megabytes:.0f}" for megabytes in memory),
            f"{found.difference:.0e}" if found.difference else "0",
        ]
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of WFDB records; 400 made-up ones by default")
    parser.add_argument("--nets", nargs="+", choices=list(ITERATIONS), default=["S", "mixed"])
    parser.add_argument("--branches", nargs="+", type=int, default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=12, help="rounds of each (default 12)")
    arguments = parser.parse_args()

    environment = environment_of_a_worker()
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            from ecg_mlflow.records.synthetic import write_demo

            data = str(Path(folder, "demo"))
            write_demo(Path(data), 400, 0)
        results = {}
        for net in arguments.nets:
            for k in arguments.branches:
                print(f"{net}, {k} branches ...", file=sys.stderr, flush=True)
                results[net, k] = compare(net, k, data, arguments.rounds, environment)
    device = environment["CUDA_VISIBLE_DEVICES"]
    device = f"GPU {device}" if device else "CPU, one thread"
    print(f"{device}, {arguments.rounds} rounds, {data}\n")
    ways = ("alone", "shared", "joint")
    ratios = ("alone/joint", "shared/joint")
    report(results, ["clock", *(f"{way} ms" for way in ways), *ratios], times)
    seconds = [f"{way}: first call s" for way in ways]
    megabytes = [f"{way} MB" for way in ways]
    report(results, [*seconds, "joint: one fewer s", *megabytes, "losses differ by"], rest)
    print(f"{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
