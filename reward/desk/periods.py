"""From what people write of times to event time, and never over a clock change without saying so."""

from __future__ import annotations

import difflib
import zoneinfo
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

from schemas.errors import (
    AmbiguousTime,
    ClockChange,
    EndsBeforeStart,
    EndsInPast,
    InvalidTime,
    NonexistentTime,
    UnknownZone,
)

#: Years in which a time may lie.
YEARS: Final = (1970, 2200)
_FORM: Final = "an ISO 8601 time such as 2026-11-27T08:00 or 2026-11-27T08:00+01:00"
_WITH_OFFSET: Final = "write it with its UTC offset"
#: Two clock changes of a zone lie further apart than this.
_STEP: Final = timedelta(hours=12)


class Period(NamedTuple):
    """Event time in ms; 0: no such end."""

    starts_ms: int
    ends_ms: int


def period(starts: str, ends: str, zone: str, now_ms: int, accept_clock_change: bool = False) -> Period:
    """What two written times mean, either of them empty. One with an offset is taken as it is, one without in ``zone``.

    Raises:
        UnknownZone, InvalidTime: it cannot be read, or a clock change makes it none or two (`NonexistentTime`, `AmbiguousTime`).
        EndsBeforeStart, EndsInPast: of the period.
        ClockChange: the clocks change inside a period that stands in local time, and nobody accepted that.
    """
    where = open_zone(zone)
    start, end = (_moment(text, where) if text else None for text in (starts, ends))
    found = Period(_ms(start) if start else 0, _ms(end) if end else 0)
    check(found, now_ms)
    local = any(text and datetime.fromisoformat(text).tzinfo is None for text in (starts, ends))
    if local and end and not accept_clock_change:
        _no_change_between(start or datetime.fromtimestamp(now_ms / 1000, UTC), end, where)
    return found


def check(period: Period, now_ms: int) -> None:
    """Refuse a period that is empty or over.

    Raises:
        EndsBeforeStart, EndsInPast: with both times.
    """
    starts_ms, ends_ms = period
    if ends_ms and starts_ms and ends_ms <= starts_ms:
        raise EndsBeforeStart(
            "the period's end", shown(ends_ms), f"after its start, {shown(starts_ms)}", "correct one of them"
        )
    if ends_ms and ends_ms <= now_ms:
        raise EndsInPast("the period's end", shown(ends_ms), f"later than now, {shown(now_ms)}", "choose a later end")


def open_zone(name: str) -> ZoneInfo:
    """A zone by its IANA name.

    Raises:
        UnknownZone: names the nearest.
    """
    if name not in _zones():
        near = difflib.get_close_matches(name, _zones(), n=3, cutoff=0.5)
        remedy = f"nearest: {', '.join(near)}" if near else "write for example Europe/Berlin"
        raise UnknownZone("zone", name, "the IANA name of a time zone", remedy)
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    """Names that mean the same everywhere: ``right/`` counts leap seconds, which event time does not, and ``localtime`` is
    whatever this machine is set to."""
    return frozenset(zoneinfo.available_timezones() - {"localtime", "Factory"})


def shown(at_ms: int, zone: str = "UTC") -> str:
    """A time as people read it, in a zone."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(zone)).isoformat(sep=" ", timespec="seconds")


def _moment(text: str, zone: ZoneInfo) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidTime("time", text, _FORM, "correct it") from error
    if not YEARS[0] < at.year < YEARS[1]:
        raise InvalidTime("time", text, f"between the years {YEARS[0]} and {YEARS[1]}", "correct it")
    if at.tzinfo is not None:
        return at
    early, late = at.replace(tzinfo=zone), at.replace(tzinfo=zone, fold=1)
    if early.utcoffset() == late.utcoffset():
        return early
    if early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at:
        bound = f"a time that {zone.key} has: its clocks are put forward then"
        raise NonexistentTime("time", text, bound, f"{_WITH_OFFSET}, {_both(early, late)}")
    bound = f"one time in {zone.key}: its clocks are put back then, so it is there twice"
    raise AmbiguousTime("time", text, bound, f"{_WITH_OFFSET}, {_both(early, late)}")


def _both(early: datetime, late: datetime) -> str:
    """The two readings, each with its offset."""
    return " or ".join(f"{at.replace(tzinfo=None).isoformat()}{at.strftime('%z')}" for at in (early, late))


def _no_change_between(start: datetime, end: datetime, zone: ZoneInfo) -> None:
    at, stop = start.astimezone(UTC), end.astimezone(UTC)
    while at < stop:
        step = min(at + _STEP, stop)
        before, after = _offset(at, zone), _offset(step, zone)
        if before != after:
            when = _turn(at, step, zone)
            hours = (after - before) / timedelta(hours=1)
            told = (
                f"the clocks of {zone.key} are put {'forward' if hours > 0 else 'back'} by {abs(hours):g} h at {_utc(when)}"
            )
            remedy = "give both times with their UTC offset, or accept the clock change (accept_clock_change)"
            value = f"{start.isoformat()} to {end.isoformat()}"
            raise ClockChange("the period", value, f"without a clock change when it is in local time; {told}", remedy)
        at = step


def _turn(low: datetime, high: datetime, zone: ZoneInfo) -> datetime:
    """The first second of the new offset."""
    old = _offset(low, zone)
    while high - low > timedelta(seconds=1):
        middle = low + (high - low) / 2
        low, high = (middle, high) if _offset(middle, zone) == old else (low, middle)
    return high.replace(microsecond=0)


def _offset(at: datetime, zone: ZoneInfo) -> timedelta:
    return at.astimezone(zone).utcoffset() or timedelta()


def _utc(at: datetime) -> str:
    return at.strftime("%Y-%m-%d %H:%M UTC")


def _ms(at: datetime) -> int:
    return round(at.timestamp() * 1000)
