"""What the dispatcher decides, with an executor, a scheduler and a display that pretend."""

from __future__ import annotations

import signal
from collections import deque
from itertools import count
from types import SimpleNamespace

import cloudpickle
import pytest
from stored_runs import stored_run

from ecg_mlflow.errors import RunGoneError, StorageError, TrackingError
from ecg_mlflow.executors.base import Event, Outcome, OutcomeState
from ecg_mlflow.files import checkpoint_path
from ecg_mlflow.grids.user_code import UserCode
from ecg_mlflow.search.sampler import TrialState
from ecg_mlflow.study import child_runs as children
from ecg_mlflow.study import descriptions
from ecg_mlflow.study import dispatcher as dispatch
from ecg_mlflow.study.dispatcher import MOST_DEATHS, Dispatcher
from ecg_mlflow.study.jobs import REPORT, Ended, Evaluated, Noted, RunEnd, Saved
from ecg_mlflow.study.request import StudyRequest
from ecg_mlflow.study.resume import ResumeAction, RunDecision
from ecg_mlflow.study.search_history import TRIAL_END_TAG, TrialEnd
from ecg_mlflow.tracking.retry import RetryPolicy
from ecg_mlflow.training.checkpoint import Checkpoint, save_checkpoint


class Recorder:
    """Keeps what it is told: the method, the run's key and what else is said."""

    def __init__(self):
        self.told = []

    def __getattr__(self, name):
        return lambda *given: self.told.append((name, *(getattr(one, "key", one) for one in given)))


class Executor:
    """Hands submitted jobs to a script that says what is reported of them."""

    def __init__(self, script, n_slots, send):
        self.script, self.n_slots, self.send = script, n_slots, send
        self.jobs, self.exclusive, self.reports = [], [], deque()

    @property
    def free_slots(self):
        return self.n_slots if not self.reports else 0

    def submit(self, job):
        work = cloudpickle.loads(job.payload)
        runs = [one.run.key for one in work.runs]
        self.jobs.append(runs)
        self.exclusive.append(job.exclusive)
        self.reports.extend(self.script(job.key, runs, len(self.jobs)))

    def events(self, timeout):
        while self.reports:
            yield self.reports.popleft()


class Study(Recorder):
    """Keeps what happens to the child runs."""

    def __init__(self, tags):
        super().__init__()
        self.client = SimpleNamespace(
            tracking_uri="sqlite:///x", log_text=lambda *args: None, get_run=self.get_run
        )
        self.retry = RetryPolicy(limit_s=0.0)
        self.tags, self.ends, self.gone = dict(tags), [], set()

    def check(self, run_id):
        if run_id in self.gone:
            raise RunGoneError(f"run {run_id} was deleted", run_id)

    def get_run(self, run_id):
        self.check(run_id)
        return SimpleNamespace(data=SimpleNamespace(tags=self.tags.get(run_id, {})))

    def create_child(self, name, params, tags):
        run_id = f"{name} child {len(self.tags)}"
        self.tags[run_id] = dict(tags)
        return run_id

    def tag_child(self, run_id, tags):
        self.check(run_id)
        self.told.append(("tag", run_id, tags))
        self.tags.setdefault(run_id, {}).update(tags)

    def finish_child(self, run_id, status, reason=None):
        self.check(run_id)
        self.ends.append((run_id, str(status)))


class Scheduler(Recorder):
    """Hands out all runs at once; gives up runs and ends trials once a run was evaluated."""

    counts = n_scored = 0

    def __init__(self, decisions, given_up=(), ended=()):
        super().__init__()
        self.decisions, self.given_up, self.ended = decisions, dict(given_up), dict(ended)
        self.new_withdrawals, self.new_ends = [], []

    def tested(self, run, tests):
        self.told.append(("tested", run.key))
        self.new_withdrawals += self.given_up.pop(run.key, [])
        self.new_ends += self.ended.pop(run.key, [])

    def next_runs(self):
        new, self.decisions = self.decisions, []
        return new

    def withdrawals(self):
        new, self.new_withdrawals = self.new_withdrawals, []
        return new

    def ends(self):
        new, self.new_ends = self.new_ends, []
        return new

    def trial_tags(self, run):
        return {"trial": run.key}


