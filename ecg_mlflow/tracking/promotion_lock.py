"""Promotions and rollbacks of a registered model, one at a time on a machine.

A file lock keeps other processes of this machine out. For those of other machines the alias is
read again just before it is set: if it has moved, nothing is written, and the caller compares with
the new champion. (MLflow has no compare-and-swap: two machines that set an alias within the same
few milliseconds are not told apart, and the later one has it.)

A version is registered as pending before it is compared. The alias is set after the tags that
explain the decision, and before the version stops being pending. So a process that dies leaves the
old champion, or the new one with its reason, and a pending version, which the next promotion or
rollback closes: as decided where it has the alias, as abandoned where it has not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_MODEL_VERSIONS

from ecg_mlflow.errors import PromotionError, TrackingError
from ecg_mlflow.files import cache_root, locked
from ecg_mlflow.grids.canonical import digest
from ecg_mlflow.provenance import ProcessMark, heartbeat, living_process
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.registry import (
    ALIAS_TAG,
    CHALLENGER,
    CHAMPION,
    DECIDED_TAG,
    DECISION_TAG,
    MODEL_TAG,
    NO_VERSION,
    PREVIOUS_TAG,
    RESTORED_TAG,
    ROLLED_BACK_TAG,
    Decision,
    RegisteredVersion,
    champion,
    find_model,
    find_version,
    find_versions,
    registered_model,
    set_alias,
    set_tags,
    tag_time,
)
from ecg_mlflow.tracking.runs import REASON_TAG

#: Characters of a version's description that every database takes.
DESCRIPTION_LIMIT = 5000


@contextmanager
def promotion_lock(
    client: MlflowClient, name: str, on_wait: Callable[[str], None] | None = None
) -> Iterator[None]:
    """Hold the lock of a registered model, and close the versions that dead processes left.

    Parameters
    ----------
    client, name
        The store and the registered model.
    on_wait
        Told who has the lock, before waiting for it; None: don't wait.

    Raises
    ------
    PromotionError
        If it is not to wait, and another process of this machine has the lock.
    TrackingError
        If the store fails.
    """
    target = cache_root() / "promotions" / digest([client.tracking_uri, name])[:16]
    with ExitStack() as stack:
        try:
            stack.enter_context(locked(target, timeout_s=0))
        except TimeoutError:
            what = _in_progress(client, name)
            if on_wait is None:
                raise PromotionError(f"{what}: wait for its end, or end it") from None
            on_wait(what)
            stack.enter_context(locked(target))
        for version in find_versions(client, name, Decision.PENDING):
            if living_process(version.tags) is None:
                who = ProcessMark.from_tags(version.tags) or "its process"
                _close(client, version, f"{who} has ended without a decision")
        yield


@dataclass(frozen=True)
class Promotion:
    """A registered version without a decision, see `open_promotion`.

    Attributes
    ----------
    client, name, version, alias
        The store, the version, and the alias that it is registered for.
    """

    client: MlflowClient
    name: str
    version: int
    alias: str

    def champion(self) -> RegisteredVersion | None:
        """Return the version that has the alias now."""
        return champion(self.client, self.name, self.alias)

    def beat(self) -> None:
        """Tell other machines that this process lives; they see it by nothing else."""
        self._tag(heartbeat())

    def decide(
        self,
        *,
        promoted: bool,
        reason: str,
        against: RegisteredVersion | None,
        report: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> bool:
        """Write the decision and set the alias, unless the champion has changed meanwhile.

        Parameters
        ----------
        promoted
            Whether the version gets the alias; otherwise it gets `CHALLENGER`.
        reason
            Why.
        against
            The champion that the version was compared with; None where there was none.
        report
            Markdown, the version's description; what is over MLflow's limit is cut.
        tags
            More tags, such as figures.

        Returns
        -------
        False where another version than `against` has the alias, set by another machine, a
        rollback or by hand. Nothing was written then: compare with the new champion.

        Raises
        ------
        PromotionError
            The version was deleted, has got the alias by hand, or was decided or closed already.
        TrackingError
            The store fails. The version stays pending, or is promoted if it has the alias.
        """
        own = self._check_pending()
        now = self.champion()
        if now is not None and now.version == self.version:
            raise PromotionError(f"{own} was given the alias {self.alias!r} before it was decided")
        if (now and now.version) != (against and against.version):
            return False
        previous = NO_VERSION if now is None else now.version
        explained = {REASON_TAG: reason, PREVIOUS_TAG: previous, DECIDED_TAG: tag_time()}
        self._tag({**(tags or {}), **explained})
        if report:
            with store_errors(f"describe {own}"):
                text = cut_description(report)
                self.client.update_model_version(self.name, str(self.version), text)
        alias = self.alias if promoted else CHALLENGER
        set_alias(self.client, self.name, self.version, alias)
        self._tag({DECISION_TAG: Decision.PROMOTED if promoted else Decision.REFUSED})
        return True

    def _tag(self, tags: Mapping[str, object]) -> None:
        set_tags(self.client, self.name, self.version, tags)

    def _check_pending(self) -> RegisteredVersion:
        own = find_version(self.client, self.name, self.version)
        if own is None:
            raise PromotionError(
                f"version {self.version} of {self.name!r} was deleted while it was being compared"
            )
        if own.decision != Decision.PENDING:
            raise PromotionError(
                f"{own} is {own.decision or 'no longer pending'} already: "
                f"{own.tags.get(REASON_TAG, 'no reason is given')}; promote the model again"
            )
        return own


@contextmanager
def open_promotion(
    client: MlflowClient,
    name: str,
    source: str,
    *,
    run_id: str,
    model_id: str = "",
    alias: str = CHAMPION,
    on_wait: Callable[[str], None] = lambda what: None,
) -> Iterator[Promotion]:
    """Register a model as a pending version, under the lock of its name.

    A version that has no decision at the end of the block is abandoned, with the reason.

    Parameters
    ----------
    client
        The store; it was opened before, as `ecg_mlflow.tracking.client.connect` does.
    name
        Name of the registered model, made where there is none.
    source
        Where the model's files are: a logged model's ``artifact_location``.
    run_id, model_id
        The run and the logged model that it comes from.
    alias
        The alias that it is registered for.
    on_wait
        Told who is waited for; what it raises ends the waiting.

    Raises
    ------
    PromotionError
        The alias is none that a promotion can give.
    TrackingError
        The store fails, or refuses the name.
    """
    _check_alias(alias)
    with promotion_lock(client, name, on_wait):
        version = _register(client, name, source, run_id, model_id, alias)
        try:
            if model_id:
                _link(client, version, model_id)
            yield Promotion(client, name, version.version, alias)
        except BaseException as error:
            try:
                _close(client, version, f"{type(error).__name__}: {error}".rstrip(": "))
            except TrackingError as closing:
                error.add_note(str(closing))
            raise
        _close(client, version, "nothing was decided")


@dataclass(frozen=True)
class Rollback:
    """An alias that was given back: the version that had it, and the one that has it again."""

    left: RegisteredVersion
    restored: RegisteredVersion


def rollback(client: MlflowClient, name: str, alias: str = CHAMPION) -> Rollback:
    """Give an alias back to the version that the present one has replaced.

    A second rollback goes one further back. Repeat one that was interrupted: the tags are written
    before the alias moves.

    Raises
    ------
    ModelError
        No model of that name is registered.
    PromotionError
        There is nothing to go back to, or a promotion or another rollback is going on here.
    TrackingError
        If the store fails.
    """
    registered_model(client, name)
    with promotion_lock(client, name):
        left = champion(client, name, alias)
        if left is None:
            raise PromotionError(f"{name!r} has no version with the alias {alias!r}")
        restored = _predecessor(client, left, alias)
        now = tag_time()
        left_tags = {DECISION_TAG: Decision.ROLLED_BACK, ROLLED_BACK_TAG: now}
        set_tags(client, name, left.version, left_tags)
        restored_tags = {RESTORED_TAG: f"{now}, after version {left.version}"}
        set_tags(client, name, restored.version, restored_tags)
        set_alias(client, name, restored.version, alias)
    return Rollback(left, restored)


def cut_description(markdown: str) -> str:
    """Return a description within the limit of MLflow's databases, cut at the end of a line."""
    if len(markdown) <= DESCRIPTION_LIMIT:
        return markdown
    mark = f"\n\n... (cut: it has {len(markdown)} characters)"
    head = markdown[: DESCRIPTION_LIMIT - len(mark)]
    return (head.rpartition("\n")[0] or head) + mark


