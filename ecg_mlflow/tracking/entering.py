"""Register a model for promotion: a new version of a name, which is a ticket in its queue."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from contextlib import ExitStack

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from ecg_mlflow.errors import PromotionError
from ecg_mlflow.provenance import ProcessMark, heartbeat
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.promotion_lock import Ticket
from ecg_mlflow.tracking.versions import (
    ALIAS_TAG,
    CHALLENGER,
    CHAMPION,
    DECISION_TAG,
    MODEL_TAG,
    ORDER_TAG,
    Decision,
)

#: How often a version is tried to be made while others make theirs: each time one of them succeeds.
_TRIES = 50


def enter(
    client: MlflowClient,
    name: str,
    source: str,
    *,
    run_id: str,
    model_id: str = "",
    alias: str = CHAMPION,
    tags: Mapping[str, object] | None = None,
) -> Ticket:
    """Register a model as a new, pending version, the ticket of a promotion.

    Parameters
    ----------
    client
        The store; it was opened before, as `ecg_mlflow.tracking.connect` does.
    name
        Name of the registered model, made where there is none.
    source
        Where the model's files are: a logged model's ``artifact_location``.
    run_id, model_id
        The run and the logged model that it comes from.
    alias
        What it shall get.
    tags
        More tags of the version.

    Raises
    ------
    PromotionError
        The alias is none that a promotion can give.
    TrackingError
        The store fails, or refuses the name.
    """
    _check_alias(alias)
    order = uuid.uuid4().hex
    all_tags = {
        **{key: str(value) for key, value in (tags or {}).items()},
        DECISION_TAG: str(Decision.PENDING),
        ALIAS_TAG: alias,
        ORDER_TAG: order,
        **({MODEL_TAG: model_id} if model_id else {}),
        **ProcessMark.own().tags(),
        **heartbeat(),
    }
    with store_errors(f"register a model as {name!r}"):
        try:
            client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        version = _create_version(client, name, source, run_id, model_id, all_tags)
        ticket = Ticket(client, name, version, alias, order)
        if model_id:
            with ExitStack() as on_error:
                on_error.push(ticket)  # others must not wait for it
                _link(client, name, version, model_id)
                on_error.pop_all()
    return ticket


def _check_alias(alias: str) -> None:
    """Refuse what MLflow would refuse, or misread, only when all is judged."""
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"(?i)latest|v\d+", alias):
        raise PromotionError(
            f"{alias!r} can't be an alias: MLflow takes letters, digits, _ and -, but not 'latest' "
            "and nothing like 'v1'"
        )
    if alias == CHALLENGER:
        raise PromotionError(f"the alias {alias!r} marks what was refused; promote to another one")


def _create_version(
    client: MlflowClient,
    name: str,
    source: str,
    run_id: str,
    model_id: str,
    tags: Mapping[str, str],
) -> int:
    for n_left in reversed(range(_TRIES)):
        try:
            made = client.create_model_version(
                name, source, run_id, tags=dict(tags), model_id=model_id or None
            )
        except MlflowException as error:
            # MLflow has tried three times to be the first to take the next number.
            if "Model Version creation error" not in str(error) or not n_left:
                raise
        else:
            return int(made.version)
    raise AssertionError("the last try raises")


def _link(client: MlflowClient, name: str, version: int, model_id: str) -> None:
    """Let the logged model name the version, as MLflow's server does by itself."""
    tags = client.get_logged_model(model_id).tags
    versions = json.loads(tags.get(MLFLOW_MODEL_VERSIONS) or "[]")
    entry = {"name": name, "version": version}
    if not any(str(one) == str(entry) for one in versions):
        tag = {MLFLOW_MODEL_VERSIONS: json.dumps([*versions, entry])}
        client.set_logged_model_tags(model_id, tag)