class Display(Recorder):
    """Keeps what is shown of runs."""

    @property
    def done(self):
        return [key for what, key, *_ in self.told if what == "finished"]

    @property
    def ends(self):
        return {key: said[0] for what, key, *said in self.told if what == "ended"}

    @property
    def notes(self):
        reports = [said[0] for what, _, *said in self.told if what == "reported"]
        return [one.text for one in reports if isinstance(one, Noted)]

    def refresh(self):
        pass


def planned(index, repetition=0, stream="s"):
    config = SimpleNamespace(index=index, stream=stream, name="net")
    key = f"{index:02d}-r{repetition}"
    return SimpleNamespace(key=key, config=config, repetition=repetition, identity=key)


def decided(run, action, run_id, status="KILLED", attempt=1, **more):
    return RunDecision(
        run, ResumeAction[action], stored_run(run_id, status, attempt=attempt, **more)
    )


def ended(key, run, end, reason="why", error="trace"):
    return Event(key, {REPORT: Ended(run, end, reason, error)})


def over(key, state=OutcomeState.DONE, **more):
    return Outcome(key, state, **more)


def died(key, code=-signal.SIGSEGV):
    return over(key, OutcomeState.DIED, reason="it died", error="log", exitcode=code)


def all_done(key, runs, n):
    return [*(ended(key, run, RunEnd.DONE) for run in runs), over(key)]


def at_first(*events):
    """Return a script of what comes of the first job; all others are done.

    Each event is made from the job's key and its runs.
    """

    def script(key, runs, n):
        return [event(key, runs) for event in events] if n == 1 else all_done(key, runs, n)

    return script


def ends(end, reason="why"):
    return lambda key, runs: ended(key, runs[0], end, reason)


def process(state=OutcomeState.DONE, **more):
    return lambda key, runs: over(key, state, **more)


def process_dies(code=-signal.SIGSEGV):
    return lambda key, runs: died(key, code)


def is_evaluated(key, runs):
    return Event(key, {REPORT: Evaluated(runs[0], [(0, {"f1": 0.5})])})


@pytest.fixture
def bench(monkeypatch):
    """Run planned runs, or decisions, by a script; return what came of it."""
    for name in ("run_params", "dataset_infos", "full_configuration"):
        monkeypatch.setattr(descriptions, name, lambda *args: {})
    monkeypatch.setattr(descriptions, "run_name", lambda run: run.key)
    monkeypatch.setattr(children, "log_datasets", lambda *args: None)
    monkeypatch.setattr(dispatch, "count_oom_kills", lambda: 0)
    monkeypatch.setattr(dispatch, "show_status", lambda *args: None)

    def go(
        runs,
        script=all_done,
        *,
        branches=1,
        n_slots=1,
        stop_after=None,
        tags=(),
        score=(),
        gone=(),
        **said,
    ):
        """Stop before one more job than `stop_after`; children in `gone` are not there any more."""
        decisions = [
            one if isinstance(one, RunDecision) else RunDecision(one, ResumeAction.START)
            for one in runs
        ]
        study, display, scheduler = Study(tags), Display(), Scheduler(decisions, **said)
        study.gone |= set(gone)
        executor, checks = Executor(script, n_slots, study.send), count()
        corpus = SimpleNamespace(path=None, digest="c" * 64)
        plan = SimpleNamespace(corpus=corpus, holds_test_back=False)
        request = StudyRequest("x.py", branches=branches)
        dispatcher = Dispatcher(plan, study, scheduler, display, request, UserCode())
        dispatcher.score(score)

        def check():
            if next(checks) == stop_after:
                raise KeyboardInterrupt

        try:
            dispatcher.run(executor, SimpleNamespace(check=check))
        except KeyboardInterrupt:
            dispatcher.settle(executor)
        return SimpleNamespace(
            study=study,
            display=display,
            executor=executor,
            scheduler=scheduler,
            dispatcher=dispatcher,
        )

    return go


