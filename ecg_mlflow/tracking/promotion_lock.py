"""Promotions take turns: the version of a model is a ticket, and its number says when it's due.

MLflow's registry has no compare-and-swap for aliases, but gives version numbers one by one, in
order. So a promotion first makes its version, with the mark of its process, and decides of it only
when all lower versions have been decided. Whoever died before that is passed over.

The alias says what was decided: it is moved after all that explains it was written, and before the
version stops being pending. So a death in the middle leaves a pending version of a dead process,
which was promoted where it has the alias, and abandoned where it has not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

from mlflow import MlflowClient

from ecg_mlflow.errors import PromotionError, TrackingError
from ecg_mlflow.provenance import HEARTBEAT_S, ProcessMark, heartbeat
from ecg_mlflow.tracking.client import store_errors
from ecg_mlflow.tracking.runs import REASON_TAG
from ecg_mlflow.tracking.settling import lives, settle
from ecg_mlflow.tracking.versions import (
    CHALLENGER,
    DECIDED_TAG,
    DECISION_TAG,
    NO_VERSION,
    ORDER_TAG,
    PASSED_OVER_TAG,
    PREVIOUS_TAG,
    Decision,
    RegisteredVersion,
    find_model,
    find_version,
    holder,
    pending_versions,
    present,
    rolling_back,
    set_alias,
    set_tags,
)

#: Characters of a version's description that every database takes.
DESCRIPTION_LIMIT = 5000
#: Seconds between two looks at those who come first.
PAUSE_S = 1.0


class Ticket:
    """A promotion that waits for its turn, and decides.

    Use it as a context manager: who leaves without a decision gives the turn to the next.

    Attributes
    ----------
    client, name, version, alias
        The store, the version, and the alias that it is about.
    """

    def __init__(
        self, client: MlflowClient, name: str, version: int, alias: str, order: str
    ) -> None:
        self.client = client
        self.name = name
        self.version = version
        self.alias = alias
        self._order = order
        self._is_decided = False
        self._beaten = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_decided:
            return
        reason = f"{type(error).__name__}: {error}".rstrip(": ") if error else "nothing was decided"
        try:
            self.abandon(reason)
        except TrackingError as closing:
            if error is None:
                raise
            error.add_note(str(closing))

    def beat(self) -> None:
        """Give a sign of life, now and then; between two beats it costs nothing."""
        now = time.monotonic()
        if now - self._beaten >= HEARTBEAT_S:
            self._beaten = now
            self._tag(heartbeat())

    def wait_for_turn(
        self, on_wait: Callable[[str], None] | None = None, pause_s: float = PAUSE_S
    ) -> None:
        """Wait until all who came earlier have decided, and no rollback is going on.

        Parameters
        ----------
        on_wait
            Told whom it waits for, whenever that changes. What it raises ends the waiting.
        pause_s
            Seconds between two looks.

        Raises
        ------
        TrackingError
            If the store fails.
        """
        told: str | None = None
        while (blocking := self._blocking()) is not None:
            if on_wait and blocking != told:
                on_wait(blocking)
            told = blocking
            self.beat()
            time.sleep(pause_s)

    def champion(self) -> RegisteredVersion | None:
        """Return the version that has the alias now."""
        model = find_model(self.client, self.name)
        return None if model is None else holder(self.client, model, self.alias)

    def decide(
        self,
        *,
        promoted: bool,
        reason: str,
        against: RegisteredVersion | None,
        report: str = "",
        tags: Mapping[str, object] | None = None,
    ) -> bool:
        """Write a decision down and move the alias, unless the champion has changed meanwhile.

        It waits for its turn, if that has not come.

        Parameters
        ----------
        promoted
            Whether the version gets the alias; otherwise it gets `CHALLENGER`.
        reason
            Why.
        against
            The champion that the version was judged against; None where there was none.
        report
            Markdown, the version's description; what is over MLflow's limit is cut.
        tags
            More tags, such as figures.

        Returns
        -------
        False where the alias stands for another version than `against`, by a rollback or by hand.
        Nothing was written then: judge against the new champion, and decide again.

        Raises
        ------
        PromotionError
            The version was deleted, was decided already, or has itself got the alias by other
            means; or others have taken this process for dead.
        TrackingError
            The store fails. The version stays pending, or is promoted if it has the alias.
        """
        self.wait_for_turn()
        # First the sign of life and then the look whether others have missed it; they write first
        # and look then. So at least one of both sees the other.
        self._tag(heartbeat())
        own = self._check_pending()
        now = self.champion()
        if now is not None and now.version == self.version:
            raise PromotionError(f"{own} was given the alias {self.alias!r} before it was decided")
        if (now and now.version) != (against and against.version):
            return False
        previous = NO_VERSION if now is None else now.version
        explained = {REASON_TAG: reason, PREVIOUS_TAG: previous, DECIDED_TAG: present()}
        self._tag({**(tags or {}), **explained})
        if report:
            with store_errors(f"describe {own}"):
                self.client.update_model_version(self.name, str(self.version), fitting(report))
        alias = self.alias if promoted else CHALLENGER
        set_alias(self.client, self.name, self.version, alias)
        self._tag({DECISION_TAG: Decision.PROMOTED if promoted else Decision.REFUSED})
        self._is_decided = True
        return True

    def abandon(self, reason: str) -> None:
        """Give the turn to the next, without a decision.

        Raises
        ------
        TrackingError
            If the store fails.
        """
        self._is_decided = True
        own = find_version(self.client, self.name, self.version)
        if own is not None and own.decision == Decision.PENDING:
            settle(self.client, own, reason)

    def _tag(self, tags: Mapping[str, object]) -> None:
        self._own()  # who deleted it is told so
        set_tags(self.client, self.name, self.version, tags)

    def _own(self) -> RegisteredVersion:
        found = find_version(self.client, self.name, self.version)
        if found is None:
            raise PromotionError(
                f"version {self.version} of {self.name!r} was deleted while it was being judged"
            )
        return found

    def _check_pending(self) -> RegisteredVersion:
        own = self._own()
        if own.decision != Decision.PENDING:
            raise PromotionError(
                f"{own} is {own.decision or 'no longer pending'} already: "
                f"{own.tags.get(REASON_TAG, 'no reason is given')}"
            )
        if PASSED_OVER_TAG in own.tags:
            raise PromotionError(
                f"{own} was passed over, for others have missed its signs of life for too long; "
                "promote the model again"
            )
        return own

    def _blocking(self) -> str | None:
        """Say who has to be waited for, and settle what the dead have left."""
        model = find_model(self.client, self.name)
        process = None if model is None else rolling_back(model)
        if process is not None:
            return f"{process}, which takes back an alias of {self.name}"
        for other in pending_versions(self.client, self.name):
            if other.tags.get(ORDER_TAG) == self._order and other.version != self.version:
                # The store made a version, and its answer was lost on the way.
                settle(self.client, other, "made twice by one promotion")
            elif other.version < self.version and lives(self.client, other):
                return f"{other}, which {ProcessMark.from_tags(other.tags)} is judging"
        return None


def fitting(markdown: str) -> str:
    """Return a description within the limit of MLflow's databases, cut at the end of a line."""
    if len(markdown) <= DESCRIPTION_LIMIT:
        return markdown
    mark = f"\n\n... (cut: it has {len(markdown)} characters)"
    head = markdown[: DESCRIPTION_LIMIT - len(mark)]
    return (head.rpartition("\n")[0] or head) + mark
