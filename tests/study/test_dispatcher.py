"""What the dispatcher decides, with an executor, a scheduler and a listener that pretend."""

from __future__ import annotations

import signal
from collections import deque
from types import SimpleNamespace

import cloudpickle
import pytest
from stored_runs import stored_run

from ecg_mlflow.errors import StorageFullError, TrackingError
from ecg_mlflow.executors import Event, Outcome, OutcomeState
from ecg_mlflow.files import checkpoint_path
from ecg_mlflow.study import child_runs as children
from ecg_mlflow.study import dispatcher as dispatch
from ecg_mlflow.study.dispatcher import MOST_DEATHS, Dispatcher
from ecg_mlflow.study.jobs import REPORT, Ended, Evaluated, Noted, RunEnd, Saved
from ecg_mlflow.study.listeners import StudyListener
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.resume import ResumeAction, RunDecision
from ecg_mlflow.study.trial_scheduler import Withdrawal
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.training import Checkpoint, save_checkpoint


class Executor:
    """Hands submitted jobs to a script that says what is reported of them."""

    def __init__(self, script, n_slots=1):
        self.script = script
        self.n_slots = n_slots
        self.jobs = []
        self.letters = []
        self.on_send = lambda: None
        self.reports = deque()

    @property
    def free_slots(self):
        return self.n_slots if not self.reports else 0

    def send(self, key, data):
        self.on_send()
        self.letters.append((key, data))

    def submit(self, job):
        runs = [one.key for one in cloudpickle.loads(job.payload).runs]
        self.jobs.append((runs, job.exclusive))
        self.reports.extend(self.script(job.key, runs, len(self.jobs)))

    def events(self, timeout):
        while self.reports:
            yield self.reports.popleft()


class Study:
    """Keeps what happens to the child runs."""

    def __init__(self):
        self.client = SimpleNamespace(
            tracking_uri="sqlite:///x", log_text=lambda *args: None, get_run=self.get_run
        )
        self.tags: dict[str, dict] = {}
        self.ends: list[tuple[str, str]] = []
        self.retry = RetryPolicy(limit_s=0.0)
        self.reopened: list[str] = []

    def get_run(self, run_id):
        return SimpleNamespace(data=SimpleNamespace(tags=self.tags.get(run_id, {})))

    def create_child(self, name, params, tags):
        run_id = f"{name.split()[0]} child {len(self.tags)}"
        self.tags[run_id] = dict(tags)
        return run_id

    def reopen_child(self, run_id, params):
        self.reopened.append(run_id)
        self.tags.setdefault(run_id, {})

    def tag_child(self, run_id, tags):
        self.tags.setdefault(run_id, {}).update(tags)

    def finish_child(self, run_id, status, reason=None):
        self.ends.append((run_id, str(status)))

    def beat(self):
        pass


class Scheduler(StudyListener):
    """Hands out decisions one by one, and keeps what it is told."""

    def __init__(self, decisions):
        self.decisions = deque(decisions)
        self.told: list[tuple[str, object]] = []
        self.given_up: dict[str, list[Withdrawal]] = {}
        self._new: list[Withdrawal] = []
        self.ends_of: dict[str, list[tuple]] = {}
        self.new_ends: list[tuple] = []

    def next_runs(self):
        return [self.decisions.popleft()] if self.decisions else []

    def withdrawals(self):
        new, self._new = self._new, []
        return new

    def ends(self):
        ends, self.new_ends = self.new_ends, []
        return ends

    def trial_tags(self, run):
        return {"trial": run.key}

    def handed_out(self, run):
        self.told.append(("handed out", run.key))

    def reported(self, run, report):
        if isinstance(report, Evaluated):
            self.told.append(("tested", run.key))
            self._new += self.given_up.pop(run.key, [])
            self.new_ends += self.ends_of.pop(run.key, [])

    def finished(self, run, metrics):
        self.told.append(("finished", metrics))

    def failed(self, run, reason):
        self.told.append(("failed", run.key))


