"""Promotions in turn, what a death leaves of them, and the way back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from servers import MlflowServer, free_port

from ecg_mlflow.errors import PromotionError, TrackingError
from ecg_mlflow.provenance import HEARTBEAT_TAG, ProcessMark
from ecg_mlflow.tracking import promotion_lock
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.entering import enter
from ecg_mlflow.tracking.promotion_lock import fitting
from ecg_mlflow.tracking.registry import champion, rollback
from ecg_mlflow.tracking.settling import lives
from ecg_mlflow.tracking.versions import (
    CHALLENGER,
    GUARD_TAG,
    ORDER_TAG,
    PASSED_OVER_TAG,
    PREVIOUS_TAG,
    Decision,
    find_version,
    pending_versions,
)

DEAD = replace(ProcessMark.own(), pid=2**22 + 1, birth="1").tags()
RUN = "0" * 32


@pytest.fixture
def name():
    return f"af {uuid.uuid4().hex[:8]}"


def enter_one(client, name, **kwargs):
    return enter(client, name, "/models/x", run_id=RUN, **kwargs)


def decide(client, name, *, promoted=True, **kwargs):
    with enter_one(client, name) as ticket:
        ticket.wait_for_turn(pytest.fail)
        written = ticket.decide(
            promoted=promoted, reason="better", against=ticket.champion(), **kwargs
        )
        assert written
    return ticket.version


def version(client, name, number):
    return find_version(client, name, number)


def decisions(client, name, n):
    return [version(client, name, i + 1).decision for i in range(n)]


def mark_dead(client, name, number):
    for key, value in DEAD.items():
        client.set_model_version_tag(name, str(number), key, value)


def aliases(client, name):
    return {a: int(v) for a, v in client.get_registered_model(name).aliases.items()}


# --- One after the other --------------------------------------------------------------------------


def test_the_first_is_promoted_and_the_next_replaces_it(client, name):
    assert champion(client, name) is None
    decide(client, name, tags={"ecg_mlflow.f1": 0.8}, report="# Why\nIt is the first.")
    first = champion(client, name)
    assert (first.version, first.decision, first.run_id) == (1, "promoted", RUN)
    assert first.uri == f"models:/{name}/1"
    assert first.tags["ecg_mlflow.f1"] == "0.8"
    assert first.tags["ecg_mlflow.reason"] == "better"
    assert first.tags[PREVIOUS_TAG] == "none"
    assert client.get_model_version(name, "1").description == "# Why\nIt is the first."
    decide(client, name)
    assert champion(client, name).tags[PREVIOUS_TAG] == "1"
    assert aliases(client, name) == {"champion": 2}


def test_a_refused_one_is_the_challenger_until_the_next(client, name):
    decide(client, name)
    decide(client, name, promoted=False)
    assert aliases(client, name) == {"champion": 1, CHALLENGER: 2}
    decide(client, name, promoted=False)
    assert aliases(client, name) == {"champion": 1, CHALLENGER: 3}
    assert decisions(client, name, 3) == ["promoted", "refused", "refused"]


def test_another_alias_has_a_champion_of_its_own(client, name):
    decide(client, name)
    with enter_one(client, name, alias="holter") as ticket:
        assert ticket.champion() is None
        ticket.decide(promoted=True, reason="", against=None)
    assert aliases(client, name) == {"champion": 1, "holter": 2}
    assert champion(client, name, "holter").version == 2


@pytest.mark.parametrize("alias", ["latest", "v3", "a b", "", "challenger", "LATEST"])
def test_an_alias_that_cannot_be_given_is_refused_before_anything_is_made(client, name, alias):
    with pytest.raises(PromotionError, match="alias"):
        enter_one(client, name, alias=alias)
    assert champion(client, name) is None
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(name)


def test_a_name_with_a_quote(client):
    name = f"o'brien {uuid.uuid4().hex[:8]}"
    decide(client, name)
    assert decide(client, name) == 2


def test_a_name_that_mlflow_refuses(client):
    with pytest.raises(TrackingError, match="could not register a model as 'a/b'"):
        enter_one(client, "a/b")


def test_who_leaves_without_a_decision_lets_the_next_pass(client, name):
    with pytest.raises(ZeroDivisionError), enter_one(client, name):
        raise ZeroDivisionError("scoring failed")
    with pytest.raises(KeyboardInterrupt), enter_one(client, name):
        raise KeyboardInterrupt
    with enter_one(client, name):
        pass
    assert decisions(client, name, 3) == ["abandoned"] * 3
    reasons = [version(client, name, i).tags["ecg_mlflow.reason"] for i in (1, 2, 3)]
    assert reasons == [
        "ZeroDivisionError: scoring failed",
        "KeyboardInterrupt",
        "nothing was decided",
    ]
    assert decide(client, name) == 4


def test_what_cannot_be_linked_is_abandoned(client, name):
    with pytest.raises(TrackingError, match="m-nowhere"):
        enter_one(client, name, model_id="m-nowhere")
    assert decisions(client, name, 1) == ["abandoned"]


def test_the_logged_model_names_its_versions(client, name, run_id):
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment_id, name="best", source_run_id=run_id)
    with enter(
        client, name, model.artifact_location, run_id=run_id, model_id=model.model_id
    ) as ticket:
        ticket.decide(promoted=True, reason="", against=None)
    found = champion(client, name)
    assert (found.model_id, found.run_id) == (model.model_id, run_id)
    tag = client.get_logged_model(model.model_id).tags["mlflow.modelVersions"]
    assert json.loads(tag) == [{"name": name, "version": 1}]


def test_a_model_that_was_registered_by_hand_is_known_by_its_place(client, name):
    model_id = "m-" + "ab" * 16
    client.create_registered_model(name)
    client.create_model_version(name, f"/mlruns/1/models/{model_id}/artifacts")
    client.set_registered_model_alias(name, "champion", "1")
    found = champion(client, name)
    assert (found.model_id, found.run_id, found.decision) == (model_id, "", "")


def test_a_long_report_is_cut_at_a_line(client, name):
    report = "\n".join(f"- line {i}" for i in range(900))
    decide(client, name, report=report)
    text = client.get_model_version(name, "1").description
    assert len(text) <= 5000
    kept, mark = text.split("\n\n")
    assert report.startswith(kept + "\n")
    assert mark == f"... (cut: it has {len(report)} characters)"
    assert fitting("a" * 5000) == "a" * 5000
    assert len(fitting("a" * 5001)) == 5000


# --- Who waits for whom ---------------------------------------------------------------------------


def test_the_later_one_waits_and_says_for_whom(client, name):
    first, second = enter_one(client, name), enter_one(client, name)
    told = []

    def on_wait(whom):
        told.append(whom)
        first.decide(promoted=True, reason="", against=None)

    second.wait_for_turn(on_wait, pause_s=0.01)
    assert told == [f"version 1 of {name}, which {ProcessMark.own()} is judging"]
    assert second.champion().version == 1


def test_waiting_can_be_ended(client, name):
    with enter_one(client, name), enter_one(client, name) as second:

        def interrupt(whom):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            second.wait_for_turn(interrupt)
    assert decisions(client, name, 2) == ["abandoned", "abandoned"]


def test_who_waits_gives_signs_of_life(client, name, monkeypatch):
    monkeypatch.setattr(promotion_lock, "HEARTBEAT_S", 0.0)
    first, second = enter_one(client, name), enter_one(client, name)
    long_ago = "2020-01-01T00:00:00+00:00"
    for one in (first, second):
        client.set_model_version_tag(name, str(one.version), HEARTBEAT_TAG, long_ago)
    looks = []

    def sleep(seconds):
        looks.append(version(client, name, 2).tags[HEARTBEAT_TAG])
        first.decide(promoted=False, reason="", against=None)

    monkeypatch.setattr(promotion_lock.time, "sleep", sleep)
    second.wait_for_turn()
    assert len(looks) == 1
    assert looks[0] > long_ago
    second.beat()
    assert version(client, name, 1).tags[HEARTBEAT_TAG] > long_ago, "deciding is a sign of life"


def test_the_dead_are_passed_over(client, name):
    enter_one(client, name)
    mark_dead(client, name, 1)
    assert decide(client, name) == 2
    first = version(client, name, 1)
    assert first.decision == "abandoned"
    assert "has ended without a decision" in first.tags["ecg_mlflow.reason"]


@pytest.mark.parametrize(("silent_s", "waited_for"), [(5, True), (999, False)])
def test_on_another_machine_heartbeats_decide(client, name, silent_s, waited_for):
    enter_one(client, name)
    beat = (datetime.now(UTC) - timedelta(seconds=silent_s)).isoformat()
    there = {**replace(ProcessMark.own(), host="elsewhere").tags(), HEARTBEAT_TAG: beat}
    for key, value in there.items():
        client.set_model_version_tag(name, "1", key, value)
    told = []

    def stop(whom):
        told.append(whom)
        raise KeyboardInterrupt

    try:
        with enter_one(client, name) as second:
            second.wait_for_turn(stop)
    except KeyboardInterrupt:
        assert waited_for
    assert bool(told) is waited_for
    assert version(client, name, 1).decision == ("pending" if waited_for else "abandoned")


def test_who_was_passed_over_decides_no_more(client, name):
    ticket = enter_one(client, name)
    client.set_model_version_tag(name, "1", PASSED_OVER_TAG, "now")
    with pytest.raises(PromotionError, match="passed over"):
        ticket.decide(promoted=True, reason="", against=None)
    assert champion(client, name) is None


def test_a_sign_of_life_in_the_last_moment_counts(client, name):
    enter_one(client, name)
    elsewhere = replace(ProcessMark.own(), host="elsewhere").tags()
    for key, value in elsewhere.items():
        client.set_model_version_tag(name, "1", key, value)
    fresh = version(client, name, 1)
    stale = replace(fresh, tags={**fresh.tags, HEARTBEAT_TAG: "2020-01-01T00:00:00+00:00"})
    assert lives(client, stale)
    now = version(client, name, 1)
    assert now.decision == "pending"
    assert PASSED_OVER_TAG not in now.tags


def test_a_version_that_a_lost_answer_left_is_given_up(client, name):
    ticket = enter_one(client, name)
    tags = dict(version(client, name, 1).tags)
    client.create_model_version(name, "/models/x", tags=tags)  # a patient client asks again
    second = replace_version(ticket, 2)
    second.wait_for_turn(pytest.fail)
    assert decisions(client, name, 2) == ["abandoned", "pending"]


def replace_version(ticket, number):
    """The ticket as the second answer would have given it."""
    order = version(ticket.client, ticket.name, 1).tags[ORDER_TAG]
    return type(ticket)(ticket.client, ticket.name, number, ticket.alias, order)


# --- The last moment ------------------------------------------------------------------------------


def test_a_champion_that_was_changed_by_hand_is_to_be_judged_against(client, name):
    decide(client, name)
    decide(client, name)
    with enter_one(client, name) as ticket:
        judged = ticket.champion()
        client.set_registered_model_alias(name, "champion", "1")
        assert not ticket.decide(promoted=True, reason="", against=judged)
        assert version(client, name, 3).decision == "pending"
        assert ticket.decide(promoted=True, reason="", against=ticket.champion())
    assert champion(client, name).tags[PREVIOUS_TAG] == "1"


def test_a_champion_that_was_deleted_meanwhile(client, name):
    decide(client, name)
    with enter_one(client, name) as ticket:
        judged = ticket.champion()
        client.delete_model_version(name, "1")
        assert not ticket.decide(promoted=True, reason="", against=judged)
        assert ticket.champion() is None
        assert ticket.decide(promoted=True, reason="first again", against=None)
    assert champion(client, name).tags[PREVIOUS_TAG] == "none"


def test_who_was_deleted_while_being_judged(client, name):
    with enter_one(client, name) as ticket:
        client.delete_model_version(name, "1")
        with pytest.raises(PromotionError, match=r"version 1 of .* was deleted"):
            ticket.decide(promoted=True, reason="", against=None)


def test_nothing_is_decided_twice(client, name):
    with enter_one(client, name) as ticket:
        ticket.decide(promoted=False, reason="too slow", against=None)
        with pytest.raises(PromotionError, match="is refused already: too slow"):
            ticket.decide(promoted=True, reason="", against=None)


def test_an_alias_given_by_hand_to_what_is_being_judged(client, name):
    with enter_one(client, name) as ticket:
        client.set_registered_model_alias(name, "champion", "1")
        with pytest.raises(PromotionError, match="before it was decided"):
            ticket.decide(promoted=True, reason="", against=None)
    assert decisions(client, name, 1) == ["abandoned"]


# --- Deaths in the middle -------------------------------------------------------------------------


class DiedError(BaseException):
    """Stands for a kill: nothing that catches exceptions runs after it."""


class Mortal:
    """A client that dies instead of the write of that number; 0 is the first."""

    WRITES = (
        *("set_model_version_tag", "set_registered_model_alias", "update_model_version"),
        *("set_registered_model_tag", "delete_registered_model_tag"),
    )

    def __init__(self, client, dies_at):
        self._client, self._left, self.died = client, dies_at, False

    def __getattr__(self, attribute):
        if attribute in self.WRITES:
            if self.died or self._left == 0:
                self.died = True
                raise DiedError
            self._left -= 1
        return getattr(self._client, attribute)


@pytest.mark.parametrize("promoted", [True, False])
def test_a_death_anywhere_in_a_decision_leaves_what_can_be_gone_on_from(client, name, promoted):
    decide(client, name)
    seen = set()
    for dies_at in range(20):
        before = champion(client, name)
        ticket = enter_one(client, name)
        ticket.client = Mortal(client, dies_at)
        try:
            ticket.decide(
                promoted=promoted, reason="because", against=before, report="r", tags={"f1": 1}
            )
        except DiedError:
            mark_dead(client, name, ticket.version)
        # The next one goes on, from whatever is there.
        left = aliases(client, name)
        decide(client, name, promoted=False)
        found = version(client, name, ticket.version)
        has_moved = left.get("champion" if promoted else CHALLENGER) == ticket.version
        decision = "promoted" if promoted else "refused"
        assert found.decision == (decision if has_moved else "abandoned")
        assert left["champion"] == (ticket if promoted and has_moved else before).version
        if has_moved:
            assert found.tags[PREVIOUS_TAG] == str(before.version)
            assert found.tags["ecg_mlflow.reason"] == "because"
        seen.add((found.decision, ticket.client.died))
        if not ticket.client.died:
            break
    assert not ticket.client.died
    assert seen == {("abandoned", True), (decision, True), (decision, False)}


def test_a_death_anywhere_in_a_rollback_is_mended_by_another_one(client, name):
    decide(client, name)
    for dies_at in range(20):
        decide(client, name)
        before = champion(client, name)
        mortal = Mortal(client, dies_at)
        try:
            rollback(mortal, name)
        except DiedError:
            guard = client.get_registered_model(name).tags.get(GUARD_TAG)
            if guard:  # whose process is dead too
                dead = json.dumps({**json.loads(guard), **DEAD})
                client.set_registered_model_tag(name, GUARD_TAG, dead)
        if champion(client, name).version == before.version:
            rollback(client, name)
        assert champion(client, name).version == 1
        assert version(client, name, before.version).decision == "rolled back"
        if not mortal.died:
            break
    assert not mortal.died


def test_a_store_that_fails_in_the_middle(client, name, monkeypatch):
    def fail(*_):
        raise MlflowException("disk full")

    with enter_one(client, name) as ticket, monkeypatch.context() as patch:
        patch.setattr(type(client), "set_registered_model_alias", fail)
        with pytest.raises(TrackingError, match="the alias 'champion': disk full"):
            ticket.decide(promoted=True, reason="", against=None)
    assert decisions(client, name, 1) == ["abandoned"]


@pytest.mark.parametrize("call", ["set_model_version_tag", "set_registered_model_alias"])
def test_what_another_process_sets_at_the_same_moment(client, name, monkeypatch, call):
    real, failures = getattr(type(client), call), [True]

    def quickly(self, *args):
        if failures:
            failures.pop()
            real(self, *args[:-1], "1" if call.endswith("alias") else "of the other process")
            raise MlflowException("(sqlite3.IntegrityError) UNIQUE constraint failed")
        return real(self, *args)

    monkeypatch.setattr(type(client), call, quickly)
    decide(client, name)
    assert champion(client, name).decision == "promoted"
    assert not failures


def test_a_number_that_others_were_quicker_to_take(client, name, monkeypatch):
    real, failures = type(client).create_model_version, [True] * 4

    def create(self, *args, **kwargs):
        if failures and failures.pop():
            raise MlflowException(
                "Model Version creation error (name=x). Giving up after 3 attempts."
            )
        return real(self, *args, **kwargs)

    monkeypatch.setattr(type(client), "create_model_version", create)
    assert enter_one(client, name).version == 1
    assert not failures


# --- Back -----------------------------------------------------------------------------------------


def test_a_rollback_goes_back_one_by_one(client, name):
    for promoted in (True, True, False, True):
        decide(client, name, promoted=promoted)
    back = rollback(client, name)
    assert (back.left.version, back.restored.version) == (4, 2)
    assert str(back) == f"{name}@champion is version 2 again; version 4 was rolled back"
    assert champion(client, name).version == 2
    left, restored = version(client, name, 4), version(client, name, 2)
    assert left.decision == Decision.ROLLED_BACK
    assert left.tags["ecg_mlflow.rolled_back"].startswith("20")
    assert restored.tags["ecg_mlflow.restored"].endswith("after version 4")
    assert rollback(client, name).restored.version == 1
    with pytest.raises(PromotionError, match=r"version 1 .* was the first"):
        rollback(client, name)
    assert GUARD_TAG not in client.get_registered_model(name).tags


def test_after_a_rollback_the_right_one_is_replaced(client, name):
    for _ in range(3):
        decide(client, name)
    rollback(client, name)
    decide(client, name)
    assert champion(client, name).tags[PREVIOUS_TAG] == "2"
    assert rollback(client, name).restored.version == 2
    assert rollback(client, name).restored.version == 1


def test_a_rollback_to_what_was_deleted(client, name):
    decide(client, name)
    decide(client, name)
    client.delete_model_version(name, "1")
    with pytest.raises(PromotionError, match=r"version 1, which was deleted .*by hand: Mlflow"):
        rollback(client, name)
    assert champion(client, name).version == 2
    assert champion(client, name).decision == "promoted"


def test_a_champion_by_hand_has_no_way_back(client, name):
    decide(client, name)
    decide(client, name, promoted=False)
    client.set_registered_model_alias(name, "beta", "1")
    with pytest.raises(PromotionError, match=r"version 1 .*'beta', but was not promoted to it"):
        rollback(client, name, "beta")
    client.create_model_version(name, "/models/y")
    client.set_registered_model_alias(name, "champion", "3")
    with pytest.raises(PromotionError, match="was not promoted to it by ecg-mlflow"):
        rollback(client, name)


def test_nothing_to_take_back(client, name):
    with pytest.raises(PromotionError, match=f"no model is registered as '{name}'"):
        rollback(client, name)
    decide(client, name, promoted=False)
    with pytest.raises(PromotionError, match="no version with the alias 'champion'"):
        rollback(client, name)
    decide(client, name)
    client.delete_registered_model_alias(name, "champion")
    assert champion(client, name) is None
    with pytest.raises(PromotionError, match="no version with the alias 'champion'"):
        rollback(client, name)


def test_no_rollback_while_a_promotion_goes_on(client, name):
    decide(client, name)
    decide(client, name)
    with enter_one(client, name), pytest.raises(PromotionError, match=r"version 3 .*being judged"):
        rollback(client, name)
    assert rollback(client, name).restored.version == 1


def test_a_dead_promotion_does_not_keep_from_a_rollback(client, name):
    decide(client, name)
    decide(client, name)
    enter_one(client, name)
    mark_dead(client, name, 3)
    assert rollback(client, name).restored.version == 1


def test_a_promotion_waits_for_a_rollback_that_goes_on(client, name):
    decide(client, name)
    guard = json.dumps({**ProcessMark.own().tags(), HEARTBEAT_TAG: "x"})
    client.set_registered_model_tag(name, GUARD_TAG, guard)
    told = []

    def on_wait(whom):
        told.append(whom)
        client.delete_registered_model_tag(name, GUARD_TAG)

    with enter_one(client, name) as ticket:
        ticket.wait_for_turn(on_wait, pause_s=0.01)
    assert "takes back an alias" in told[0]
    client.set_registered_model_tag(name, GUARD_TAG, guard)
    with pytest.raises(PromotionError, match="is taking back an alias"):
        rollback(client, name)
    client.set_registered_model_tag(name, GUARD_TAG, json.dumps(DEAD))
    decide(client, name)


def test_a_store_that_is_gone(name, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    lost = MlflowClient(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(TrackingError, match="could not look for the registered model"):
        champion(lost, name)
    with pytest.raises(TrackingError, match="could not register a model"):
        enter_one(lost, name)


# --- Many at once ---------------------------------------------------------------------------------

PROMOTER = """
import sys, time
from pathlib import Path
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.entering import enter

