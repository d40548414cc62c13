"""Stretches of event time, as they are named on a command line and as records say it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import NamedTuple

import msgspec

from schemas.codec import UNREADABLE
from schemas.errors import InvalidRequest

#: Later than any event time (ms): year 2100.
END_OF_TIME = 4_102_444_800_001
#: Whole numbers below it are offsets where an offset may stand, those from it on are ms since 1970 (then: March 1973).
FIRST_TIME = 100_000_000_000


class Span(NamedTuple):
    """Event times from ``start`` up to, but without, ``end`` (ms)."""

    start: int = 0
    end: int = END_OF_TIME

    @property
    def whole(self) -> bool:
        """Whether it leaves nothing out."""
        return self == Span()

    def common(self, other: Span) -> Span:
        """What both cover; it may be empty."""
        return Span(max(self.start, other.start), min(self.end, other.end))


def span(start: str, end: str) -> Span:
    """The stretch between two times as `parse_time` takes them; an empty text leaves that side open.

    Raises:
        InvalidRequest: not times, or the end is not after the start.
    """
    said = Span(parse_time(start) if start else 0, parse_time(end) if end else END_OF_TIME)
    if said.end <= said.start:
        raise InvalidRequest("end of the time", end, f"after the start {start or 0}", "exchange them, or leave one out")
    return said


def parse_time(text: str) -> int:
    """ISO 8601, UTC where it names no zone, or ms since 1970; in ms.

    Raises:
        InvalidRequest: it is neither.
    """
    if text.isdecimal():
        return int(text)
    try:
        when = datetime.fromisoformat(text)
    except ValueError as error:
        bound = "ISO 8601 (2026-03-01T12:00:00+01:00) or ms since 1970"
        raise InvalidRequest("time", text, bound, "write it so") from error
    return round((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp() * 1_000)


class _Time(msgspec.Struct):
    ts: int = 0
    stamp: int = 0


def event_time(raw: bytes) -> int:
    """The record's own event time (ms): ``ts`` of events, views and examples, ``stamp`` of counts and snapshots; 0 if none."""
    try:
        time = _decode(raw)
    except UNREADABLE:
        return 0
    return time.ts or time.stamp


_decode = msgspec.json.Decoder(_Time).decode
