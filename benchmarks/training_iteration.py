"""Compares whole training iterations: the old way, plain Keras, and ours as shipped.

    python benchmarks/training_iteration.py
    python benchmarks/training_iteration.py --nets S --rounds 5 --data FOLDER --threads 2

(a) the old way: CardIO's formulas from files, and Keras `train_on_batch`;
(b) plain Keras: `fit` on prepared arrays, with stock layers;
(c) ours: what a worker runs, batches prepared ahead in a thread.

Each way has a process of its own, and they take turns: a round is a few iterations of each. A
ratio is taken within a round, so that what else the machine does falls out of it. `README.md`
beside this file says how to read the figures.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any
from unittest import mock

from ecg_mlflow.executors.devices import build_env, plan_slots

#: Iterations of a way in one round, and records in a batch where losses are compared.
ITERATIONS = {"S": 20, "L": 5, "ResNet18": 1}
LOSS_RECORDS = {"S": 32, "L": 32, "ResNet18": 4}
LOSS_ITERATIONS = 50
WARM_UP_ROUNDS = 3
#: Time that a way gets to prepare batches ahead for its next round, in seconds.
SETTLE = 0.05

#: Aims: how many times faster than (a) and than (b).
AIMS = {"S": (4.5, 1.5), "L": (1.6, 1.15), "ResNet18": (None, 1.05)}
AIM_PREPARING, AIM_LOSS, AIM_MEMORY_MB = 0.05, 1e-4, 1000


@dataclass(frozen=True)
class Round:
    """One way's share of a round, per iteration in ms; `peak_mb` is its process's memory."""

    wall: float
    cpu: float
    peak_mb: float


# --- In a process of its own ---------------------------------------------------------------------


def serve(connection: Connection, way: str, net: str, data: str, rounds: int) -> None:
    """Train a few iterations for every "run" that comes."""
    import training_ways

    n = ITERATIONS[net]
    material = training_ways.load(data)
    trained = training_ways.WAYS[way](net, material, n, n * (rounds + WARM_UP_ROUNDS))
    connection.send(None)
    while connection.recv() == "run":
        wall, cpu = time.perf_counter(), time.process_time()
        trained.run(n)
        wall = time.perf_counter() - wall
        # What is prepared ahead for the next round stands for what this one found prepared.
        time.sleep(SETTLE)
        cpu = time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        connection.send(Round(wall / n * 1e3, cpu / n * 1e3, peak))


def preparing(connection: Connection, data: str) -> None:
    """Time our batches without a training beside them: to NumPy arrays, and on to the device."""
    import training_ways

    from ecg_mlflow.training.step import CompiledStep

    stream = training_ways.load(data).stream()
    made, handed = [], []
    for _ in range(60):
        started = time.perf_counter()
        batch = next(stream)
        between = time.perf_counter()
        CompiledStep.to_device(batch.windows)
        CompiledStep.to_device(batch.targets)
        made.append(between - started)
        handed.append(time.perf_counter() - between)
    connection.send((statistics.median(made) * 1e3, statistics.median(handed) * 1e3))


def losses(connection: Connection, net: str, data: str) -> None:
    """Compare the losses of stock layers and ours."""
    import training_ways

    connection.send(training_ways.differences(net, data, LOSS_ITERATIONS, LOSS_RECORDS[net]))


@contextmanager
def process(
    environment: Mapping[str, str], function: Callable[..., None], *arguments: Any
) -> Iterator[Connection]:
    """Run a function in a fresh Python, at the other end of a connection."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    child = context.Process(target=function, args=(there, *arguments), daemon=True)
    with mock.patch.dict(os.environ, environment):
        child.start()
    there.close()
    try:
        yield here
    finally:
        here.close()
        child.terminate()
        child.join()


def answer(environment: Mapping[str, str], function: Callable[..., None], *arguments: Any) -> Any:
    """Return what a function sends from a process of its own."""
    with process(environment, function, *arguments) as connection:
        return connection.recv()


# --- In the parent -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Environments:
    """What the processes have set: (a) and (b) the threads alone, (c) what a worker has."""

    plain: Mapping[str, str]
    worker: Mapping[str, str]

    @classmethod
    def of(cls, threads: int) -> Environments:
        (slot,) = plan_slots(1, "", threads)
        quiet = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        return cls({**slot.env, **quiet}, {**build_env(slot, os.environ), **quiet})

    def __getitem__(self, way: str) -> Mapping[str, str]:
        return self.worker if way == "c" else self.plain


