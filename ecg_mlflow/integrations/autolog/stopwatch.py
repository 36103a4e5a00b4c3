"""Time spent on one thing, in pieces."""

from __future__ import annotations

import time


class Stopwatch:
    """Adds up the seconds between `go` and `halt`; each may be called again.

    Attributes
    ----------
    has_begun
        Whether `go` was ever called.
    """

    def __init__(self) -> None:
        self.has_begun = False
        self._total = 0.0
        self._since: float | None = None

    @property
    def seconds(self) -> float:
        """What was measured so far."""
        running = 0.0 if self._since is None else time.perf_counter() - self._since
        return self._total + running

    def go(self) -> None:
        """Start, or go on."""
        self.has_begun = True
        if self._since is None:
            self._since = time.perf_counter()

    def halt(self) -> None:
        """Stop until `go`; a watch that never began stays so."""
        self._total, self._since = self.seconds, None