def _in_progress(client: MlflowClient, name: str) -> str:
    for version in find_versions(client, name, Decision.PENDING):
        if process := living_process(version.tags):
            return f"{version} is being compared with the champion by {process}"
    return f"another process of this machine is promoting or rolling back {name!r}"


def _close(client: MlflowClient, version: RegisteredVersion, reason: str) -> None:
    """Close a pending version: as decided where it has the alias, else as abandoned."""
    model = find_model(client, version.name)
    now = find_version(client, version.name, version.version)
    if model is None or now is None or now.decision != Decision.PENDING:
        return
    tags: dict[str, object] = {REASON_TAG: reason, DECIDED_TAG: tag_time()}
    decision = Decision.ABANDONED
    if PREVIOUS_TAG in now.tags:  # by hand, aliases are given without it
        for alias, decided in (
            (now.tags.get(ALIAS_TAG, ""), Decision.PROMOTED),
            (CHALLENGER, Decision.REFUSED),
        ):
            if model.aliases.get(alias) in (now.version, str(now.version)):
                tags, decision = {}, decided
                break
    set_tags(client, now.name, now.version, {**tags, DECISION_TAG: decision})


def _check_alias(alias: str) -> None:
    """Refuse before any work what MLflow refuses, or misreads, in the end."""
    if not re.fullmatch(r"[\w-]{1,255}", alias) or re.fullmatch(r"(?i)latest|v\d+", alias):
        raise PromotionError(
            f"{alias!r} can't be an alias: MLflow takes letters, digits, _ and -, but not 'latest' "
            "and nothing like 'v1'"
        )
    if alias == CHALLENGER:
        raise PromotionError(f"the alias {alias!r} marks what was refused; promote to another one")


def _register(
    client: MlflowClient, name: str, source: str, run_id: str, model_id: str, alias: str
) -> RegisteredVersion:
    tags = {
        DECISION_TAG: str(Decision.PENDING),
        ALIAS_TAG: alias,
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
        made = client.create_model_version(
            name, source, run_id, tags=tags, model_id=model_id or None
        )
    return RegisteredVersion.from_mlflow(made)


def _link(client: MlflowClient, version: RegisteredVersion, model_id: str) -> None:
    """Let the logged model name the version, as MLflow's server does by itself."""
    with store_errors(f"link {version} to the model {model_id}"):
        tags = client.get_logged_model(model_id).tags
        versions = json.loads(tags.get(MLFLOW_MODEL_VERSIONS) or "[]")
        entry = {"name": version.name, "version": version.version}
        if not any(str(one) == str(entry) for one in versions):
            tag = {MLFLOW_MODEL_VERSIONS: json.dumps([*versions, entry])}
            client.set_logged_model_tags(model_id, tag)


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