# --- Handing out ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("runs", "options", "groups"),
    [
        ([planned(i) for i in range(3)], {"branches": 1}, [[0], [1], [2]]),
        ([planned(i) for i in range(5)], {"branches": 2}, [[0, 1], [2, 3], [4]]),
        ([planned(i) for i in range(5)], {"branches": 4, "n_slots": 2}, [[0, 1, 2], [3], [4]]),
        ([planned(i, stream="xyxy"[i]) for i in range(4)], {"branches": 4}, [[0, 2], [1, 3]]),
        ([planned(i, repetition=i // 2) for i in range(4)], {"branches": 4}, [[0, 1], [2, 3]]),
    ],
    ids=["alone", "two", "every slot has its share", "streams", "repetitions"],
)
def test_branches_share_a_job(bench, runs, options, groups):
    found = bench(runs, **options)
    assert found.executor.jobs == [[runs[i].key for i in group] for group in groups]


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


def test_a_run_to_continue_is_gone_on_with_in_its_child_and_a_failed_one_in_another(bench):
    replaced = decided(planned(1), "REPLACE", "failed", "FAILED", 2)
    found = bench([decided(planned(0), "CONTINUE", "old", attempt=2), replaced])
    assert ("reopen_child", "old", {}) in found.study.told
    assert found.study.tags["old"] == {"ecg_mlflow.attempt": 3, "trial": "00-r0"}
    assert found.study.ends == [("old", "FINISHED"), ("01-r0 child 1", "FINISHED")]
    assert found.study.tags["01-r0 child 1"]["ecg_mlflow.attempt"] == 3


def test_what_is_finished_is_closed_where_only_that_was_missing(bench):
    found = bench(
        [
            decided(planned(0), "SKIP", "a", "FINISHED"),
            decided(planned(1), "SKIP", "b", "RUNNING"),
            decided(planned(2), "REUSE", "c", "FINISHED"),
            decided(planned(3), "LEAVE", "d", "FAILED"),
        ]
    )
    assert found.executor.jobs == []
    assert found.study.ends == [("b", "FINISHED")]
    assert found.display.ends.keys() == {"03-r0"}
    assert "retry_failed=true" in found.display.ends["03-r0"]


def test_a_stop_is_heard_before_a_run_is_opened(bench):
    found = bench([planned(0)], stop_after=0)
    assert (found.executor.jobs, found.study.tags) == ([], {})


def test_the_scheduler_is_told_of_everything(bench):
    def script(key, runs, n):
        if n == 1:
            return [is_evaluated(key, runs), *all_done(key, runs, n)]
        return [ended(key, runs[0], RunEnd.FAILED, "bad"), over(key)]

    found = bench([planned(0), planned(1)], script)
    assert found.scheduler.told == [
        ("handed_out", "00-r0", "00-r0 child 0"),
        ("tested", "00-r0"),
        ("finished", "00-r0", {}),
        ("handed_out", "01-r0", "01-r0 child 1"),
        ("failed", "01-r0"),
    ]


# --- Deaths and errors ---------------------------------------------------------------------------


def test_a_run_whose_process_died_goes_on_in_the_same_child(bench):
    found = bench([planned(0)], at_first(process_dies()))
    assert found.executor.exclusive == [False, False]
    assert found.study.ends == [("00-r0 child 0", "FINISHED")]
    assert found.study.tags["00-r0 child 0"]["ecg_mlflow.attempt"] == 2
    assert found.display.notes == ["it died; it goes on from iteration 0"]
    assert "reopen_child" not in {what for what, *_ in found.study.told}


def test_three_deaths_fail_the_run_and_not_the_study(bench, monkeypatch):
    delivered = []
    monkeypatch.setattr(children.ChildRuns, "deliver_rest", lambda _, run: delivered.append(run))

    def script(key, runs, n):
        return [died(key)] if runs == ["00-r0"] else all_done(key, runs, n)

    found = bench([planned(0), planned(1)], script)
    assert found.executor.jobs == [["00-r0"]] * MOST_DEATHS + [["01-r0"]]
    reason = "FAILED: 3 processes died under it; the last: it died"
    assert found.display.ends == {"00-r0": reason}
    assert delivered == ["00-r0 child 0"]
    assert found.study.tags["00-r0 child 0"]["ecg_mlflow.died"] == 3
    assert found.display.done == ["01-r0"]


def test_deaths_count_anew_when_the_run_has_got_further(bench):
    def script(key, runs, n):
        if n > 5:
            return all_done(key, runs, n)
        return [Event(key, {REPORT: Saved(runs[0], n)}), died(key)]

    assert bench([planned(0)], script).display.done == ["00-r0"]

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
    found = bench([planned(0)], at_first(process_dies(-signal.SIGKILL)))
    assert found.executor.exclusive == [False, exclusive]


def test_out_of_memory_in_a_run_is_tried_alone_on_the_device_whatever_ends_it_later(bench):
    def script(key, runs, n):
        if n == 1:
            rest = [ended(key, run, RunEnd.DONE) for run in runs[1:]]
            return [ended(key, runs[0], RunEnd.OUT_OF_MEMORY), *rest, over(key)]
        return [died(key)] if n == 2 else all_done(key, runs, n)

    found = bench([planned(i) for i in range(3)], script, branches=3)
    assert found.executor.jobs[1:] == [["00-r0"], ["00-r0"]]
    assert found.executor.exclusive == [False, True, True]
    assert sorted(found.display.done) == ["00-r0", "01-r0", "02-r0"]


@pytest.mark.parametrize("how", ["died", RunEnd.OUT_OF_MEMORY, RunEnd.BUSY, RunEnd.LOST])
def test_a_run_that_is_tried_again_comes_before_those_that_wait(bench, how):
    script = at_first(process_dies()) if how == "died" else at_first(ends(how), process())
    found = bench([planned(i) for i in range(3)], script)
    assert found.executor.jobs == [["00-r0"], ["00-r0"], ["01-r0"], ["02-r0"]]


@pytest.mark.parametrize(
    ("state", "n_alone", "said"),
    [
        (OutcomeState.FAILED, 1, "FAILED: a bad op"),
        (OutcomeState.DIED, 2, "3 processes died under it"),
    ],
)
def test_branches_are_tried_each_alone_and_before_those_that_wait(bench, state, n_alone, said):
    def script(key, runs, n):
        if "01-r0" in runs:
            return [over(key, state, reason="a bad op", error_type="ValueError")]
        return all_done(key, runs, n)

    found = bench([planned(i) for i in range(4)], script, branches=2)
    first, *again, last = found.executor.jobs
    assert (first, last) == (["00-r0", "01-r0"], ["02-r0", "03-r0"])
    assert sorted(again) == [["00-r0"], *[["01-r0"]] * n_alone]
    assert said in found.display.ends["01-r0"]
    assert sorted(found.display.done) == ["00-r0", "02-r0", "03-r0"]


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([ends(RunEnd.FAILED, "bad"), process()], "bad"),
        ([process()], "its process ended the job without a word on this run"),
    ],
)
def test_an_error_of_a_run_s_own_fails_it_at_once(bench, events, reason):
    found = bench([planned(0)], at_first(*events))
    assert len(found.executor.jobs) == 1
    assert found.display.ends == {"00-r0": f"FAILED: {reason}"}
    assert found.study.ends == [("00-r0 child 0", "FAILED")]
    assert "ecg_mlflow.died" not in found.study.tags["00-r0 child 0"]


