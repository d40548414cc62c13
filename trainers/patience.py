"""Waiting for what a topic has: not so long in all, as a long topic takes its time, but so long without anything coming."""

from __future__ import annotations

import time
from typing import Final

#: Longest silence of the broker while records that it has are awaited (seconds).
PATIENCE_S: Final = 120.0


class Patience:
    """Runs out when what is waited for has not moved for `PATIENCE_S`."""

    def __init__(self) -> None:
        self._at, self._since = -1, time.monotonic()

    def over(self, at: int) -> bool:
        """Whether to give up. ``at``: how far reading has come."""
        now = time.monotonic()
        if at != self._at:
            self._at, self._since = at, now
        return now - self._since > PATIENCE_S
