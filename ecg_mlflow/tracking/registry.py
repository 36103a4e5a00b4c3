"""The model registry: versions of registered models, and what was decided on them.

`register_decision` registers a model once its comparison with the champion is over. A version
says in its tags what was decided, against which version and why, and which version it has replaced;
`rollback` needs nothing else.

Both hold a file lock of this machine while they write. Other machines are told apart by reading
the alias again just before it is set: if it has moved, nothing is written, and the caller compares
with the new champion. (MLflow has no compare-and-swap: of two machines that set an alias within
the same few milliseconds the later one has it.)

The alias is set after the tags that explain the decision. A process that dies in between leaves the
old champion and a pending version, or the new champion with its reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, TypeVar

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from ecg_mlflow.errors import ModelError, PromotionError, TrackingError
from ecg_mlflow.files import cache_root, locked
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.tracking.retry import MISSING, error_code, store_errors
from ecg_mlflow.tracking.runs import REASON_TAG

T = TypeVar("T")

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

#: Characters of a version's description that every database takes.
DESCRIPTION_LIMIT = 5000
_REGISTERED_NAME = re.compile(r"models:/(?P<name>[^/@]+)(?:@(?P<alias>.+)|/(?P<version>\d+))")


class Decision(StrEnum):
    """What has become of a version; pending is one whose process has died."""

    PENDING = "pending"
    PROMOTED = "promoted"
    REFUSED = "refused"
    ROLLED_BACK = "rolled back"


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

    def __str__(self) -> str:
        return f"version {self.version} of {self.name}"


# --- Reading --------------------------------------------------------------------------------------


def champion(client: MlflowClient, name: str, alias: str = CHAMPION) -> RegisteredVersion | None:
    """Return the version that has an alias; None where there is none, or no such name.

    Raises
    ------
    TrackingError
        If the store fails, or refuses the name.
    """
    model = _unless_missing(client.get_registered_model, name)
    version = None if model is None else model.aliases.get(alias)
    return None if version is None else find_version(client, name, int(version))


def find_version(client: MlflowClient, name: str, version: int) -> RegisteredVersion | None:
    """Return a version, if there is one and it was not deleted."""
    found = _unless_missing(client.get_model_version, name, str(version))
    return None if found is None else RegisteredVersion.from_mlflow(found)


def find_source(client: MlflowClient, uri: str) -> str:
    """Return where a registered model's files are; what is no name of one is left to MLflow.

    Parameters
    ----------
    client
        The store.
    uri
        ``models:/<name>@<alias>`` or ``models:/<name>/<version>``.

    Raises
    ------
    ModelError
        If there is no such model, version or alias.
    """
    if not uri.strip():
        raise ModelError("the model's name is empty: give one such as models:/NAME@champion")
    wanted = _REGISTERED_NAME.fullmatch(uri)
    if wanted is None:
        return uri
    name = wanted["name"]
    aliases = _registered_model(client, name).aliases
    number = wanted["version"] or aliases.get(wanted["alias"])
    found = None if number is None else find_version(client, name, int(number))
    if found is None:
        listed = ", ".join(f"{alias} (version {aliases[alias]})" for alias in sorted(aliases))
        raise ModelError(
            f"there is no {uri}: the aliases of {name!r} are {listed or 'none'}; name one of them "
            f"or a version, as in models:/{name}/1, or promote a model"
        )
    return found.source


def _registered_model(client: MlflowClient, name: str) -> RegisteredModel:
    model: RegisteredModel | None = _unless_missing(client.get_registered_model, name)
    if model is None:
        names = sorted(one.name for one in client.search_registered_models(max_results=1000))
        there = f"there is {', '.join(names)}" if names else "nothing is registered"
        raise ModelError(f"no model is registered as {name!r} in this store; {there}")
    return model


def _unless_missing(get: Callable[..., T], name: str, *version: str) -> T | None:
    try:
        with store_errors(f"look for the registered model {'/'.join([name, *version])!r}"):
            return get(name, *version)
    except TrackingError as error:
        if error_code(error) != MISSING:
            raise
        return None


# --- Decisions ------------------------------------------------------------------------------------


def check_names(name: str, alias: str) -> None:
    """Refuse before any work what MLflow refuses, or misreads, in the end.

    Raises
    ------
    PromotionError
        The name can't be a registered model's, or the alias is none that a promotion can give.
    """
    if not re.fullmatch(r"(?!\.\.?$)[^/:@\s][^/:@\n\t\r]{0,254}(?<!\s)", name):
        raise PromotionError(
            f"{name[:100]!r} can't be the name of a registered model: give 1 to 255 characters "
            "without /, : and @, and with no space at its ends, other than . and .."
        )
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"(?i)latest|v\d+", alias):
        raise PromotionError(
            f"{alias!r} can't be an alias: MLflow takes letters, digits, _ and -, but not 'latest' "
            "and nothing like 'v1'"
        )
    if alias == CHALLENGER:
        raise PromotionError(f"the alias {alias!r} marks what was refused; promote to another one")


def register_decision(
    client: MlflowClient,
    name: str,
    source: str,
    *,
    promoted: bool,
    reason: str,
    against: RegisteredVersion | None,
    run_id: str,
    model_id: str = "",
    alias: str = CHAMPION,
    report: str = "",
    tags: Mapping[str, object] | None = None,
) -> RegisteredVersion | None:
    """Register a model with what was decided on it, unless the champion has changed meanwhile.

    Parameters
    ----------
    client
        The store.
    name
        Name of the registered model, made where there is none.
    source
        Where the model's files are: a logged model's ``artifact_location``.
    promoted
        Whether the version gets the alias; otherwise it gets `CHALLENGER`.
    reason
        Why.
    against
        The champion that the model was compared with; None where there was none.
    run_id, model_id
        The run and the logged model that it comes from.
    alias
        The alias that it is registered for.
    report
        Markdown, the version's description; what is over MLflow's limit is cut.
    tags
        More tags, such as figures.

    Returns
    -------
    The version. None where another version than `against` has the alias: nothing was written
    then; compare with the new champion.

    Raises
    ------
    TrackingError
        The store fails. The version, where there is one, is pending, or promoted if it has the
        alias.
    """
    with _registry_lock(client, name), store_errors(f"register a model as {name!r}"):
        now = champion(client, name, alias)
        if (now and now.version) != (against and against.version):
            return None
        explained: dict[str, object] = {
            DECISION_TAG: Decision.PENDING,
            ALIAS_TAG: alias,
            REASON_TAG: reason,
            PREVIOUS_TAG: NO_VERSION if now is None else now.version,
            DECIDED_TAG: _now(),
            **({MODEL_TAG: model_id} if model_id else {}),
        }
        try:
            with store_errors(f"create the registered model {name!r}"):
                client.create_registered_model(name)
        except TrackingError as error:
            if error_code(error) != "RESOURCE_ALREADY_EXISTS":
                raise
        made = client.create_model_version(
            name,
            source,
            run_id,
            tags={key: str(value) for key, value in {**(tags or {}), **explained}.items()},
            description=_cut(report),
            model_id=model_id or None,
        )
        version = RegisteredVersion.from_mlflow(made)
        given = alias if promoted else CHALLENGER
        with store_errors(f"give {version} the alias {given!r}"):
            client.set_registered_model_alias(name, given, str(version.version))
        decision = Decision.PROMOTED if promoted else Decision.REFUSED
        _set_tags(client, version, {DECISION_TAG: decision})
        if model_id:
            _link(client, version)
        return version


def rollback(
    client: MlflowClient, name: str, alias: str = CHAMPION
) -> tuple[RegisteredVersion, RegisteredVersion]:
    """Give an alias back to the version that the present one has replaced.

    A second rollback goes one further back. Repeat one that was interrupted: the tags are written
    before the alias moves.

    Returns
    -------
    The version that had the alias, and the one that has it again.

    Raises
    ------
    ModelError
        No model of that name is registered.
    PromotionError
        There is nothing to go back to, or `check_names` refuses the names.
    TrackingError
        If the store fails.
    """
    check_names(name, alias)
    _registered_model(client, name)
    with _registry_lock(client, name), store_errors(f"take back a promotion of {name!r}"):
        left = champion(client, name, alias)
        if left is None:
            raise PromotionError(f"{name!r} has no version with the alias {alias!r}")
        restored = _predecessor(client, left, alias)
        now = _now()
        _set_tags(client, left, {DECISION_TAG: Decision.ROLLED_BACK, ROLLED_BACK_TAG: now})
        _set_tags(client, restored, {RESTORED_TAG: f"{now}, after version {left.version}"})
        client.set_registered_model_alias(name, alias, str(restored.version))
    return left, restored


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
    if previous == NO_VERSION:
        raise PromotionError(
            f"{left} was the first to get the alias {alias!r}: there is none to go back to"
        )
    found = find_version(client, left.name, int(previous))
    if found is None:
        raise PromotionError(
            f"{left} has replaced version {previous}, which was deleted meanwhile{by_hand}"
        )
    return found


def _registry_lock(client: MlflowClient, name: str) -> AbstractContextManager[None]:
    """Keep other processes of this machine from changing a registered model."""
    return locked(cache_root() / "promotions" / digest([client.tracking_uri, name])[:16])


def _set_tags(client: MlflowClient, version: RegisteredVersion, tags: Mapping[str, Any]) -> None:
    for key, value in tags.items():
        client.set_model_version_tag(version.name, str(version.version), key, str(value))


def _link(client: MlflowClient, version: RegisteredVersion) -> None:
    """Let the logged model name the version, as MLflow's server does by itself."""
    tags = client.get_logged_model(version.model_id).tags
    versions = json.loads(tags.get(MLFLOW_MODEL_VERSIONS) or "[]")
    entry = {"name": version.name, "version": version.version}
    if not any(str(one) == str(entry) for one in versions):
        tag = {MLFLOW_MODEL_VERSIONS: json.dumps([*versions, entry])}
        client.set_logged_model_tags(version.model_id, tag)


def _cut(markdown: str) -> str:
    """Cut a description to the limit of MLflow's databases, at the end of a line."""
    if len(markdown) <= DESCRIPTION_LIMIT:
        return markdown
    mark = f"\n\n... (cut: it has {len(markdown)} characters)"
    head = markdown[: DESCRIPTION_LIMIT - len(mark)]
    return (head.rpartition("\n")[0] or head) + mark


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