def test_a_run_whose_checkpoint_is_lost_begins_anew_in_another_child(bench):
    script = at_first(ends(RunEnd.LOST, "damaged"), process())
    found = bench([decided(planned(0), "CONTINUE", "old", attempt=4)], script)
    assert found.study.ends == [("old", "KILLED"), ("00-r0 child 1", "FINISHED")]
    assert found.study.tags["old"]["ecg_mlflow.replaced"] == "00-r0 child 1"
    assert found.study.tags["00-r0 child 1"]["ecg_mlflow.attempt"] == 6
    told = [said[-1] for what, *said in found.scheduler.told if what == "handed_out"]
    assert told == ["old", *2 * ["00-r0 child 1"]], "at once, and when it is handed out"


@pytest.mark.parametrize("kind", [StorageError, TrackingError])
def test_what_is_wrong_with_the_machine_ends_the_study_unless_it_is_stopping(bench, kind):
    error_type = f"{kind.__module__}.{kind.__name__}"
    script = at_first(process(OutcomeState.FAILED, reason="no room", error_type=error_type))
    with pytest.raises(kind, match="no room"):
        bench([planned(0), planned(1)], script)
    found = bench([planned(0)], script, stop_after=1)
    assert found.study.ends == [("00-r0 child 0", "KILLED")]


# --- Giving up -----------------------------------------------------------------------------------

GIVEN_UP = at_first(is_evaluated, ends(RunEnd.PRUNED, "worse"), process())


def is_evaluated_and_done(key, runs, n):
    return [is_evaluated(key, runs), *all_done(key, runs, n)]


def worse(*runs):
    """Say that these are given up when the first run of all was evaluated."""
    return {"00-r0": [(run, "worse") for run in runs]}


