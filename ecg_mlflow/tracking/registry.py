"""The model registry: versions of registered models, and the tags that say what was decided.

A version says what was decided, against which version and why, and which version it has replaced.
A rollback needs nothing else. The registry is changed in `ecg_mlflow.tracking.promotion_lock`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.exceptions import MlflowException

from ecg_mlflow.errors import ModelError
from ecg_mlflow.tracking.client import store_errors

CHAMPION = "champion"
#: Alias of the last version that was refused.
CHALLENGER = "challenger"

DECISION_TAG = "ecg_mlflow.decision"
#: When that was.
DECIDED_TAG = "ecg_mlflow.decided"
#: The alias that a version is registered for.
ALIAS_TAG = "ecg_mlflow.alias"
#: Version that had the alias before; `NO_VERSION` where none had.
PREVIOUS_TAG = "ecg_mlflow.previous"
#: The logged model that a version is of.
MODEL_TAG = "ecg_mlflow.model_id"
#: When a version lost the alias by a rollback, and when it got it back by one.
ROLLED_BACK_TAG = "ecg_mlflow.rolled_back"
RESTORED_TAG = "ecg_mlflow.restored"
NO_VERSION = "none"

_REGISTERED_NAME = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>.+)|/(?P<version>\d+))")
_PAGE = 1000


class Decision(StrEnum):
    """What has become of a version."""

    PENDING = "pending"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ABANDONED = "abandoned"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class RegisteredName:
    """``models:/<name>@<alias>``, or ``models:/<name>/<version>``.

    Attributes
    ----------
    name
        Of the registered model.
    alias, version
        One of them; the other one is None.
    """

    name: str
    alias: str | None
    version: int | None

    @classmethod
    def from_uri(cls, uri: str) -> RegisteredName | None:
        """Read a URI; None if it is of another form, such as a folder or ``models:/<id>``."""
        found = _REGISTERED_NAME.fullmatch(uri)
        if found is None:
            return None
        version = found["version"]
        return cls(found["name"], found["alias"], None if version is None else int(version))


@dataclass(frozen=True)
class RegisteredVersion:
    """A version of a registered model.

    Attributes
    ----------
    name, version
        As in ``models:/<name>/<version>``.
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
        # A version that was registered by hand tells its model's id only by where its files are.
        in_source = re.search(r"\bm-[0-9a-f]{32}\b", source)
        model_id = tags.get(MODEL_TAG) or (in_source.group() if in_source else "")
        return cls(found.name, int(found.version), source, found.run_id or "", model_id, tags)

    @property
    def decision(self) -> str:
        """What was decided; empty where it was registered by other means."""
        return self.tags.get(DECISION_TAG, "")

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}"


def champion(client: MlflowClient, name: str, alias: str = CHAMPION) -> RegisteredVersion | None:
    """Return the version that has an alias; None where there is none, or no such name.

    Raises
    ------
    TrackingError
        If the store fails.
    """
    model = find_model(client, name)
    version = None if model is None else model.aliases.get(alias)
    return None if version is None else find_version(client, name, int(version))


def find_model(client: MlflowClient, name: str) -> RegisteredModel | None:
    """Return a registered model with its aliases and tags, if there is one."""
    with store_errors(f"look for the registered model {name!r}"):
        try:
            return client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None


def find_version(client: MlflowClient, name: str, version: int) -> RegisteredVersion | None:
    """Return a version, if there is one and it was not deleted."""
    with store_errors(f"read version {version} of {name!r}"):
        try:
            return RegisteredVersion.from_mlflow(client.get_model_version(name, str(version)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            return None


def find_versions(
    client: MlflowClient, name: str, decision: Decision | None = None
) -> list[RegisteredVersion]:
    """Return the versions of a name, the oldest first: all, or those of one decision."""
    quoted = name.replace("'", "''")
    query = f"name = '{quoted}'"
    if decision is not None:
        query += f" AND tags.`{DECISION_TAG}` = '{decision}'"
    with store_errors(f"look for the versions of {name!r}"):
        found = client.search_model_versions(query, _PAGE)
    return sorted(map(RegisteredVersion.from_mlflow, found), key=lambda one: one.version)


def registered_model(client: MlflowClient, name: str) -> RegisteredModel:
    """Return a registered model with its aliases and tags.

    Raises
    ------
    ModelError
        If there is none of that name.
    """
    model = find_model(client, name)
    if model is None:
        with store_errors("list the registered models"):
            names = sorted(one.name for one in client.search_registered_models(max_results=_PAGE))
        there = f"there is {', '.join(names)}" if names else "nothing is registered"
        raise ModelError(f"no model is registered as {name!r} in this store; {there}")
    return model


def set_tags(client: MlflowClient, name: str, version: int, tags: Mapping[str, object]) -> None:
    """Set tags of a version, in that order."""
    with store_errors(f"set the tags of version {version} of {name!r}"):
        for key, value in tags.items():
            client.set_model_version_tag(name, str(version), key, str(value))


def set_alias(client: MlflowClient, name: str, version: int, alias: str) -> None:
    """Give an alias to a version, whichever had it before."""
    with store_errors(f"give version {version} of {name!r} the alias {alias!r}"):
        client.set_registered_model_alias(name, alias, str(version))


def tag_time() -> str:
    """Return the time as tags have it."""
    return datetime.now(UTC).isoformat(timespec="seconds")
