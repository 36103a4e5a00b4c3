"""Promotions one at a time, what a death leaves of them, and the way back."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import uuid
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from mlflow.exceptions import MlflowException

from ecg_mlflow.errors import ModelError, PromotionError, TrackingError
from ecg_mlflow.provenance import HEARTBEAT_TAG, ProcessMark
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.promotion_lock import (
    cut_description,
    open_promotion,
    promotion_lock,
    rollback,
)
from ecg_mlflow.tracking.registry import (
    CHALLENGER,
    PREVIOUS_TAG,
    Decision,
    champion,
    find_version,
    find_versions,
)

DEAD = replace(ProcessMark.own(), pid=2**22 + 1, birth="1").tags()
ELSEWHERE = replace(ProcessMark.own(), host="elsewhere").tags()
RUN = "0" * 32


@pytest.fixture
def name():
    return f"af {uuid.uuid4().hex[:8]}"


@pytest.fixture
def other_machine(tmp_path, monkeypatch):
    """Let a block run as on a machine that shares no files with this one."""

    @contextmanager
    def there():
        with monkeypatch.context() as patch:
            patch.setenv("ECG_MLFLOW_CACHE", str(tmp_path / "elsewhere"))
            yield

    return there


def open_one(client, name, **kwargs):
    return open_promotion(client, name, "/models/x", run_id=RUN, **kwargs)


def decide(client, name, *, promoted=True, **kwargs):
    with open_one(client, name, on_wait=pytest.fail) as promotion:
        against = promotion.champion()
        assert promotion.decide(promoted=promoted, reason="better", against=against, **kwargs)
    return promotion.version


def leave_pending(client, name, marks):
    """Register a version as a process does that ends, or is elsewhere, before it decides."""
    client.create_registered_model(name)
    tags = {"ecg_mlflow.decision": "pending", "ecg_mlflow.alias": "champion", **marks}
    client.create_model_version(name, "/models/x", RUN, tags=tags)


def version(client, name, number):
    return find_version(client, name, number)


def decisions(client, name, n):
    return [version(client, name, i + 1).decision for i in range(n)]


def aliases(client, name):
    return {a: int(v) for a, v in client.get_registered_model(name).aliases.items()}


# --- One after the other --------------------------------------------------------------------------


def test_the_first_is_promoted_and_the_next_replaces_it(client, name):
    decide(client, name, tags={"ecg_mlflow.f1": 0.8}, report="# Why\nIt is the first.")
    first = champion(client, name)
    assert (first.version, first.decision, first.run_id) == (1, "promoted", RUN)
    assert first.tags["ecg_mlflow.f1"] == "0.8"
    assert first.tags["ecg_mlflow.reason"] == "better"
    assert first.tags[PREVIOUS_TAG] == "none"
    assert client.get_model_version(name, "1").description == "# Why\nIt is the first."
    decide(client, name)
    assert champion(client, name).tags[PREVIOUS_TAG] == "1"
    assert aliases(client, name) == {"champion": 2}


def test_a_refused_one_is_the_challenger_until_the_next(client, name):
    decide(client, name)
    for number in (2, 3):
        decide(client, name, promoted=False)
        assert aliases(client, name) == {"champion": 1, CHALLENGER: number}
    assert decisions(client, name, 3) == ["promoted", "refused", "refused"]


def test_another_alias_has_a_champion_of_its_own(client, name):
    decide(client, name)
    with open_one(client, name, alias="holter") as promotion:
        assert promotion.champion() is None
        promotion.decide(promoted=True, reason="", against=None)
    assert aliases(client, name) == {"champion": 1, "holter": 2}


@pytest.mark.parametrize("alias", ["latest", "v3", "a b", "", "challenger", "LATEST"])
def test_an_alias_that_cannot_be_given_is_refused_before_anything_is_made(client, name, alias):
    with pytest.raises(PromotionError, match="alias"), open_one(client, name, alias=alias):
        pass
    with pytest.raises(MlflowException, match="not found"):
        client.get_registered_model(name)


def test_a_name_with_a_quote(client):
    name = f"o'brien {uuid.uuid4().hex[:8]}"
    decide(client, name)
    assert decide(client, name) == 2


def test_a_name_that_mlflow_refuses(client):
    with (
        pytest.raises(TrackingError, match="could not register a model as 'a/b'"),
        open_one(client, "a/b"),
    ):
        pass


def test_who_leaves_without_a_decision_leaves_the_reason(client, name):
    with pytest.raises(ZeroDivisionError), open_one(client, name):
        raise ZeroDivisionError("scoring failed")
    with pytest.raises(KeyboardInterrupt), open_one(client, name):
        raise KeyboardInterrupt
    with open_one(client, name):
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
    opened = open_one(client, name, model_id="m-nowhere")
    with pytest.raises(TrackingError, match="m-nowhere"), opened:
        pass
    assert decisions(client, name, 1) == ["abandoned"]


def test_the_logged_model_names_its_versions(client, name, run_id):
    experiment_id = client.get_run(run_id).info.experiment_id
    model = client.create_logged_model(experiment_id, name="best", source_run_id=run_id)
    source, model_id = model.artifact_location, model.model_id
    with open_promotion(client, name, source, run_id=run_id, model_id=model_id) as promotion:
        promotion.decide(promoted=True, reason="", against=None)
    found = champion(client, name)
    assert (found.model_id, found.run_id) == (model_id, run_id)
    tag = client.get_logged_model(model_id).tags["mlflow.modelVersions"]
    assert json.loads(tag) == [{"name": name, "version": 1}]


def test_a_long_report_is_cut_at_a_line(client, name):
    report = "\n".join(f"- line {i}" for i in range(900))
    decide(client, name, report=report)
    text = client.get_model_version(name, "1").description
    assert len(text) <= 5000
    kept, mark = text.split("\n\n")
    assert report.startswith(kept + "\n")
    assert mark == f"... (cut: it has {len(report)} characters)"
    assert cut_description("a" * 5000) == "a" * 5000
    assert len(cut_description("a" * 5001)) == 5000


# --- The lock -------------------------------------------------------------------------------------


def test_the_second_waits_and_says_for_whom(client, name):
    told = []
    with ExitStack() as first:
        promotion = first.enter_context(open_one(client, name))

        def on_wait(what):
            told.append(what)
            promotion.decide(promoted=True, reason="", against=None)
            first.close()

        with open_one(client, name, on_wait=on_wait) as second:
            assert second.champion().version == 1
    (what,) = told
    assert f"version 1 of {name} is being compared" in what
    assert what.endswith(f"by {ProcessMark.own()}")


def test_waiting_can_be_ended(client, name):
    def interrupt(what):
        raise KeyboardInterrupt

    with open_one(client, name) as first:
        with (
            pytest.raises(KeyboardInterrupt),
            open_one(client, name, on_wait=interrupt),
        ):
            pass
        first.decide(promoted=True, reason="", against=None)
    assert version(client, name, 2) is None


def test_other_names_and_other_stores_are_not_waited_for(client, name, tmp_path):
    other_store = connect(f"sqlite:///{tmp_path / 'other.db'}")
    with open_one(client, name):
        decide(client, f"{name} too")
        decide(other_store, name)


def test_no_rollback_while_a_promotion_goes_on(client, name):
    decide(client, name)
    decide(client, name)
    with open_one(client, name), pytest.raises(PromotionError, match=r"version 3 .*: wait for its"):
        rollback(client, name)
    with (
        promotion_lock(client, name),
        pytest.raises(PromotionError, match="another process of this machine is promoting or"),
    ):
        rollback(client, name)
    assert rollback(client, name).restored.version == 1


# --- Other machines -------------------------------------------------------------------------------


@pytest.mark.parametrize("promoted", [True, False])
def test_a_promotion_elsewhere_meanwhile_is_compared_with(client, name, other_machine, promoted):
    decide(client, name)
    with open_one(client, name) as here:
        judged = here.champion()
        with other_machine():
            decide(client, name)
        assert not here.decide(promoted=promoted, reason="", against=judged)
        assert version(client, name, 2).decision == "pending"
        assert PREVIOUS_TAG not in version(client, name, 2).tags
        assert champion(client, name).version == 3
        assert here.decide(promoted=promoted, reason="", against=here.champion())
    assert decisions(client, name, 3) == [
        *("promoted", "promoted" if promoted else "refused", "promoted")
    ]
    assert version(client, name, 2).tags[PREVIOUS_TAG] == "3"


def test_a_rollback_elsewhere_meanwhile_is_compared_with(client, name, other_machine):
    decide(client, name)
    decide(client, name)
    with open_one(client, name) as here:
        judged = here.champion()
        with other_machine():
            assert rollback(client, name).restored.version == 1
        assert not here.decide(promoted=True, reason="", against=judged)
        assert here.decide(promoted=True, reason="", against=here.champion())
    assert champion(client, name).tags[PREVIOUS_TAG] == "1"


@pytest.mark.parametrize(("silent_s", "decision"), [(5, "pending"), (999, "abandoned")])
def test_on_another_machine_heartbeats_decide_who_has_ended(client, name, silent_s, decision):
    beat = (datetime.now(UTC) - timedelta(seconds=silent_s)).isoformat()
    leave_pending(client, name, {**ELSEWHERE, HEARTBEAT_TAG: beat})
    decide(client, name)
    assert version(client, name, 1).decision == decision


def test_a_heartbeat_is_written_while_records_are_classified(client, name):
    with open_one(client, name) as promotion:
        client.set_model_version_tag(name, "1", HEARTBEAT_TAG, "2020-01-01T00:00:00+00:00")
        promotion.beat()
        assert version(client, name, 1).tags[HEARTBEAT_TAG] > "2026"


def test_who_was_taken_for_dead_decides_no_more(client, name, other_machine):
    with open_one(client, name) as promotion:
        for key, value in DEAD.items():
            client.set_model_version_tag(name, "1", key, value)
        with other_machine():
            decide(client, name)
        with pytest.raises(PromotionError, match=r"abandoned already: .* has ended without a dec"):
            promotion.decide(promoted=True, reason="", against=promotion.champion())
    assert champion(client, name).version == 2


# --- The last moment ------------------------------------------------------------------------------


def test_a_champion_that_was_changed_by_hand_is_compared_with(client, name):
    decide(client, name)
    decide(client, name)
    with open_one(client, name) as promotion:
        judged = promotion.champion()
        client.set_registered_model_alias(name, "champion", "1")
        assert not promotion.decide(promoted=True, reason="", against=judged)
        assert promotion.decide(promoted=True, reason="", against=promotion.champion())
    assert champion(client, name).tags[PREVIOUS_TAG] == "1"


def test_a_champion_that_was_deleted_meanwhile(client, name):
    decide(client, name)
    with open_one(client, name) as promotion:
        judged = promotion.champion()
        client.delete_model_version(name, "1")
        assert not promotion.decide(promoted=True, reason="", against=judged)
        assert promotion.champion() is None
        assert promotion.decide(promoted=True, reason="first again", against=None)
    assert champion(client, name).tags[PREVIOUS_TAG] == "none"


def test_who_was_deleted_while_being_compared(client, name):
    with open_one(client, name) as promotion:
        client.delete_model_version(name, "1")
        with pytest.raises(PromotionError, match=r"version 1 of .* was deleted"):
            promotion.decide(promoted=True, reason="", against=None)


def test_nothing_is_decided_twice(client, name):
    with open_one(client, name) as promotion:
        promotion.decide(promoted=False, reason="too slow", against=None)
        with pytest.raises(PromotionError, match="is refused already: too slow"):
            promotion.decide(promoted=True, reason="", against=None)


def test_an_alias_given_by_hand_to_what_is_being_compared(client, name):
    with open_one(client, name) as promotion:
        client.set_registered_model_alias(name, "champion", "1")
        with pytest.raises(PromotionError, match="before it was decided"):
            promotion.decide(promoted=True, reason="", against=None)
    assert decisions(client, name, 1) == ["abandoned"]


# --- Deaths in the middle -------------------------------------------------------------------------


class DiedError(BaseException):
    """Stands for a kill: nothing that catches exceptions has an effect after it."""


class Mortal:
    """A client that dies instead of the write of that number; 0 is the first."""

    WRITES = ("set_model_version_tag", "set_registered_model_alias", "update_model_version")

    def __init__(self, client, dies_at):
        self._client, self._left, self.died = client, dies_at, False

    def __getattr__(self, attribute):
        if attribute in self.WRITES:
            if self.died or self._left == 0:
                self.died = True
                raise DiedError
            self._left -= 1
        return getattr(self._client, attribute)


@pytest.mark.parametrize(
    ("promoted", "then"), [(True, "promote"), (False, "promote"), (True, "roll back")]
)
def test_a_death_anywhere_in_a_decision_leaves_a_champion_and_a_reason(
    client, name, promoted, then
):
    decide(client, name)
    seen = set()
    for dies_at in range(20):
        before, mortal = decide(client, name), Mortal(client, dies_at)
        try:
            with open_one(mortal, name) as promotion:
                promotion.decide(
                    promoted=promoted,
                    reason="because",
                    against=promotion.champion(),
                    report="r",
                    tags={"f1": 1},
                )
        except DiedError:
            for key, value in DEAD.items():
                client.set_model_version_tag(name, str(promotion.version), key, value)
        left = aliases(client, name)
        has_moved = left.get("champion" if promoted else CHALLENGER) == promotion.version
        assert left["champion"] == (promotion.version if promoted and has_moved else before)
        if then == "promote":
            decide(client, name, promoted=False)
        else:
            assert rollback(client, name).left.version == left["champion"]
        found = version(client, name, promotion.version)
        if has_moved:
            expected = "promoted" if promoted else "refused"
            if promoted and then == "roll back":
                expected = "rolled back"
            assert found.tags["ecg_mlflow.reason"] == "because"
            assert found.tags[PREVIOUS_TAG] == str(before)
        else:
            expected = "abandoned"
            assert "has ended without a decision" in found.tags["ecg_mlflow.reason"]
        assert found.decision == expected
        seen.add((has_moved, mortal.died))
        if not mortal.died:
            break
    assert seen == {(False, True), (True, True), (True, False)}


def test_a_death_anywhere_in_a_rollback_is_mended_by_another_one(client, name):
    decide(client, name)
    for dies_at in range(20):
        before, mortal = decide(client, name), Mortal(client, dies_at)
        try:
            rollback(mortal, name)
        except DiedError:
            assert champion(client, name).version == before
            rollback(client, name)
        assert champion(client, name).version == 1
        assert version(client, name, before).decision == "rolled back"
        if not mortal.died:
            break
    assert not mortal.died
    assert dies_at > 2


def test_a_store_that_fails_in_the_middle(client, name, monkeypatch):
    def fail(*_):
        raise MlflowException("disk full")

    with open_one(client, name) as promotion, monkeypatch.context() as patch:
        patch.setattr(type(client), "set_registered_model_alias", fail)
        with pytest.raises(TrackingError, match="the alias 'champion': disk full"):
            promotion.decide(promoted=True, reason="", against=None)
    assert decisions(client, name, 1) == ["abandoned"]


PROMOTER = """
import sys, time
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.promotion_lock import open_promotion