def test_a_run_under_way_is_marked_in_the_store_before_its_worker_is_told(bench):
    run = planned(0)
    found = bench([run], GIVEN_UP, given_up=worse(run))
    said = [one for one in found.study.told if one[0] in ("tag", "send")]
    assert said[:2] == [
        ("tag", "00-r0 child 0", {"ecg_mlflow.pruned": "worse"}),
        ("send", "00-r0 #1", {"prune": "00-r0", "reason": "worse"}),
    ]
    assert found.study.tags["00-r0 child 0"]["ecg_mlflow.pruned"] == "worse"
    assert found.study.ends == [("00-r0 child 0", "KILLED")]
    assert found.display.ends == {"00-r0": "worse"}
    assert "failed" not in {what for what, *_ in found.scheduler.told}


def test_the_end_of_a_trial_is_stored_before_anything_that_follows(bench):
    first, second = planned(0), planned(0, repetition=1)
    found = bench(
        [first, second],
        GIVEN_UP,
        given_up=worse(first, second),
        ended={"00-r0": [(["00-r0 child 0"], TrialEnd(0, 1, 0, TrialState.PRUNED))]},
    )
    stored = list(found.study.tags["00-r0 child 0"])
    assert stored.index("trial") < stored.index(TRIAL_END_TAG) < stored.index("ecg_mlflow.pruned")
    assert found.display.ends == {"00-r0": "worse", "00-r1": "worse"}
    assert found.executor.jobs == [["00-r0"]]
    assert list(found.study.tags) == ["00-r0 child 0"], "who waits is not opened"


def test_a_waiting_run_that_is_in_the_store_already_ends_there(bench):
    old = decided(planned(0, repetition=1), "CONTINUE", "old")
    decisions = [RunDecision(planned(0), ResumeAction.START), old]
    found = bench(decisions, is_evaluated_and_done, given_up=worse(old.run))
    assert ("old", "KILLED") in found.study.ends
    assert found.study.tags["old"]["ecg_mlflow.pruned"] == "worse"


@pytest.mark.parametrize(
    ("script", "status", "said", "done"),
    [
        (at_first(is_evaluated, process_dies()), "KILLED", {"00-r0": "worse"}, []),
        (is_evaluated_and_done, "FINISHED", {}, ["00-r0"]),
    ],
    ids=["its process dies", "it ends before it hears of it"],
)
def test_a_run_that_was_given_up_is_not_tried_again(bench, script, status, said, done):
    run = planned(0)
    found = bench([run], script, given_up=worse(run))
    assert len(found.executor.jobs) == 1
    assert found.study.ends == [("00-r0 child 0", status)]
    assert (found.display.ends, found.display.done) == (said, done)


def test_a_run_that_has_left_the_grid_is_dropped_without_a_word(bench):
    runs = [planned(0), planned(1)]
    given_up = {"00-r0": [(runs[1], "")]}
    found = bench(runs, is_evaluated_and_done, given_up=given_up)
    assert (found.display.ends, found.display.done) == ({}, ["00-r0"])


def test_a_pruned_run_that_another_driver_left_running_is_ended(bench):
    decision = decided(planned(0), "PRUNED", "old", "RUNNING")
    found = bench([decision])
    assert found.study.ends == [("old", "KILLED")]
    assert "pruned in another session" in found.study.tags["old"]["ecg_mlflow.pruned"]
    found = bench([decision], tags={"old": {"ecg_mlflow.pruned": "worse"}})
    assert found.study.tags["old"]["ecg_mlflow.pruned"] == "worse"
    assert found.executor.jobs == []


def test_a_pruned_run_that_was_reaped_still_delivers_what_its_checkpoint_holds(bench):
    decision = decided(planned(0), "PRUNED", "old", is_pruned=True)
    assert bench([decision]).study.ends == []
    path = checkpoint_path("old")
    save_checkpoint(path, Checkpoint({"pending": []}, {}))
    assert bench([decision]).study.ends == [("old", "KILLED")]
    assert not path.exists()


# --- The test records ----------------------------------------------------------------------------


@pytest.fixture
def final(bench):
    """Score two finished runs of a trial, and leave a third one, which is scored."""

    def go(script, **options):
        runs = [planned(0, repetition) for repetition in range(3)]
        metrics = {0: {"f1": 0.5}, 1: {"f1": 0.5}, 2: {"f1": 0.5, "test_f1": 0.5}}
        return bench(
            [decided(run, "SKIP", run.key, "FINISHED") for run in runs],
            script,
            score=[SimpleNamespace(runs=runs, metrics=metrics, run_ids=dict(enumerate("abc")))],
            branches=3,
            **options,
        )

    return go


