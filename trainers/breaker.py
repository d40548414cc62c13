"""What the learner makes of verdicts on its log: when it stands still, and whose examples it puts aside.

A pure follower. What shapes a step (the stretches put aside) goes into the step's intent; so replaying a journal does not
depend on when a verdict arrived.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schemas.integrity import Verdict
from trainers.settings import BreakerSettings

#: Stretches ``[start, end)`` of event time (ms), apart and in order.
Spans = tuple[tuple[int, int], ...]
#: Revisions of a page still come for a day of orders and three of returns; stretches older than this (ms) are forgotten.
MEMORY_MS: Final = 14 * 86_400_000


class Breaker:
    """Follows `integrity.verdicts`; the last verdict on a window counts."""

    def __init__(self, settings: BreakerSettings) -> None:
        self._settings = settings
        self._standing: dict[int, Verdict] = {}  # start -> broken windows that nobody has let pass
        self._newest: Verdict | None = None
        #: Stretches whose examples are put aside.
        self.aside: Spans = ()

    def follow(self, verdict: Verdict) -> None:
        """Take a verdict, in the order of the topic."""
        if self._newest is None or verdict.start >= self._newest.start:
            self._newest = verdict
        if verdict.stands:
            self._standing[verdict.start] = verdict
        else:
            self._standing.pop(verdict.start, None)
        oldest = self._newest.start - MEMORY_MS
        self._standing = {start: v for start, v in self._standing.items() if v.end > oldest}
        self.aside = merged((v.since, v.end) for v in self._standing.values())

    @property
    def newest(self) -> Verdict | None:
        """The verdict on the newest window."""
        return self._newest

    @property
    def holding(self) -> Verdict | None:
        """The verdict for which training stands still, None when it does not."""
        held = self._settings.on_broken == "hold" and self._newest is not None and self._newest.stands
        return self._newest if held else None

    def unjudged(self, ts: int) -> bool:
        """Whether an example of a page shown at ``ts`` has to wait for its window's verdict."""
        return self._settings.unjudged == "wait" and (self._newest is None or ts >= self._newest.end)


def merged(spans: Iterable[tuple[int, int]]) -> Spans:
    """The same stretches, those that touch made one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((start, end))
    return tuple(found)


def inside(ts: int, spans: Spans) -> bool:
    """Whether event time ``ts`` (ms) lies in one of the stretches."""
    return any(start <= ts < end for start, end in spans)
