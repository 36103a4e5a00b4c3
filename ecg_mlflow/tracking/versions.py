"""Versions of registered models as the store has them, and the tags that explain them.

A version carries what was decided of it and why, and which version it has replaced. So a registry
explains itself, and a rollback needs nothing else.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from ecg_mlflow.provenance import ProcessMark
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.ledger import living_process

CHAMPION = "champion"
#: Alias of the last version that was refused.
CHALLENGER = "challenger"

DECISION_TAG = "ecg_mlflow.decision"
#: When that was.
DECIDED_TAG = "ecg_mlflow.decided"
#: The alias that a version was to get.
ALIAS_TAG = "ecg_mlflow.alias"
#: Version that had the alias before; `NO_VERSION` where none had.
PREVIOUS_TAG = "ecg_mlflow.previous"
#: The logged model that a version is of.
MODEL_TAG = "ecg_mlflow.model_id"
#: When a version lost the alias by a rollback, and when it got it back by one.
ROLLED_BACK_TAG = "ecg_mlflow.rolled_back"
RESTORED_TAG = "ecg_mlflow.restored"
#: Who takes a name's alias back at this moment; on the registered model.
GUARD_TAG = "ecg_mlflow.rollback"
NO_VERSION = "none"

#: Tells one order to make a version from all others.
ORDER_TAG = "ecg_mlflow.order"
#: Set by who takes a ticket's process for dead, before it is passed over for good.
PASSED_OVER_TAG = "ecg_mlflow.passed_over"

_PAGE = 1000


class Decision(StrEnum):
    """What has become of a version."""

    PENDING = "pending"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ABANDONED = "abandoned"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes
    ----------
    name, version
        What it is called, as in ``models:/<name>/<version>``.
    source
        Where its files are.
    run_id, model_id
        The run and the logged model that it comes from; empty where the registry has none.
    tags
        All of its tags.
    """

    name: str
    version: int
    source: str
    run_id: str
    model_id: str
    tags: Mapping[str, str]

    @classmethod
    def from_mlflow(cls, found: ModelVersion) -> RegisteredVersion:
        """Read MLflow's form of it."""
        tags, source = dict(found.tags), str(found.source)
        # Who registers by hand leaves the model's id nowhere but in the place of its files.
        in_source = re.search(r"\bm-[0-9a-f]{32}\b", source)
        model_id = tags.get(MODEL_TAG) or (in_source.group() if in_source else "")
        return cls(found.name, int(found.version), source, found.run_id or "", model_id, tags)

    @property
    def uri(self) -> str:
        """As MLflow loads it."""
        return f"models:/{self.name}/{self.version}"

    @property
    def decision(self) -> str:
        """What was decided of it; empty where it was registered by other means."""
        return self.tags.get(DECISION_TAG, "")

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}"


def find_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return a registered model with its aliases and tags, if there is one."""
    with store_errors(f"look for the registered model {name!r}"):
        try:
            return client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None


def holder(client: MlflowClient, model: RegisteredModel, alias: str) -> RegisteredVersion | None:
    """Return the version of a model that has an alias."""
    version = model.aliases.get(alias)
    return None if version is None else find_version(client, model.name, int(version))


def find_version(client: MlflowClient, name: str, version: int) -> RegisteredVersion | None:
    """Return a version, if there is such a one and it was not deleted."""
    with store_errors(f"read version {version} of {name!r}"):
        try:
            return RegisteredVersion.from_mlflow(client.get_model_version(name, str(version)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None


def pending_versions(client: MlflowClient, name: str) -> list[RegisteredVersion]:
    """Return the versions of a name that nothing was decided of yet, the oldest first."""
    quoted = name.replace("'", "''")
    query = f"name = '{quoted}' AND tags.`{DECISION_TAG}` = '{Decision.PENDING}'"
    found: list[RegisteredVersion] = []
    token = None
    with store_errors(f"look for promotions of {name!r} that are going on"):
        while True:
            page = client.search_model_versions(query, _PAGE, page_token=token)
            found += map(RegisteredVersion.from_mlflow, page)
            token = page.token
            if not token:
                return sorted(found, key=lambda one: one.version)


def set_tags(client: MlflowClient, name: str, version: int, tags: Mapping[str, object]) -> None:
    """Set tags of a version, in that order."""
    with store_errors(f"set the tags of version {version} of {name!r}"):
        for key, value in tags.items():
            set_once(client.set_model_version_tag, name, str(version), key, str(value))


def set_alias(client: MlflowClient, name: str, version: int, alias: str) -> None:
    """Give an alias to a version, whichever had it before."""
    with store_errors(f"give version {version} of {name!r} the alias {alias!r}"):
        set_once(client.set_registered_model_alias, name, alias, str(version))


def set_once(call: Callable[..., None], *values: str) -> None:
    """Set a tag or an alias, which others may set at the same moment.

    MLflow looks whether it is there before it adds it. Who was slower finds it there, and changes
    it.
    """
    try:
        call(*values)
    except MlflowException as error:
        if "IntegrityError" not in str(error):
            raise
        call(*values)


def has_alias(model: RegisteredModel, version: int, alias: str) -> bool:
    """Say whether an alias stands for this version of a model."""
    return alias in model.aliases and int(model.aliases[alias]) == version


def rolling_back(model: RegisteredModel) -> ProcessMark | None:
    """Return the process that takes an alias of this model back just now, if it still lives."""
    tags = json.loads(model.tags.get(GUARD_TAG) or "{}")
    return living_process(tags)


def present() -> str:
    """Return the time as tags have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
