"""Times as people write them: with an offset as they are, without one in the zone, and never over a clock change unseen."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from reward.desk.periods import Period, period
from schemas.errors import AmbiguousTime, ClockChange, InvalidTime, NonexistentTime, UnknownZone

NOW_MS = 1_795_176_000_000  #: 2026-11-20 12:00 UTC


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp() * 1000)


def test_a_time_without_an_offset_is_of_the_zone() -> None:
    """Berlin is an hour ahead in winter; a date alone is its midnight."""
    assert period("2026-12-01T00:00", "2026-12-03", "Europe/Berlin", NOW_MS) == Period(
        ms("2026-11-30T23:00+00:00"), ms("2026-12-02T23:00+00:00")
    )
    assert period("", "", "Europe/Berlin", NOW_MS) == Period(0, 0)
    assert period("2026-12-01T00:00Z", "", "Europe/Berlin", NOW_MS).starts_ms == ms("2026-12-01T00:00+00:00")


def test_a_time_that_a_clock_change_skips_or_repeats_is_refused() -> None:
    """Berlin, 2027-03-28: 02:00 to 03:00 is not there. 2027-10-31: 02:00 to 03:00 is there twice."""
    with pytest.raises(NonexistentTime, match=r"02:30.*put forward.*2027-03-28T02:30:00\+0100 or 2027-03-28T02:30:00\+0200"):
        period("2027-03-28T02:30", "", "Europe/Berlin", NOW_MS)
    with pytest.raises(AmbiguousTime, match=r"02:30.*put back.*\+0200 or .*\+0100"):
        period("2027-10-31T02:30", "", "Europe/Berlin", NOW_MS)
    assert period("2027-10-31T02:30+02:00", "", "Europe/Berlin", NOW_MS).starts_ms == ms("2027-10-31T00:30+00:00")


def test_a_clock_change_inside_a_local_period_is_told_with_its_hours() -> None:
    """A day of 23 hours: when, how much, what to do; with offsets, or on purpose, it is taken."""
    asked = "2027-03-27T12:00", "2027-03-28T12:00", "Europe/Berlin", NOW_MS
    with pytest.raises(ClockChange, match=r"forward by 1 h at 2027-03-28 01:00 UTC.*accept_clock_change"):
        period(*asked)
    starts_ms, ends_ms = period(*asked, accept_clock_change=True)
    assert ends_ms - starts_ms == 23 * 3_600_000
    assert period("2027-03-27T12:00+01:00", "2027-03-28T12:00+02:00", "Europe/Berlin", NOW_MS) == (starts_ms, ends_ms)
    with pytest.raises(ClockChange, match=r"back by 1 h at 2027-10-31 01:00 UTC"):
        period("2027-10-30T00:00", "2027-11-01T00:00+01:00", "Europe/Berlin", NOW_MS)
    with pytest.raises(ClockChange, match=r"back by 0.5 h"):  # Lord Howe turns by half an hour
        period("2027-04-03T00:00", "2027-04-05T00:00", "Australia/Lord_Howe", NOW_MS)
    with pytest.raises(ClockChange, match=r"2027-03-28"):  # from now on
        period("", "2027-04-01T00:00", "Europe/Berlin", NOW_MS)
    assert period("2026-12-01T00:00", "2027-03-28T02:00", "Asia/Tokyo", NOW_MS).ends_ms


@pytest.mark.parametrize("text", ["0001-01-01T00:00", "9999-12-31T23:59", "2026-13-01", "27.11.2026", "1e9"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(InvalidTime):
        period(text, "", "UTC", NOW_MS)


@pytest.mark.parametrize(
    "zone",
    [
        "Mars/Base",
        "../etc/passwd",
        "/etc/passwd",
        "Europe",
        "",
        "localtime",
        "europe/berlin",
        "right/Europe/Berlin",
        "posix/UTC",
    ],
)
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(UnknownZone, match="IANA"):
        period("", "", zone, NOW_MS)


def test_a_zone_that_counts_leap_seconds_is_refused_with_the_one_that_is_meant() -> None:
    with pytest.raises(UnknownZone, match=r"'right/Europe/Berlin'.*nearest: Europe/Berlin"):
        period("", "", "right/Europe/Berlin", NOW_MS)


@given(
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Africa/Casablanca", "Asia/Kolkata"]),
    st.datetimes(datetime(2027, 1, 1), datetime(2028, 12, 31)),
    st.integers(1, 24 * 40),
)
def test_a_local_period_without_complaint_is_as_long_as_its_clock_says(zone: str, start: datetime, hours: int) -> None:
    """The property behind all of it: if nothing is said, elapsed time is the difference of the two local times."""
    start = start.replace(microsecond=0)
    end = datetime.fromtimestamp(start.replace(tzinfo=UTC).timestamp() + hours * 3600, UTC).replace(tzinfo=None)
    try:
        found = period(start.isoformat(), end.isoformat(), zone, NOW_MS)
    except InvalidTime:
        offsets = {
            datetime.fromtimestamp(start.replace(tzinfo=UTC).timestamp() + n * 1800, UTC)
            .astimezone(ZoneInfo(zone))
            .utcoffset()
            for n in range(-30, 2 * hours + 30)
        }
        assert len(offsets) > 1  # it complains only near or over a change
        return
    assume(found.ends_ms)
    assert found.ends_ms - found.starts_ms == hours * 3_600_000