uri, name, score, holds = sys.argv[1:]
with open_promotion(connect(uri), name, "s3://models/x", run_id="0" * 32,
                    on_wait=lambda what: print("waits", flush=True)) as promotion:
    print("opened", flush=True)
    while holds:
        time.sleep(0.1)
    champion = promotion.champion()
    better = champion is None or float(score) > float(champion.tags["score"])
    against = champion.tags["score"] if champion else "nobody"
    assert promotion.decide(promoted=better, reason=f"against {against}", against=champion,
                            tags={"score": score})
"""
SCORES = ("0.5", "0.3", "0.9", "0.7")


@pytest.mark.slow
def test_promotions_at_once_take_turns_when_one_is_killed(client, store_uri, name, cache):
    def promoter(score, holds=""):
        return subprocess.Popen(
            [sys.executable, "-c", PROMOTER, store_uri, name, score, holds],
            stdout=subprocess.PIPE,
            text=True,
        )

    holder = promoter("0.99", "holds")
    assert holder.stdout.readline() == "opened\n"
    promoters = [promoter(score) for score in SCORES]
    try:
        for one in promoters:
            assert one.stdout.readline() == "waits\n"
        assert [one.version for one in find_versions(client, name, Decision.PENDING)] == [1]
        holder.send_signal(signal.SIGKILL)
        for one in promoters:
            assert one.wait(1000) == 0
    finally:
        for one in (holder, *promoters):
            one.kill()
            one.communicate()
    first, *others = (version(client, name, i) for i in range(1, 6))
    assert first.decision == "abandoned"
    assert "has ended without a decision" in first.tags["ecg_mlflow.reason"]
    # What one process would have decided, one version after the other.
    best, holder_version = None, "none"
    for one in others:
        score = one.tags["score"]
        promoted = best is None or float(score) > float(best)
        assert one.decision == ("promoted" if promoted else "refused")
        assert one.tags["ecg_mlflow.reason"] == f"against {best or 'nobody'}"
        assert one.tags[PREVIOUS_TAG] == holder_version
        if promoted:
            best, holder_version = score, str(one.version)
    assert sorted(one.tags["score"] for one in others) == sorted(SCORES)
    assert champion(client, name).tags["score"] == "0.9"


# --- Back -----------------------------------------------------------------------------------------


def test_a_rollback_goes_back_one_by_one(client, name):
    for promoted in (True, True, False, True):
        decide(client, name, promoted=promoted)
    back = rollback(client, name)
    assert (back.left.version, back.restored.version) == (4, 2)
    assert champion(client, name).version == 2
    left, restored = version(client, name, 4), version(client, name, 2)
    assert left.decision == Decision.ROLLED_BACK
    assert left.tags["ecg_mlflow.rolled_back"].startswith("20")
    assert restored.tags["ecg_mlflow.restored"].endswith("after version 4")
    assert rollback(client, name).restored.version == 1
    with pytest.raises(PromotionError, match=r"version 1 .* was the first"):
        rollback(client, name)


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
    client.set_registered_model_alias(name, "beta", "1")
    with pytest.raises(PromotionError, match=r"version 1 .*'beta', but was not promoted to it"):
        rollback(client, name, "beta")
    client.create_model_version(name, "/models/y")
    client.set_registered_model_alias(name, "champion", "2")
    with pytest.raises(PromotionError, match="was not promoted to it by ecg-mlflow"):
        rollback(client, name)


def test_nothing_to_take_back(client, name):
    with pytest.raises(ModelError, match=f"no model is registered as '{name}'"):
        rollback(client, name)
    decide(client, name, promoted=False)
    with pytest.raises(PromotionError, match="no version with the alias 'champion'"):
        rollback(client, name)


# --- What earlier versions of the software have written -------------------------------------------


def test_promotions_by_earlier_versions_are_read_and_rolled_back(client, name):
    """Tags as a promotion by tickets wrote them: two were promoted, one was killed."""
    client.create_registered_model(name)
    common = {
        "ecg_mlflow.alias": "champion",
        "ecg_mlflow.order": "4" * 32,
        "ecg_mlflow.model_id": "m-1",
        HEARTBEAT_TAG: "2026-01-01T00:00:00+00:00",
        **DEAD,
    }
    for previous in ("none", "1", None):
        decided = {
            "ecg_mlflow.decision": "promoted",
            "ecg_mlflow.reason": "better",
            "ecg_mlflow.decided": "2026-01-01T00:01:00+00:00",
            "ecg_mlflow.previous": previous,
            "ecg_mlflow.judged_against": previous,
        }
        tags = decided if previous else {"ecg_mlflow.decision": "pending"}
        client.create_model_version(name, "/models/x", RUN, tags={**common, **tags})
    client.set_registered_model_alias(name, "champion", "2")
    client.set_registered_model_tag(name, "ecg_mlflow.rollback", json.dumps(DEAD))
    assert (champion(client, name).model_id, champion(client, name).decision) == ("m-1", "promoted")
    assert decide(client, name) == 4
    assert version(client, name, 3).decision == "abandoned"
    assert version(client, name, 4).tags[PREVIOUS_TAG] == "2"
    assert [rollback(client, name).restored.version for _ in range(2)] == [2, 1]
