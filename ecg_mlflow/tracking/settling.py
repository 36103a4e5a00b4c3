"""Versions that were being judged when their process died: what had become of them."""

from __future__ import annotations

from mlflow import MlflowClient

from ecg_mlflow.provenance import ProcessMark
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.ledger import living_process
from ecg_mlflow.tracking.runs import REASON_TAG
from ecg_mlflow.tracking.versions import (
    ALIAS_TAG,
    CHALLENGER,
    DECIDED_TAG,
    DECISION_TAG,
    PASSED_OVER_TAG,
    PREVIOUS_TAG,
    Decision,
    RegisteredVersion,
    find_model,
    find_version,
    has_alias,
    present,
    set_tags,
)


def lives(client: MlflowClient, other: RegisteredVersion) -> bool:
    """Say whether a version's process still lives; settle the version where it doesn't."""
    if living_process(other.tags):
        return True
    set_tags(client, other.name, other.version, {PASSED_OVER_TAG: present()})
    # Once more, now that its process can see that it was given up.
    now = find_version(client, other.name, other.version)
    if now is not None and living_process(now.tags):
        with store_errors(f"take back that {other} was passed over"):
            client.delete_model_version_tag(other.name, str(other.version), PASSED_OVER_TAG)
        return True
    who = ProcessMark.from_tags(other.tags) or "its process"
    settle(client, other, f"{who} has ended without a decision")
    return False


def settle(client: MlflowClient, version: RegisteredVersion, reason: str) -> None:
    """Close a pending version that nobody is going to decide: its alias says if somebody had."""
    model = find_model(client, version.name)
    # Only then the version: who moves the alias on closes it first.
    now = find_version(client, version.name, version.version)
    if model is None or now is None or now.decision != Decision.PENDING:
        return
    decision = Decision.ABANDONED
    if PREVIOUS_TAG in now.tags:
        if has_alias(model, version.version, now.tags.get(ALIAS_TAG, "")):
            decision = Decision.PROMOTED
        elif has_alias(model, version.version, CHALLENGER):
            decision = Decision.REFUSED
    why = {REASON_TAG: reason, DECIDED_TAG: present()} if decision is Decision.ABANDONED else {}
    set_tags(client, version.name, version.version, {**why, DECISION_TAG: decision})
