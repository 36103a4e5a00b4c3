"""Decisions on registered models, what a death leaves of them, and the way back."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import ExitStack
from functools import partial

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from servers import free_port

from ecg_mlflow.errors import ModelError, PromotionError, TrackingError
from ecg_mlflow.tracking.registry import (
    CHALLENGER,
    PREVIOUS_TAG,
    champion,
    check_names,
    find_source,
    find_version,
    register_decision,
    rollback,
)

RUN = "0" * 32


@pytest.fixture
def name(experiment):
    return f"af {experiment}"


def decide(client, name, *, promoted=True, against="champion", source="/models/x", **more):
    """Register a version as the one that is next; None where it was compared with another."""
    if against == "champion":
        against = champion(client, name)
    more = {"promoted": promoted, "reason": "better", "against": against, "run_id": RUN, **more}
    made = register_decision(client, name, source, **more)
    return made and made.version


def tags(client, name, number):
    return find_version(client, name, number).tags


def decisions(client, name, n):
    return [tags(client, name, i + 1)["ecg_mlflow.decision"] for i in range(n)]


def aliases(client, name):
    return {a: int(v) for a, v in client.get_registered_model(name).aliases.items()}


def test_a_model_is_found_by_alias_and_by_version(client, name):
    decide(client, name)
    decide(client, name, source="/models/y")
    assert find_source(client, f"models:/{name}@champion") == "/models/y"
    assert find_source(client, f"models:/{name}/1") == "/models/x"
    for other in ("models:/m-0123", f"models:/{name}/latest", f"models:/{name}@", "af/1", "/tmp/x"):
        assert find_source(client, other) == other


@pytest.mark.parametrize(
    ("uri", "why"),
    [
        ("models:/nobody@champion", "no model is registered as 'nobody' .* there is .*{name}"),
        ("models:/nobody/1", "no model is registered as 'nobody'"),
        ("models:/{name}@best", r"{name}@best: the aliases .* are challenger \(version 1\)"),
        ("models:/{name}/7", r"{name}/7: the aliases .* or a version, as in models:/{name}/1"),
    ],
)
def test_models_that_are_not_there(client, name, uri, why):
    decide(client, name, promoted=False)
    with pytest.raises(ModelError, match=why.format(name=name)):
        find_source(client, uri.format(name=name))


def test_a_model_that_was_registered_by_hand_is_known_by_its_place(client, name):
    model_id = "m-" + "ab" * 16
    with pytest.raises(TrackingError, match="look for the registered model 'a/b': Invalid"):
        champion(client, "a/b")
    assert champion(client, name) is None
    client.create_registered_model(name)
    client.create_model_version(name, f"/mlruns/1/models/{model_id}/artifacts")
    with pytest.raises(ModelError, match="are none; name one of them or a version"):
        find_source(client, f"models:/{name}@champion")
    client.set_registered_model_alias(name, "champion", "1")
    found = champion(client, name)
    assert (found.model_id, found.run_id, found.tags) == (model_id, "", {})


def test_the_first_is_promoted_and_the_next_replaces_it(client, name):
    decide(client, name, tags={"ecg_mlflow.f1": 0.8}, report="# Why\nIt is the first.")
    first = champion(client, name)
    assert (first.version, first.run_id, first.tags["ecg_mlflow.f1"]) == (1, RUN, "0.8")
    assert first.tags["ecg_mlflow.decision"] == "promoted"
    assert first.tags["ecg_mlflow.reason"] == "better"
    assert first.tags[PREVIOUS_TAG] == "none"
    assert client.get_model_version(name, "1").description == "# Why\nIt is the first."
    decide(client, name)
    assert champion(client, name).tags[PREVIOUS_TAG] == "1"
    assert aliases(client, name) == {"champion": 2}


def test_a_refused_one_is_the_challenger_and_another_alias_has_its_own_champion(client, name):
    name = f"{name} o'brien"
    decide(client, name)
    for number in (2, 3):
        decide(client, name, promoted=False)
        assert aliases(client, name) == {"champion": 1, CHALLENGER: number}
    assert decisions(client, name, 3) == ["promoted", "refused", "refused"]
    assert decide(client, name, alias="holter", against=None) == 4
    assert aliases(client, name) == {"champion": 1, CHALLENGER: 3, "holter": 4}


@pytest.mark.parametrize("alias", ["v3", "a b", "", "challenger", "LATEST"])
def test_an_alias_that_can_not_be_given(alias):
    with pytest.raises(PromotionError, match="alias"):
        check_names("m", alias)
    check_names("m", "champion")


def test_the_logged_model_names_its_versions(client, name, run_id):
    experiment_id = client.get_run(run_id).info.experiment_id
    model_id = client.create_logged_model(experiment_id, name="best").model_id
    for _ in range(2):
        decide(client, name, model_id=model_id)
    assert champion(client, name).model_id == model_id
    tag = client.get_logged_model(model_id).tags["mlflow.modelVersions"]
    assert json.loads(tag) == [{"name": name, "version": 1}, {"name": name, "version": 2}]


@pytest.mark.parametrize("report", ["\n".join(f"- line {i}" for i in range(900)), "a" * 5001])
def test_a_long_report_is_cut_at_a_line(client, name, report):
    decide(client, name, report=report)
    text = client.get_model_version(name, "1").description
    kept, mark = text.split("\n\n")
    assert 4900 < len(text) <= 5000
    assert (report + "\n").startswith(kept + "\n" * ("\n" in report))
    assert mark == f"... (cut: it has {len(report)} characters)"


CHANGES = {
    "promotion": (lambda client, name: decide(client, name), "3"),
    "rollback": (lambda client, name: rollback(client, name), "1"),
    "by hand": (lambda client, name: client.set_registered_model_alias(name, "champion", "1"), "1"),
    "deleted": (lambda client, name: client.delete_model_version(name, "2"), "none"),
}


@pytest.mark.parametrize("promoted", [True, False])
@pytest.mark.parametrize(("change", "previous"), CHANGES.values(), ids=CHANGES)
def test_a_champion_that_has_changed_is_compared_with(client, name, change, previous, promoted):
    decide(client, name)
    decide(client, name)
    judged = champion(client, name)
    change(client, name)
    before, n_versions = aliases(client, name), len(client.search_model_versions(f"name='{name}'"))
    for against in (judged, None) if previous != "none" else (judged,):
        assert decide(client, name, promoted=promoted, against=against) is None
    assert aliases(client, name) == before
    assert len(client.search_model_versions(f"name='{name}'")) == n_versions
    number = decide(client, name, promoted=promoted)
    assert tags(client, name, number)[PREVIOUS_TAG] == previous
    assert (aliases(client, name).get("champion") == number) is promoted


PROMOTER = """
import sys
from ecg_mlflow.tracking.client import connect
from ecg_mlflow.tracking.registry import champion, register_decision