class Books(StudyListener):
    """Keeps how runs have ended, and what was said of them."""

    def __init__(self):
        self.done, self.failures, self.notes, self.taken = [], {}, [], []
        self.given_up = {}

    def finished(self, run, metrics):
        self.done.append(run.key)

    def failed(self, run, reason):
        self.failures[run.key] = reason

    def pruned(self, run, reason):
        self.given_up[run.key] = reason

    def known(self, decision):
        self.taken.append(decision.run.key)

    def reported(self, run, report):
        if isinstance(report, Noted):
            self.notes.append(report.text)


def planned(index, repetition=0, seconds=1.0, stream="s"):
    config = SimpleNamespace(
        index=index,
        seconds=seconds,
        stream=stream,
        settings=None,
        data=SimpleNamespace(sides={}, input_shape=(1, 1)),
        n_iterations=10,
        tests=None,
        name="net",
    )
    key = f"{index:02d}-r{repetition}"
    return SimpleNamespace(key=key, config=config, repetition=repetition, identity=key)


def known(run_id, status="KILLED", attempt=1, **more):
    return stored_run(run_id, status, attempt=attempt, **more)


def ended(key, run, end, reason="why", error="trace"):
    return Event(key, {REPORT: Ended(run, end, reason, error)})


def done(key, run):
    return Event(key, {REPORT: Ended(run, RunEnd.DONE)})


def all_done(key, runs, n):
    return [*(done(key, run) for run in runs), Outcome(key, OutcomeState.DONE)]


@pytest.fixture
def bench(monkeypatch):
    """Run planned runs, or decisions, by a script; return what came of it."""
    for name in ("run_name", "run_params", "dataset_infos", "full_configuration"):
        monkeypatch.setattr(children, name, lambda *args: {})
    monkeypatch.setattr(children, "run_name", lambda run: run.key)
    monkeypatch.setattr(children, "log_datasets", lambda *args: None)
    monkeypatch.setattr(dispatch, "count_oom_kills", lambda: 0)

    def go(
        runs,
        script=all_done,
        branches=1,
        n_slots=1,
        stop=lambda: None,
        settle=False,
        given_up=None,
        ends=None,
        at_once=False,
        tags=None,
    ):
        decisions = [
            one if isinstance(one, RunDecision) else RunDecision(one, ResumeAction.START)
            for one in runs
        ]
        corpus = SimpleNamespace(path=None, digest="c" * 64)
        study, books, executor = Study(), Books(), Executor(script, n_slots)
        study.tags.update(tags or {})
        executor.on_send = lambda: found.marked.append(
            [run_id for run_id, one in study.tags.items() if "ecg_mlflow.pruned" in one]
        )
        scheduler = Scheduler([] if at_once else decisions)
        scheduler.given_up, scheduler.ends_of = given_up or {}, ends or {}
        found = SimpleNamespace(
            study=study, books=books, executor=executor, scheduler=scheduler, marked=[]
        )
        dispatcher = Dispatcher(
            SimpleNamespace(corpus=corpus),
            study,
            scheduler,
            [books],
            StudyRequest("x.py", branches=branches),
        )
        for decision in decisions if at_once else []:
            dispatcher.take(decision)
        if settle:
            dispatcher.take(scheduler.next_runs()[0])
            dispatcher._submit(executor)
            dispatcher.settle(executor)
        else:
            dispatcher.run(executor, SimpleNamespace(check=stop))
        return found

    return go


def test_branches_share_a_job(bench):
    found = bench([planned(i) for i in range(5)], branches=2)
    assert [keys for keys, _ in found.executor.jobs] == [
        ["00-r0", "01-r0"], ["02-r0", "03-r0"], ["04-r0"]
    ]  # fmt: skip


def test_a_run_is_opened_with_the_tags_by_which_it_is_found_again(bench):
    found = bench([planned(3)])
    assert found.study.tags["03-r0 child 0"] == {
        "ecg_mlflow.identity": "03-r0",
        "ecg_mlflow.attempt": 1,
        "ecg_mlflow.configuration": "03 net",
        "ecg_mlflow.corpus": "c" * 16,
        "trial": "03-r0",
    }
    assert found.study.ends == [("03-r0 child 0", "FINISHED")]