def scores(key, runs, n):
    return [over(key, value={"test_f1": 0.5})]


def test_each_run_of_a_finalist_is_scored_once(final):
    found = final(scores)
    assert found.executor.jobs == [["00-r0"], ["00-r1"]]
    assert found.scheduler.told == [("scored", f"00-r{i}", {"test_f1": 0.5}) for i in range(2)]
    assert found.dispatcher.n_unscored == 0
    assert (found.study.tags, found.study.ends) == ({}, [])


@pytest.mark.parametrize(
    ("state", "n_times", "n_jobs", "n_unscored"),
    [
        (OutcomeState.DIED, 1, 3, 0),
        (OutcomeState.DIED, 99, 2 * MOST_DEATHS, 2),
        (OutcomeState.FAILED, 99, 2, 2),
    ],
)
def test_a_death_is_tried_again_and_an_error_is_told(final, state, n_times, n_jobs, n_unscored):
    def script(key, runs, n):
        return [over(key, state, reason="no model")] if n <= n_times else scores(key, runs, n)

    found = final(script)
    assert (len(found.executor.jobs), found.dispatcher.n_unscored) == (n_jobs, n_unscored)
    said = "its test records could not be scored: no model"
    assert found.display.notes == [said] * n_unscored
    assert found.study.ends == []


def test_scoring_that_is_stopped_leaves_its_run_as_it_is(final):
    found = final(lambda key, runs, n: [over(key, OutcomeState.CANCELLED)], stop_after=1)
    assert (found.study.ends, found.dispatcher.n_unscored) == ([], 0)


# --- Runs that are gone --------------------------------------------------------------------------

A, B = "00-r0 child 0", "01-r0 child 1"


@pytest.mark.parametrize(
    "events",
    [
        (ends(RunEnd.GONE), process()),
        (ends(RunEnd.DONE), process()),
        (ends(RunEnd.FAILED), process()),
        (ends(RunEnd.DIED), process()),
        (process_dies(),),
        (process(OutcomeState.FAILED, reason="bad"),),
    ],
    ids=["as its worker says", "done", "failed", "died", "with its process", "with its job"],
)
def test_a_run_whose_child_is_gone_is_given_up_and_the_others_go_on(bench, events):
    found = bench([planned(0), planned(1)], at_first(*events), gone=[A])
    assert found.study.ends == [(B, "FINISHED")]
    assert ("forget_child", A) in found.study.told
    assert [key for what, key, *_ in found.scheduler.told if what == "gone"] == ["00-r0"]
    assert found.display.ends["00-r0"].startswith("given up: ")
    assert len(found.executor.jobs) == 2


def test_a_child_that_is_gone_before_its_run_is_resumed_costs_the_others_nothing(bench):
    gone = decided(planned(0), "CONTINUE", "old")
    found = bench([gone, planned(1)], branches=2, gone=["old"])
    assert found.executor.jobs == [["01-r0"]]
    assert ("gone", "00-r0") in found.scheduler.told


def test_runs_that_are_gone_do_not_hinder_the_end_of_a_stopped_study(bench):
    def script(key, runs, n):
        return [over(key, OutcomeState.CANCELLED)]

    found = bench([planned(0), planned(1)], script, branches=2, gone=[A], stop_after=1)
    assert found.study.ends == [("01-r0 child 1", "KILLED")]


def test_a_run_of_a_pruned_trial_may_be_gone(bench):
    first, second = planned(0), planned(0, repetition=1)
    end = TrialEnd(0, 1, 0, TrialState.PRUNED)
    found = bench(
        [first, decided(second, "CONTINUE", "old")],
        GIVEN_UP,
        given_up=worse(first, second),
        ended={"00-r0": [([A, "another"], end)]},
        gone=[A, "old"],
        tags={"another": {}},
    )
    assert TRIAL_END_TAG in found.study.tags["another"], "stored in the next child that is there"


def test_a_parent_that_is_gone_stops_the_study(bench):
    def script(key, runs, n):
        raise RunGoneError("run parent was deleted", "parent")

    with pytest.raises(RunGoneError, match="run parent was deleted"):
        bench([planned(0), planned(1)], script)
