"""The model registry: find the champion, and take back what was promoted.

A model is registered for promotion in `ecg_mlflow.tracking.entering`; how several promotions take
turns is in `ecg_mlflow.tracking.promotion_lock`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.provenance import ProcessMark, heartbeat
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.ledger import living_process
from ecg_mlflow.tracking.versions import (
    ALIAS_TAG,
    CHAMPION,
    DECISION_TAG,
    GUARD_TAG,
    PREVIOUS_TAG,
    RESTORED_TAG,
    ROLLED_BACK_TAG,
    Decision,
    RegisteredVersion,
    find_model,
    find_version,
    holder,
    pending_versions,
    present,
    rolling_back,
    set_alias,
    set_once,
    set_tags,
)


@dataclass(frozen=True)
class Rollback:
    """An alias that was taken back: the version that had it, and the one that has it again."""

    left: RegisteredVersion
    restored: RegisteredVersion
    alias: str

    def __str__(self) -> str:
        return (
            f"{self.restored.name}@{self.alias} is version {self.restored.version} again; "
            f"version {self.left.version} was rolled back"
        )


def champion(client: MlflowClient, name: str, alias: str = CHAMPION) -> RegisteredVersion | None:
    """Return the version that an alias stands for; None where there is none, or no such name.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    model = find_model(client, name)
    return None if model is None else holder(client, model, alias)


def rollback(client: MlflowClient, name: str, alias: str = CHAMPION) -> Rollback:
    """Give an alias back to the version that the present one has replaced.

    A second rollback goes one further back. Repeat one that was interrupted: the tags are written
    before the alias moves.

    Raises
    ------
    PromotionError
        There is nothing to go back to, or a promotion or another rollback is going on.
    TrackingError
        If the store fails.
    """
    if find_model(client, name) is None:
        raise PromotionError(f"no model is registered as {name!r}; {_registered(client)}")
    with _guarded(client, name):
        # Promotions write their version first and look for a rollback then; here it is the other
        # way round, so that at least one of two sees the other.
        _refuse_while_promoting(client, name)
        model = find_model(client, name)
        left = None if model is None else holder(client, model, alias)
        if left is None:
            raise PromotionError(f"{name!r} has no version with the alias {alias!r}")
        restored = _predecessor(client, left, alias)
        now = present()
        left_tags = {DECISION_TAG: Decision.ROLLED_BACK, ROLLED_BACK_TAG: now}
        set_tags(client, name, left.version, left_tags)
        restored_tags = {RESTORED_TAG: f"{now}, after version {left.version}"}
        set_tags(client, name, restored.version, restored_tags)
        set_alias(client, name, restored.version, alias)
    return Rollback(left, restored, alias)


@contextmanager
def _guarded(client: MlflowClient, name: str) -> Iterator[None]:
    """Keep promotions of a name from being decided, and other rollbacks from starting."""
    model = find_model(client, name)
    other = None if model is None else rolling_back(model)
    if other is not None:
        raise PromotionError(f"{other} is taking back an alias of {name!r} at this moment")
    mark = json.dumps({**ProcessMark.own().tags(), **heartbeat()})
    with store_errors(f"announce a rollback of {name!r}"):
        set_once(client.set_registered_model_tag, name, GUARD_TAG, mark)
    try:
        yield
    finally:
        with store_errors(f"end the rollback of {name!r}"):
            client.delete_registered_model_tag(name, GUARD_TAG)


def _refuse_while_promoting(client: MlflowClient, name: str) -> None:
    for version in pending_versions(client, name):
        process = living_process(version.tags)
        if process is not None:
            raise PromotionError(
                f"{version} is being judged by {process}: wait until that is decided, or end it, "
                "and take the alias back then"
            )


def _predecessor(client: MlflowClient, left: RegisteredVersion, alias: str) -> RegisteredVersion:
    by_hand = (
        f"; set the alias by hand: MlflowClient().set_registered_model_alias({left.name!r}, "
        f"{alias!r}, VERSION)"
    )
    previous = left.tags.get(PREVIOUS_TAG)
    if previous is None or left.tags.get(ALIAS_TAG) != alias:
        raise PromotionError(
            f"{left} has the alias {alias!r}, but was not promoted to it by ecg-mlflow: which "
            f"version it has replaced is not known{by_hand}"
        )
    if not previous.isdecimal():
        raise PromotionError(
            f"{left} was the first to get the alias {alias!r}: there is none to go back to"
        )
    found = find_version(client, left.name, int(previous))
    if found is None:
        raise PromotionError(
            f"{left} has replaced version {previous}, which was deleted meanwhile{by_hand}"
        )
    return found


def _registered(client: MlflowClient) -> str:
    with store_errors("list the registered models"):
        names = sorted(model.name for model in client.search_registered_models(max_results=100))
    return f"there are {', '.join(names)}" if names else "nothing is registered in this store"