def test_a_run_to_continue_is_gone_on_with_in_its_child(bench):
    found = bench([RunDecision(planned(0), ResumeAction.CONTINUE, known("old", attempt=2))])
    assert found.study.reopened == ["old"]
    assert found.study.tags == {"old": {"ecg_mlflow.attempt": 3, "trial": "00-r0"}}
    assert found.study.ends == [("old", "FINISHED")]


def test_a_failed_run_that_is_tried_again_has_a_new_child(bench):
    found = bench([RunDecision(planned(0), ResumeAction.REPLACE, known("old", "FAILED", 2))])
    assert found.study.reopened == []
    assert found.study.tags["00-r0 child 0"]["ecg_mlflow.attempt"] == 3


def test_what_is_finished_is_entered_and_closed_where_only_that_was_missing(bench):
    decisions = [
        RunDecision(planned(0), ResumeAction.SKIP, known("a", "FINISHED")),
        RunDecision(planned(1), ResumeAction.SKIP, known("b", "RUNNING")),
        RunDecision(planned(2), ResumeAction.REUSE, known("c", "FINISHED")),
        RunDecision(planned(3), ResumeAction.LEAVE, known("d", "FAILED")),
    ]
    found = bench(decisions)
    assert found.executor.jobs == []
    assert found.books.taken == [f"0{i}-r0" for i in range(4)]
    assert found.study.ends == [("b", "FINISHED")]


def died(key, code=-signal.SIGSEGV):
    return Outcome(key, OutcomeState.DIED, reason="it died", error="log", exitcode=code)


def test_a_run_whose_process_died_goes_on_in_the_same_child(bench):
    def script(key, runs, n):
        return [died(key)] if n == 1 else all_done(key, runs, n)

    found = bench([planned(0)], script)
    assert [exclusive for _, exclusive in found.executor.jobs] == [False, False]
    assert found.study.ends == [("00-r0 child 0", "FINISHED")]
    assert found.study.tags["00-r0 child 0"]["ecg_mlflow.attempt"] == 2


def test_three_deaths_fail_the_run_and_not_the_study(bench):
    def script(key, runs, n):
        return [died(key)] if runs == ["00-r0"] else all_done(key, runs, n)

    found = bench([planned(0), planned(1)], script)
    assert [keys for keys, _ in found.executor.jobs] == [["00-r0"]] * MOST_DEATHS + [["01-r0"]]
    assert found.books.failures == {"00-r0": "3 processes died under it; the last: it died"}
    assert found.study.tags["00-r0 child 0"]["ecg_mlflow.died"] == 3
    assert found.books.done == ["01-r0"]


def test_deaths_count_anew_when_the_run_has_got_further(bench):
    def script(key, runs, n):
        if n > 5:
            return all_done(key, runs, n)
        return [Event(key, {REPORT: Saved(runs[0], n)}), died(key)]

    assert bench([planned(0)], script).books.done == ["00-r0"]

    def stuck(key, runs, n):
        return [Event(key, {REPORT: Saved(runs[0], 7)}), died(key)]

    assert len(bench([planned(0)], stuck).executor.jobs) == MOST_DEATHS


@pytest.mark.parametrize(
    ("counts", "exclusive"), [((0, 1), True), ((0, 0), False), ((None, None), True)]
)
def test_after_a_kill_for_want_of_memory_a_run_is_tried_alone(
    bench, monkeypatch, counts, exclusive
):
    counter = iter(counts)
    monkeypatch.setattr(dispatch, "count_oom_kills", lambda: next(counter))

    def script(key, runs, n):
        return [died(key, -signal.SIGKILL)] if n == 1 else all_done(key, runs, n)

    found = bench([planned(0)], script)
    assert [flag for _, flag in found.executor.jobs] == [False, exclusive]


def test_out_of_memory_in_a_run_is_tried_alone_on_the_device(bench):
    def script(key, runs, n):
        if n > 1:
            return all_done(key, runs, n)
        rest = [done(key, run) for run in runs[1:]]
        end = ended(key, runs[0], RunEnd.OUT_OF_MEMORY)
        return [end, *rest, Outcome(key, OutcomeState.DONE)]

    found = bench([planned(i) for i in range(3)], script, branches=3)
    assert found.executor.jobs[1] == (["00-r0"], True)
    assert sorted(found.books.done) == ["00-r0", "01-r0", "02-r0"]


