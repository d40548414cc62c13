"""The log's integrity: facts per window of event time, the verdict on each window, and a person's release of one."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

#: Facts come from the join and from the joined page views.
Stage = Literal["join", "views"]


#: End of the year 9999 (ms).
LAST_MOMENT: Final = 253_402_300_799_999


def moment(at_ms: int) -> str:
    """Event time as windows are named by people: `2026-03-01T13:00:00`, UTC; in ms where no calendar has it."""
    if not 0 <= at_ms <= LAST_MOMENT:
        return f"{at_ms} ms"
    return datetime.fromtimestamp(at_ms / 1_000, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def window(start: int) -> str:
    """A window as messages name it, by its start: as people type it, and in ms as records have it."""
    return f"window {moment(start)} ({start} ms)"


class Sample(msgspec.Struct, frozen=True):
    """An event to look at: its id, where it lies, and what is noteworthy about it."""

    id: str
    topic: str
    partition: int
    offset: int
    detail: str = ""


class Facts(msgspec.Struct, frozen=True, tag_field="type", tag="facts"):
    """What one partition adds to a window. ``sums``: name of a check -> the vector that it judges (`streams.integrity.checks`);
    vectors of partitions and of windows add up. Nothing follows for this or an earlier window of this source and stage."""

    source: int  #: partition
    stage: Stage
    stamp: int  #: end of the window (event time, ms), up to which the source is complete
    sums: dict[str, tuple[float, ...]] = {}
    samples: dict[str, tuple[Sample, ...]] = {}  #: up to `SAMPLES` a check
    v: int = 1


class Check(msgspec.Struct, frozen=True):
    """One check of one window: healthy while ``low <= value <= high``; a bound that is None there is none."""

    name: str
    value: float
    expected: float
    low: float | None
    high: float | None
    observed: int  #: events that the value rests on
    remedy: str
    broken: bool
    samples: tuple[Sample, ...] = ()  #: of a broken one

    @property
    def bound(self) -> str:
        """What the value must be, in words."""
        said = [f"at least {self.low:.4g}"] if self.low is not None else []
        said += [f"at most {self.high:.4g}"] if self.high is not None else []
        return " and ".join(said) or "anything"

    @property
    def strain(self) -> float:
        """Distance from what is expected, in units of the distance allowed: above 1 is broken."""
        bound = self.high if self.value > self.expected else self.low
        if bound is None or self.value == self.expected:
            return 0.0
        return (self.value - self.expected) / (bound - self.expected) if bound != self.expected else math.inf

    def __str__(self) -> str:
        return f"{self.name} is {self.value:.4g}, but must be {self.bound}; {self.remedy}"


class Verdict(msgspec.Struct, frozen=True, tag_field="type", tag="verdict"):
    """On the window ``[start, end)`` of event time (ms). A page view is touched by it when it was shown in ``[since, end)``."""

    start: int
    end: int
    since: int  #: ``start`` less the click window: what was shown then may have its clicks in the window
    broken: bool
    checks: tuple[Check, ...]  #: those with enough to judge, and those that stay broken for want of it
    released_by: str = ""  #: who let a broken window pass
    reason: str = ""  #: why it was let pass
    v: int = 1

    @property
    def stands(self) -> bool:
        """Broken, and nobody has let it pass."""
        return self.broken and not self.released_by

    @property
    def failed(self) -> tuple[Check, ...]:
        """The broken checks."""
        return tuple(check for check in self.checks if check.broken)


class Release(msgspec.Struct, frozen=True, tag_field="type", tag="release"):
    """A person lets a broken window pass: its examples are learned.

    ``new_normal``: besides, what broke in it is how things are from now on, and the healthy past of those checks is thrown
    away. The default is what records without the field meant; `streams.integrity.releasing` always writes it.
    """

    start: int  #: of the window (event time, ms)
    author: str
    reason: str
    created_ms: int
    new_normal: bool = True
    v: int = 1


#: Events that are kept for a check and a window.
SAMPLES = 5
