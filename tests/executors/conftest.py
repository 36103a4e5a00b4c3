import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ecg_mlflow.executors import (
    Executor,
    InProcessExecutor,
    Job,
    Outcome,
    ProcessExecutor,
    Report,
    Slot,
)

HERE = str(Path(__file__).parent)  # jobs.py lies here


class Bench:
    """Makes executors of one kind and runs the functions of jobs.py on them."""

    def __init__(self, kind: str):
        self.kind = kind
        self.opened: list[Executor] = []

    def open(self, n_slots: int = 1, function: str = "jobs:do", **options: Any) -> Executor:
        executor: Executor
        options = {"grace": 5, **options}
        if self.kind == "inprocess":
            executor = InProcessExecutor(function, **options)
        else:
            slots = [Slot(i, "cpu", {"PYTHONPATH": HERE}) for i in range(n_slots)]
            executor = ProcessExecutor(function, slots, **options)
        self.opened.append(executor)
        return executor

    def drain(self, executor: Executor, timeout: float = 30) -> list[Report]:
        """Collect the reports until no job is pending."""
        reports: list[Report] = []
        end = time.monotonic() + timeout
        while executor.n_pending:
            assert time.monotonic() < end, f"no end in sight, so far: {reports}"
            reports.extend(executor.events(0.5))
        return reports

    def wait_for(self, executor: Executor, wanted: Callable[[Report], bool]) -> Report:
        """Wait for one report and throw the ones before it away."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            for report in executor.events(0.5):
                if wanted(report):
                    return report
        raise AssertionError("the report did not come")

    def run(self, executor: Executor, text: str) -> Outcome:
        """Run one job to its end."""
        executor.submit(Job("job", text.encode()))
        outcome = self.drain(executor)[-1]
        assert isinstance(outcome, Outcome)
        return outcome


def _open_bench(kind: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.syspath_prepend(HERE)
    bench = Bench(kind)
    yield bench
    for executor in bench.opened:
        executor.shutdown(2)


@pytest.fixture(params=["inprocess", "processes"])
def bench(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    """Every executor in turn: a new implementation is added here."""
    yield from _open_bench(request.param, monkeypatch)


@pytest.fixture
def processes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    yield from _open_bench("processes", monkeypatch)