uri, name, score, go, holds = sys.argv[1:]
client = connect(uri)
print("ready", flush=True)
while not Path(go).exists():
    time.sleep(0.01)
with enter(client, name, "s3://models/x", run_id="0" * 32,
           tags={"score": score}) as ticket:
    print("entered", flush=True)
    while holds == "hold":
        time.sleep(0.1)
    decided = False
    while not decided:
        ticket.wait_for_turn(pause_s=0.1)
        champion = ticket.champion()
        better = champion is None or float(score) > float(champion.tags["score"])
        against = champion.tags["score"] if champion else "nobody"
        decided = ticket.decide(promoted=better, reason=f"against {against}", against=champion)
"""
SCORES = ("0.5", "0.3", "0.9", "0.1", "0.7", "0.8")


@pytest.fixture(params=["sqlite", pytest.param("server", marks=pytest.mark.server)])
def shared_store(request, store_uri, tmp_path):
    if request.param == "sqlite":
        yield store_uri
        return
    server = MlflowServer(store_uri, tmp_path, workers=2)
    server.start()
    try:
        server.wait_until_up()
        yield server.uri
    finally:
        server.kill()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
def test_promotions_at_once_take_turns(shared_store, name, tmp_path):
    def promoter(score, holds):
        return subprocess.Popen(
            [sys.executable, "-c", PROMOTER, shared_store, name, score, str(go), holds],
            stdout=subprocess.PIPE,
            text=True,
        )

    client = connect(shared_store)
    go = tmp_path / "go"
    go.touch()
    holder = promoter("0.99", "hold")
    assert holder.stdout.readline() == "ready\n"
    assert holder.stdout.readline() == "entered\n"
    go.unlink()
    promoters = [promoter(score, "") for score in SCORES]
    try:
        for one in promoters:
            assert one.stdout.readline() == "ready\n"
        go.touch()
        for one in promoters:
            assert one.stdout.readline() == "entered\n"
        assert len(pending_versions(client, name)) == 7, "all wait for the first"
        holder.send_signal(signal.SIGKILL)
        for one in promoters:
            assert one.wait(1000) == 0
    finally:
        for one in (holder, *promoters):
            one.kill()
            one.communicate()
    versions = [version(client, name, i) for i in range(1, 8)]
    assert versions[0].decision == "abandoned"
    # What one process would have decided, one version after the other.
    best, holder_version = None, "none"
    for one in versions[1:]:
        score = one.tags["score"]
        promoted = best is None or float(score) > float(best)
        assert one.decision == ("promoted" if promoted else "refused")
        assert one.tags["ecg_mlflow.reason"] == f"against {best or 'nobody'}"
        assert one.tags[PREVIOUS_TAG] == holder_version
        if promoted:
            best, holder_version = score, str(one.version)
    assert sorted(one.tags["score"] for one in versions[1:]) == sorted(SCORES)
    assert champion(client, name).tags["score"] == "0.9"
    assert not pending_versions(client, name)