def test_a_run_that_was_short_of_memory_keeps_the_device_to_itself_whatever_ends_it_later(bench):
    def script(key, runs, n):
        if n == 1:
            return [ended(key, runs[0], RunEnd.OUT_OF_MEMORY), Outcome(key, OutcomeState.DONE)]
        return [died(key)] if n == 2 else all_done(key, runs, n)

    found = bench([planned(0)], script)
    assert [exclusive for _, exclusive in found.executor.jobs] == [False, True, True]
    assert found.books.done == ["00-r0"]


@pytest.mark.parametrize("how", ["died", RunEnd.OUT_OF_MEMORY, RunEnd.BUSY, RunEnd.LOST])
def test_a_run_that_is_tried_again_comes_before_those_that_wait(bench, how):
    def script(key, runs, n):
        if n > 1:
            return all_done(key, runs, n)
        if how == "died":
            return [died(key)]
        return [ended(key, runs[0], how), Outcome(key, OutcomeState.DONE)]

    found = bench([planned(i) for i in range(3)], script, at_once=True)
    assert [keys for keys, _ in found.executor.jobs] == [
        ["00-r0"], ["00-r0"], ["01-r0"], ["02-r0"]
    ]  # fmt: skip


@pytest.mark.parametrize("state", [OutcomeState.DIED, OutcomeState.FAILED])
def test_branches_that_are_tried_each_alone_come_before_those_that_wait(bench, state):
    def script(key, runs, n):
        return [Outcome(key, state, reason="it ended")] if n == 1 else all_done(key, runs, n)

    found = bench([planned(i) for i in range(4)], script, branches=2, at_once=True)
    first, *again, last = [keys for keys, _ in found.executor.jobs]
    assert first == ["00-r0", "01-r0"]
    assert sorted(again) == [["00-r0"], ["01-r0"]]
    assert last == ["02-r0", "03-r0"]


def test_the_branches_of_a_process_that_died_are_tried_each_alone(bench):
    def script(key, runs, n):
        return [died(key)] if n == 1 else all_done(key, runs, n)

    found = bench([planned(i) for i in range(3)], script, branches=3)
    assert sorted(keys for keys, _ in found.executor.jobs[1:]) == [["00-r0"], ["01-r0"], ["02-r0"]]


def test_an_error_of_several_branches_is_looked_for_in_each_alone(bench):
    def script(key, runs, n):
        if "01-r0" in runs:
            reason = {"reason": "a bad op", "error": "trace", "error_type": "ValueError"}
            return [Outcome(key, OutcomeState.FAILED, **reason)]
        return all_done(key, runs, n)

    found = bench([planned(i) for i in range(3)], script, branches=3)
    assert found.books.failures == {"01-r0": "a bad op"}
    assert sorted(found.books.done) == ["00-r0", "02-r0"]


def test_an_error_of_a_run_s_own_fails_it_at_once(bench):
    def script(key, runs, n):
        return [ended(key, runs[0], RunEnd.FAILED, "bad"), Outcome(key, OutcomeState.DONE)]

    found = bench([planned(0)], script)
    assert len(found.executor.jobs) == 1
    assert found.books.failures == {"00-r0": "bad"}
    assert found.study.ends == [("00-r0 child 0", "FAILED")]
    assert "ecg_mlflow.died" not in found.study.tags["00-r0 child 0"]


def test_a_run_whose_checkpoint_is_lost_begins_anew_in_another_child(bench):
    def script(key, runs, n):
        if n > 1:
            return all_done(key, runs, n)
        return [ended(key, runs[0], RunEnd.LOST, "damaged"), Outcome(key, OutcomeState.DONE)]

    found = bench([RunDecision(planned(0), ResumeAction.CONTINUE, known("old", attempt=4))], script)
    assert found.study.ends == [("old", "KILLED"), ("00-r0 child 1", "FINISHED")]
    assert found.study.tags["old"]["ecg_mlflow.replaced"] == "00-r0 child 1"
    assert found.study.tags["00-r0 child 1"]["ecg_mlflow.attempt"] == 6


