import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from ray_nodes import TwoNodes

from ecg_mlflow.executors.base import Event, Job, Outcome, Report
from ecg_mlflow.executors.devices import RayShare, Slot
from ecg_mlflow.executors.pool import Executor
from ecg_mlflow.executors.processes import ProcessExecutor
from ecg_mlflow.executors.thread import InProcessExecutor

HERE = str(Path(__file__).parent)  # jobs.py lies here
#: Seconds after which a test gives up, where other work slows the machine too. Whatever must not be
#: waited for takes longer in the tests, or has no end.
PATIENCE = 240


class Bench:
    """Makes executors of one kind and runs the functions of jobs.py on them."""

    def __init__(self, kind: str):
        self.kind = kind
        self.opened: list[Executor] = []

    def open(
        self,
        n_slots: int = 1,
        function: str = "jobs:do",
        devices: Sequence[str] = (),
        **options: Any,
    ) -> Executor:
        executor: Executor
        if self.kind == "inprocess":
            executor = InProcessExecutor(function)
        elif self.kind == "ray":
            from ecg_mlflow.executors.ray_cluster import RayExecutor

            own = {name: options.pop(name) for name in ("cpus", "gpus") if name in options}
            executor = RayExecutor(function, RayShare(n_slots, **own), **options)
        else:
            names = enumerate(devices or ["cpu"] * n_slots)
            slots = [Slot(i, device, {"PYTHONPATH": HERE}) for i, device in names]
            executor = ProcessExecutor(function, slots, **options)
        self.opened.append(executor)
        return executor

    def submit(self, executor: Executor, **jobs: str) -> None:
        """Submit jobs: the words for `jobs.do` by key."""
        for key, text in jobs.items():
            executor.submit(Job(key, text.encode()))

    def begin(self, text: str, n_slots: int = 1, **options: Any) -> tuple[Executor, dict[str, Any]]:
        """Open an executor with a job "a", and wait for the data of its first report."""
        executor = self.open(n_slots, **options)
        return executor, self.first_events(executor, a=text)["a"]

    def first_events(self, executor: Executor, **jobs: str) -> dict[str, dict[str, Any]]:
        """Submit jobs, and wait for the data of the first report of each."""
        self.submit(executor, **jobs)
        found: dict[str, dict[str, Any]] = {}
        while len(found) < len(jobs):
            event = self.wait_for(executor, lambda one: isinstance(one, Event) and one.key in jobs)
            found.setdefault(event.key, event.data)
        return found

    def wait_for(self, executor: Executor, wanted: Callable[[Report], Any]) -> Any:
        """Wait for a certain report and throw the ones before it away."""
        end = time.monotonic() + PATIENCE
        while time.monotonic() < end:
            for report in executor.events(0.5):
                if wanted(report):
                    return report
        raise AssertionError("the report did not come")

    def outcome(self, executor: Executor, key: str) -> Outcome:
        """Wait for the outcome of a job."""
        return self.wait_for(executor, lambda one: isinstance(one, Outcome) and one.key == key)

    def drain(self, executor: Executor) -> list[Report]:
        """Collect the reports until no job is pending."""
        reports: list[Report] = []
        end = time.monotonic() + PATIENCE
        while executor.n_pending:
            assert time.monotonic() < end, f"no end in sight, so far: {reports[-20:]}"
            reports.extend(executor.events(0.5))
        return reports

    def run(self, executor: Executor, text: str) -> Outcome:
        """Run one job to its end."""
        self.submit(executor, job=text)
        outcome = self.drain(executor)[-1]
        assert isinstance(outcome, Outcome)
        return outcome


def _open_bench(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.syspath_prepend(HERE)
    bench = Bench(kind)
    yield bench
    for executor in bench.opened:
        executor.shutdown(2)


@pytest.fixture(scope="session")
def two_nodes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoNodes]:
    """One Ray cluster for all tests: it takes seconds to start."""
    ray = pytest.importorskip("ray")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("MLFLOW_RUN_ID", "what the nodes were started with")
        caches = [tmp_path_factory.mktemp("nodes") / f"cache-{i}" for i in range(2)]
        variables = (
            {"JOBS_NODE": str(i), "ECG_MLFLOW_CACHE": str(cache), "PYTHONPATH": HERE}
            for i, cache in enumerate(caches)
        )
        nodes = TwoNodes(*variables, num_cpus=4)
        nodes.caches = caches
        patch.delenv("MLFLOW_RUN_ID")
        ray.init(nodes.cluster.address, log_to_driver=False, logging_level="error")
        yield nodes
        ray.shutdown()
        nodes.cluster.shutdown()


@pytest.fixture(
    params=[
        "inprocess",
        "processes",
        pytest.param("ray", marks=[pytest.mark.slow, pytest.mark.server, pytest.mark.nightly]),
    ]
)
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Every executor in turn: a new implementation is added here."""
    if request.param == "ray":
        request.getfixturevalue("two_nodes")
    yield from _open_bench(request.param, monkeypatch)


@pytest.fixture
def on_ray(two_nodes: TwoNodes, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from _open_bench("ray", monkeypatch)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from _open_bench("processes", monkeypatch)