uri, name, score = sys.argv[1:]
client, judged = connect(uri), None
print("ready", flush=True)
sys.stdin.readline()
while True:
    better = judged is None or float(score) > float(judged.tags["score"])
    reason = f"against {judged.version if judged else 'none'}"
    if register_decision(client, name, "s3://x", promoted=better, reason=reason, against=judged,
                         run_id="0" * 32, tags={"score": score}):
        break
    judged = champion(client, name)
"""


@pytest.mark.slow
def test_promotions_at_once_are_each_compared_with_the_one_before(client, tracking_store, name):
    scores = ("0.5", "0.3", "0.9", "0.7")
    with ExitStack() as stack:
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        commands = [[sys.executable, "-c", PROMOTER, tracking_store, name, one] for one in scores]
        promoters = [stack.enter_context(subprocess.Popen(one, **pipes)) for one in commands]
        for one in promoters:
            stack.callback(one.kill)
            assert one.stdout.readline() == "ready\n"
        for one in promoters:
            one.stdin.write("go\n")
            one.stdin.flush()
        assert [one.wait(1000) for one in promoters] == [0, 0, 0, 0]
    # What one process would have decided, one version after the other.
    best, holder = "", "none"
    found = [tags(client, name, number) for number in range(1, 5)]
    for number, one in enumerate(found, start=1):
        promoted = one["score"] > best
        assert one["ecg_mlflow.decision"] == ("promoted" if promoted else "refused")
        assert one["ecg_mlflow.reason"] == f"against {holder}"
        assert one[PREVIOUS_TAG] == holder
        if promoted:
            best, holder = one["score"], str(number)
    assert sorted(one["score"] for one in found) == sorted(scores)
    assert champion(client, name).tags["score"] == "0.9"


class DiedError(BaseException):
    """Stands for a kill: nothing that catches exceptions has an effect after it."""


class Mortal:
    """A client that dies instead of the write of that number; 0 is the first."""

    WRITES = ("create_model_version", "set_model_version_tag", "set_registered_model_alias")

    def __init__(self, client, dies_at):
        self._client, self._left = client, dies_at

    def __getattr__(self, attribute):
        if attribute in self.WRITES:
            if self._left == 0:
                raise DiedError
            self._left -= 1
        return getattr(self._client, attribute)


@pytest.mark.parametrize("promoted", [True, False])
def test_a_death_anywhere_in_a_decision_leaves_a_champion_and_a_reason(client, name, promoted):
    for _ in range(2):
        decide(client, name)
    reached = []
    for dies_at in range(3):
        with pytest.raises(DiedError):
            decide(Mortal(client, dies_at), name, promoted=promoted, reason="because")
        now = champion(client, name).version
        died = find_version(client, name, 3 + len(reached))
        if died is not None:
            reached.append(now == died.version)
            assert died.tags["ecg_mlflow.decision"] == "pending"
            assert died.tags["ecg_mlflow.reason"] == "because"
            assert died.tags[PREVIOUS_TAG] == "2"
    assert reached == [False, promoted]
    if promoted:
        assert rollback(client, name)[0].version == 4
    assert champion(client, name).version == 2


def test_a_store_that_fails_in_the_middle_or_is_gone(client, tracking_store, name, monkeypatch):
    def fail(*_):
        raise MlflowException("disk full")

    for n, one in enumerate((client, MlflowClient(tracking_store))):
        with monkeypatch.context() as patch:
            patch.setattr(MlflowClient, "set_registered_model_alias", fail)
            with pytest.raises(TrackingError, match="the alias 'champion': disk full"):
                decide(one, name)
        assert tags(client, name, 2 * n + 1)["ecg_mlflow.decision"] == "pending"
        assert decide(one, name) == 2 * n + 2
        assert champion(one, "nobody") is None
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match="could not look for the registered model 'any'"):
        champion(MlflowClient(f"http://127.0.0.1:{free_port()}"), "any")


def test_a_death_anywhere_in_a_rollback_is_mended_by_another_one(client, name):
    decide(client, name)
    for dies_at in range(4):
        before = decide(client, name)
        with pytest.raises(DiedError):
            rollback(Mortal(client, dies_at), name)
        assert champion(client, name).version == before
        rollback(client, name)
        assert champion(client, name).version == 1
        assert tags(client, name, before)["ecg_mlflow.decision"] == "rolled back"
    decide(client, name)
    rollback(Mortal(client, 4), name)


def test_a_rollback_goes_back_one_by_one(client, name):
    for promoted in (True, True, False, True):
        decide(client, name, promoted=promoted)
    assert [one.version for one in rollback(client, name)] == [4, 2]
    assert champion(client, name).version == 2
    left = tags(client, name, 4)
    assert left["ecg_mlflow.decision"] == "rolled back"
    assert left["ecg_mlflow.rolled_back"].startswith("20")
    assert tags(client, name, 2)["ecg_mlflow.restored"].endswith("after version 4")
    decide(client, name)
    assert champion(client, name).tags[PREVIOUS_TAG] == "2"
    assert [rollback(client, name)[1].version for _ in range(2)] == [2, 1]
    with pytest.raises(PromotionError, match=r"version 1 .* was the first"):
        rollback(client, name)


def test_what_can_not_be_taken_back(client, name):
    with pytest.raises(ModelError, match=f"no model is registered as '{name}'"):
        rollback(client, name)
    decide(client, name, promoted=False)
    with pytest.raises(PromotionError, match="no version with the alias 'champion'"):
        rollback(client, name)
    decide(client, name)
    decide(client, name)
    client.set_registered_model_alias(name, "beta", "2")
    with pytest.raises(PromotionError, match=r"version 2 .*'beta', but was not promoted to it"):
        rollback(client, name, "beta")
    client.delete_model_version(name, "2")
    with pytest.raises(PromotionError, match=r"version 2, which was deleted .*by hand: Mlflow"):
        rollback(client, name)
    assert champion(client, name).tags["ecg_mlflow.decision"] == "promoted"
    client.create_model_version(name, "/models/y")
    client.set_registered_model_alias(name, "champion", "4")
    with pytest.raises(PromotionError, match="was not promoted to it by ecg-mlflow"):
        rollback(client, name)


def test_promotions_by_earlier_versions_are_read_and_rolled_back(client, name):
    """Two were promoted, one was killed."""
    client.create_registered_model(name)
    common = {"ecg_mlflow.alias": "champion", "ecg_mlflow.model_id": "m-1"}
    for previous in ("none", "1", None):
        decided = {"ecg_mlflow.decision": "promoted", "ecg_mlflow.previous": previous}
        more = decided if previous else {"ecg_mlflow.decision": "pending"}
        client.create_model_version(name, "/models/x", RUN, tags={**common, **more})
    client.set_registered_model_alias(name, "champion", "2")
    assert champion(client, name).model_id == "m-1"
    assert decide(client, name) == 4
    assert tags(client, name, 4)[PREVIOUS_TAG] == "2"
    assert [rollback(client, name)[1].version for _ in range(2)] == [2, 1]


@pytest.mark.parametrize(
    "name", ["", " ", ".", "..", "a/b", "a:b", "a@b", " a", "a ", "a\nb", "x" * 256]
)
def test_names_that_no_registered_model_can_have(client, name):
    for refused in (check_names, partial(rollback, client)):
        with pytest.raises(PromotionError, match="can't be the name of a registered model"):
            refused(name, "champion")


def test_names_of_registered_models():
    for name in ("af-resnet", "AF resnet 2.0", "x" * 255, "Vorhofflimmern (größer)"):
        check_names(name, "champion")
