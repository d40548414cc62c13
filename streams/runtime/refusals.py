"""Counts and a log line of what an agent's partition sends to quarantine: by reason, never a line a record."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping

import structlog

from streams.runtime import metrics

logger = structlog.get_logger(__name__)

PREFIX = "quarantined."
#: Least time between two lines of one partition (s); what comes meanwhile is in the next one.
QUIET_S = 10.0


class Refusals:
    """Follows a core's cumulative counters from commit to commit. ``clock`` is in seconds."""

    def __init__(self, agent: str, partition: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._agent, self._partition, self._clock = agent, partition, clock
        self._counted: Counter[str] = Counter()
        self._untold: Counter[str] = Counter()
        self._told_at = float("-inf")

    def start(self, counters: Mapping[str, int]) -> None:
        """What has been counted before is another process's to tell."""
        self._counted = _refused(counters)

    def tell(self, counters: Mapping[str, int]) -> None:
        """Count what is new since the last call; log it when the last line is old enough."""
        now, counted = self._clock(), _refused(counters)
        fresh = counted - self._counted
        self._counted = counted
        for reason, number in fresh.items():
            metrics.QUARANTINED.labels(self._agent, str(self._partition), reason).inc(number)
        self._untold += fresh
        if self._untold and now - self._told_at >= QUIET_S:
            logger.warning("quarantined", agent=self._agent, partition=self._partition, records=dict(self._untold))
            self._untold, self._told_at = Counter(), now


def _refused(counters: Mapping[str, int]) -> Counter[str]:
    return Counter({name.removeprefix(PREFIX): n for name, n in counters.items() if name.startswith(PREFIX)})