def compare(net: str, data: str, rounds: int, environments: Environments) -> dict[str, list[Round]]:
    """Let the three ways take turns; return the rounds after the warm-up."""
    found: dict[str, list[Round]] = {way: [] for way in "abc"}
    with ExitStack() as stack:
        ways = {
            way: stack.enter_context(process(environments[way], serve, way, net, data, rounds))
            for way in found
        }
        for connection in ways.values():
            connection.recv()
        orders = itertools.cycle(["abc", "bca", "cab"])
        for number, order in zip(range(rounds + WARM_UP_ROUNDS), orders, strict=False):
            for way in order:
                ways[way].send("run")
                result = ways[way].recv()
                if number >= WARM_UP_ROUNDS:
                    found[way].append(result)
        for connection in ways.values():
            connection.send("stop")
    return found


def ratio(slow: Sequence[Round], fast: Sequence[Round], clock: str) -> tuple[float, str]:
    """Return the median of the rounds' ratios, and it with the smallest and largest as text."""
    each = [getattr(s, clock) / getattr(f, clock) for s, f in zip(slow, fast, strict=True)]
    middle = statistics.median(each)
    return middle, f"{middle:.2f}x ({min(each):.2f} to {max(each):.2f})"


def row(*cells: object) -> str:
    return "| " + " | ".join(map(str, cells)) + " |"


def median_of(rounds: Sequence[Round], clock: str) -> float:
    return float(statistics.median(getattr(r, clock) for r in rounds))


def report_times(results: dict[str, dict[str, list[Round]]]) -> None:
    print(row("net", "clock", "(a) ms", "(b) ms", "(c) ms", "a/c", "aim", "b/c", "aim"))
    print(row(*["---"] * 9))
    for net, found in results.items():
        for clock in ("wall", "cpu"):
            times = [f"{median_of(found[way], clock):.1f}" for way in "abc"]
            cells = [net, clock, *times]
            for way, aim in zip("ab", AIMS[net], strict=True):
                middle, text = ratio(found[way], found["c"], clock)
                judged = (
                    clock == "wall" and aim is not None and f"≥ {aim}x {verdict(middle >= aim)}"
                )
                cells += [text, judged or ""]
            print(row(*cells))
    print()


def report_rest(
    results: dict[str, dict[str, list[Round]]],
    prepared: tuple[float, float],
    apart: dict[str, dict[str, float]],
) -> None:
    print(row("what", "measured", "aim"))
    print(row(*["---"] * 3))
    made, handed = prepared
    both = f"{made + handed:.2f} ms ({made:.2f} in the pipeline, {handed:.2f} to the device)"
    print(row("preparing a batch", both, ""))
    if "S" in results:
        share = (made + handed) / median_of(results["S"]["c"], "wall")
        judged = f"≤ {AIM_PREPARING:.0%} {verdict(share <= AIM_PREPARING)}"
        print(row("preparing a batch, of an iteration of S", f"{share:.1%}", judged))
        peak = max(r.peak_mb for r in results["S"]["c"])
        judged = f"≤ {AIM_MEMORY_MB} MB {verdict(peak <= AIM_MEMORY_MB)}"
        print(row("peak memory of a process that trains S", f"{peak:.0f} MB", judged))
    for net, difference in apart.items():
        what = f"loss of {net} beside stock layers', {LOSS_ITERATIONS} iterations"
        for setting, value, aimed in (
            ("each from the same weights", difference["each"], True),
            ("all from the same first weights", difference["together"], True),
            ("stock layers, windows changed in the last bit", difference["rounding"], False),
        ):
            judged = f"≤ {AIM_LOSS:g} {verdict(value <= AIM_LOSS)}" if aimed else ""
            print(row(f"{what}: {setting}", f"{value:.1e}", judged))


def verdict(reached: bool) -> str:
    return "✓" if reached else "✗"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="folder of WFDB records; 400 made-up ones by default")
    parser.add_argument("--nets", nargs="+", choices=list(AIMS), default=list(AIMS))
    parser.add_argument("--rounds", type=int, default=12, help="rounds of each net (default 12)")
    parser.add_argument("--threads", type=int, choices=(1, 2), default=1, help="as a worker has")
    parser.add_argument("--no-losses", action="store_true", help="leave that comparison out")
    arguments = parser.parse_args()

    environments = Environments.of(arguments.threads)
    with tempfile.TemporaryDirectory() as folder:
        data = arguments.data
        if data is None:
            from ecg_mlflow.records.synthetic import write_demo

            data = str(Path(folder, "demo"))
            write_demo(Path(data), 400, 0)
        started = time.perf_counter()
        prepared = answer(environments.worker, preparing, data)
        results, apart = {}, {}
        for net in arguments.nets:
            print(f"{net} ...", file=sys.stderr, flush=True)
            results[net] = compare(net, data, arguments.rounds, environments)
            if not arguments.no_losses:
                apart[net] = answer(environments.worker, losses, net, data)
    print(f"{arguments.threads} thread(s), {arguments.rounds} rounds, {data}\n")
    report_times(results)
    report_rest(results, prepared, apart)
    print(f"\n{time.perf_counter() - started:.0f} s in all")


if __name__ == "__main__":
    main()