@pytest.mark.parametrize("kind", [StorageFullError, TrackingError])
def test_what_is_wrong_with_the_machine_ends_the_study(bench, kind):
    def script(key, runs, n):
        error_type = f"{kind.__module__}.{kind.__name__}"
        return [Outcome(key, OutcomeState.FAILED, reason="no room", error_type=error_type)]

    with pytest.raises(kind, match="no room"):
        bench([planned(0), planned(1)], script)


@pytest.mark.parametrize("kind", [StorageFullError, TrackingError])
def test_it_does_not_come_between_a_stop_and_its_end(bench, kind):
    def script(key, runs, n):
        error_type = f"{kind.__module__}.{kind.__name__}"
        return [Outcome(key, OutcomeState.FAILED, reason="no room", error_type=error_type)]

    found = bench([planned(0)], script, settle=True)
    assert found.study.ends == [("00-r0 child 0", "KILLED")]


def test_a_job_that_ends_without_a_word_on_its_run_fails_it(bench):
    found = bench([planned(0)], lambda key, runs, n: [Outcome(key, OutcomeState.DONE)])
    assert "without a word" in found.books.failures["00-r0"]


def test_a_stop_is_heard_before_a_run_is_opened(bench):
    def stop():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench([planned(0)], stop=stop)


# --- Giving up -----------------------------------------------------------------------------------


def came_to(key, run):
    return Event(key, {REPORT: Evaluated(run, [(0, {"f1": 0.5})])})


def pruned(key, run):
    return ended(key, run, RunEnd.PRUNED, "worse")


def test_a_run_under_way_is_marked_in_the_store_before_its_worker_is_told(bench):
    def script(key, runs, n):
        return [came_to(key, runs[0]), pruned(key, runs[0]), Outcome(key, OutcomeState.DONE)]

    run = planned(0)
    found = bench([run], script, given_up={"00-r0": [Withdrawal(run, "worse")]})
    assert found.executor.letters == [("00-r0 #1", {"prune": "00-r0", "reason": "worse"})]
    assert found.marked == [["00-r0 child 0"]]
    assert found.study.tags["00-r0 child 0"]["ecg_mlflow.pruned"] == "worse"
    assert found.study.ends == [("00-r0 child 0", "KILLED")]
    assert found.books.given_up == {"00-r0": "worse"}
    assert found.books.failures == {}


def test_the_end_of_a_trial_is_stored_in_its_own_child_and_before_anything_that_follows(bench):
    taken_over = RunDecision(planned(0), ResumeAction.REUSE, known("other study's"))
    first, second = planned(0, repetition=1), planned(0, repetition=2)
    trial = SimpleNamespace(runs=(taken_over.run, first, second))
    of_other = SimpleNamespace(runs=(taken_over.run,))
    end = SimpleNamespace(tags=lambda: {"end": "pruned"})

    def script(key, runs, n):
        return [came_to(key, runs[0]), pruned(key, runs[0]), Outcome(key, OutcomeState.DONE)]

    found = bench(
        [
            taken_over,
            RunDecision(first, ResumeAction.START),
            RunDecision(second, ResumeAction.START),
        ],
        script,
        given_up={"00-r1": [Withdrawal(first, "worse"), Withdrawal(second, "worse")]},
        ends={"00-r1": [(trial, end), (of_other, end)]},
        at_once=True,
    )
    assert list(found.study.tags) == ["00-r1 child 0"]
    stored = list(found.study.tags["00-r1 child 0"])
    assert stored.index("trial") < stored.index("end") < stored.index("ecg_mlflow.pruned")


def test_all_repetitions_of_a_trial_are_given_up_the_waiting_ones_unopened(bench):
    first, second = planned(0), planned(0, repetition=1)

    def script(key, runs, n):
        return [came_to(key, runs[0]), pruned(key, runs[0]), Outcome(key, OutcomeState.DONE)]

    given_up = {"00-r0": [Withdrawal(first, "worse"), Withdrawal(second, "worse")]}
    found = bench([first, second], script, given_up=given_up, at_once=True)
    assert [keys for keys, _ in found.executor.jobs] == [["00-r0"]]
    assert set(found.study.tags) == {"00-r0 child 0"}
    assert found.books.given_up == {"00-r0": "worse", "00-r1": "worse"}


def test_a_waiting_run_that_is_in_the_store_already_ends_there(bench):
    first = planned(0)
    old = RunDecision(planned(0, repetition=1), ResumeAction.CONTINUE, known("old"))

    def script(key, runs, n):
        return [came_to(key, runs[0]), *all_done(key, runs, n)]

    found = bench(
        [RunDecision(first, ResumeAction.START), old],
        script,
        given_up={"00-r0": [Withdrawal(old.run, "worse")]},
        at_once=True,
    )
    assert ("old", "KILLED") in found.study.ends
    assert found.study.tags["old"]["ecg_mlflow.pruned"] == "worse"


def test_a_run_whose_process_dies_after_it_was_given_up_is_not_tried_again(bench):
    def script(key, runs, n):
        return [came_to(key, runs[0]), died(key)]

    run = planned(0)
    found = bench([run], script, given_up={"00-r0": [Withdrawal(run, "worse")]})
    assert len(found.executor.jobs) == 1
    assert found.study.ends == [("00-r0 child 0", "KILLED")]
    assert found.books.given_up == {"00-r0": "worse"}


def test_a_run_that_ends_before_it_hears_of_it_is_finished(bench):
    def script(key, runs, n):
        return [came_to(key, runs[0]), *all_done(key, runs, n)]

    run = planned(0)
    found = bench([run], script, given_up={"00-r0": [Withdrawal(run, "worse")]})
    assert found.study.ends == [("00-r0 child 0", "FINISHED")]
    assert found.books.done == ["00-r0"]


def test_a_run_that_has_left_the_grid_is_dropped_without_a_word(bench):
    first, second = planned(0), planned(1)

    def script(key, runs, n):
        return [came_to(key, runs[0]), *all_done(key, runs, n)]

    given_up = {"00-r0": [Withdrawal(second, "no longer in the grid", is_pruned=False)]}
    found = bench([first, second], script, given_up=given_up, at_once=True)
    assert found.books.given_up == {}
    assert found.books.done == ["00-r0"]


def test_a_pruned_run_that_another_driver_left_running_is_ended(bench):
    decision = RunDecision(planned(0), ResumeAction.PRUNED, known("old", "RUNNING"))
    found = bench([decision])
    assert found.study.ends == [("old", "KILLED")]
    assert "pruned in another session" in found.study.tags["old"]["ecg_mlflow.pruned"]
    found = bench([decision], tags={"old": {"ecg_mlflow.pruned": "worse"}})
    assert found.study.tags["old"]["ecg_mlflow.pruned"] == "worse"
    assert found.executor.jobs == []
    assert found.books.taken == ["00-r0"]


def test_a_pruned_run_that_was_reaped_still_delivers_what_its_checkpoint_holds(bench):
    entry = known("old", "KILLED", is_pruned=True)
    found = bench([RunDecision(planned(0), ResumeAction.PRUNED, entry)])
    assert found.study.ends == []
    path = checkpoint_path("old")
    save_checkpoint(path, Checkpoint({"pending": []}, {}))
    found = bench([RunDecision(planned(0), ResumeAction.PRUNED, entry)])
    assert found.study.ends == [("old", "KILLED")]
    assert not path.exists()


def test_the_scheduler_is_told_of_everything(bench):
    def script(key, runs, n):
        if runs == ["00-r0"]:
            return [came_to(key, runs[0]), *all_done(key, runs, n)]
        return [ended(key, runs[0], RunEnd.FAILED, "bad"), Outcome(key, OutcomeState.DONE)]

    found = bench([planned(0), planned(1)], script)
    assert found.scheduler.told == [
        ("handed out", "00-r0"),
        ("tested", "00-r0"),
        ("finished", {}),
        ("handed out", "01-r0"),
        ("failed", "01-r0"),
    ]
