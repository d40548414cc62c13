"""Each check fires on a log that was broken on purpose, and none on the same log healthy."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
import pytest

from schemas.codec import encode
from schemas.events import Click, Impression, Order, ShownItem
from schemas.integrity import Verdict
from schemas.topics import CLICKS, IMPRESSIONS, ORDERS
from streams.integrity.checks import NAMES
from tests.streams.integrity_feed import HOUR, START, Sent, judged, sent, shop

Event = Impression | Click | Order
#: Six healthy hours of past, then two that are broken, then two healthy ones.
HOURS, FROM, TO = 10, START + 6 * HOUR, START + 8 * HOUR
EVENTS: list[Event] = sorted(shop(HOURS), key=lambda event: event.ts)


def same(event: Event) -> Iterable[Sent]:
    return [sent(event)]


def certain(event: Event) -> Iterable[Sent]:
    """The log says that every item was certain to stand where it was drawn to."""
    if isinstance(event, Impression):
        shown = tuple(ShownItem(item.item, item.position, 1.0) for item in event.items)
        event = msgspec.structs.replace(event, items=shown)
    return [sent(event)]


def of_nobody(event: Event) -> Iterable[Sent]:
    """A fifth of the clicks name a request that never was."""
    if isinstance(event, Click) and event.ts % 5 == 0:
        event = msgspec.structs.replace(event, request_id=f"lost-{event.request_id}")
    return [sent(event)]


def twice(event: Event) -> Iterable[Sent]:
    return [sent(event), sent(event)]


def cut(event: Event) -> Iterable[Sent]:
    """A third of the pages cannot be read: with their pages go their clicks and orders."""
    whole = sent(event)
    broken = isinstance(event, Impression) and event.ts % 3 == 0
    return [whole._replace(raw=whole.raw[:-9])] if broken else [whole]


def many_clicks(event: Event) -> Iterable[Sent]:
    """A robot clicks on everything shown."""
    robot = [Click(event.ts + 5_000, event.user, item.item, event.request_id) for item in event.items] if isinstance(
        event, Impression
    ) else []  # fmt: skip
    return [sent(event), *map(sent, robot)]


def few_clicks(event: Event) -> Iterable[Sent]:
    """Three of four clicks are not sent, nor what was ordered after them."""
    return [] if isinstance(event, Click) and event.ts % 4 else [sent(event)]


def late_clicks(event: Event) -> Iterable[Sent]:
    """The shop's clock gives clicks a time twenty minutes too late."""
    return [sent(msgspec.structs.replace(event, ts=event.ts + 1_200_000) if isinstance(event, Click) else event)]


def late_orders(event: Event) -> Iterable[Sent]:
    """Orders are told with the time of a nightly export, hours later."""
    return [sent(msgspec.structs.replace(event, ts=event.ts + 10 * HOUR) if isinstance(event, Order) else event)]


def slow(kind: type) -> Callable[[Event], Iterable[Sent]]:
    """One producer's records take two hours to the broker."""
    return lambda event: [sent(event)._replace(way_ms=2 * HOUR if isinstance(event, kind) else 500)]


#: Check -> how its log is broken, and the checks that may break with it.
BREAKS: dict[str, tuple[Callable[[Event], Iterable[Sent]], set[str]]] = {
    "propensities": (certain, set()),
    "click_join": (of_nobody, {"quarantine", "ctr"}),
    "duplicates": (twice, set()),
    "quarantine": (cut, {"click_join", "ctr", "order_delay"}),  # orders go to an earlier page of the user
    "ctr": (many_clicks, {"click_delay", "duplicates"}),
    "click_delay": (late_clicks, {"ctr", "quarantine", "order_delay"}),
    "order_delay": (late_orders, set()),
    "arrival_impressions": (slow(Impression), set()),
    "arrival_clicks": (slow(Click), set()),
    "arrival_orders": (slow(Order), set()),
}


def verdicts(how: Callable[[Event], Iterable[Sent]]) -> list[Verdict]:
    log = [record for event in EVENTS for record in (how if FROM <= event.ts < TO else same)(event)]
    log.sort(key=lambda record: record.ts)
    return judged(log).verdicts


def failed(found: Iterable[Verdict]) -> set[str]:
    return {check.name for verdict in found for check in verdict.failed}


def test_no_check_fires_on_the_healthy_log_and_all_of_them_judge() -> None:
    found = verdicts(same)
    assert not failed(found)
    assert {check.name for verdict in found for check in verdict.checks} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_log_that_is_broken_on_purpose_breaks_the_check_of_that_name(name: str) -> None:
    """Healthy before, broken by this check and only by what follows from the break, healthy again within hours; with events
    to look at that lie where they are said to lie."""
    how, also = BREAKS[name]
    found = verdicts(how)
    before = [verdict for verdict in found if verdict.end <= FROM]
    assert len(before) >= 6 and not failed(before)
    during = [verdict for verdict in found if verdict.end > FROM]
    assert {name} <= failed(during) <= {name, *also}
    check = next(check for verdict in during for check in verdict.failed if check.name == name)
    assert check.strain > 1 and check.remedy and 1 <= len(check.samples) <= 5
    assert all(sample.topic.startswith("search.") and sample.offset >= 0 for sample in check.samples)
    if name != "order_delay":  # the exported orders go on for hours
        assert not found[-1].broken


def test_too_few_clicks_break_the_rate_of_clicks_too() -> None:
    during = [verdict for verdict in verdicts(few_clicks) if verdict.end > FROM]
    assert "ctr" in failed(during)
    ctr = next(check for verdict in during for check in verdict.failed if check.name == "ctr")
    assert ctr.low is not None and ctr.value < ctr.low


def test_a_window_touches_the_pages_whose_clicks_may_fall_into_it() -> None:
    """A page is touched from the click window of half an hour, and the second in which it goes out, before the window."""
    verdict = verdicts(same)[0]
    assert verdict.end - verdict.start == HOUR and verdict.start - verdict.since == 1_801_000


def test_every_topic_of_events_has_a_sample_of_what_it_refused() -> None:
    """Of unreadable records there is no id, but a place."""

    def unreadable(event: Event) -> Iterable[Sent]:
        return [
            sent(event),
            Sent(event.ts, {Impression: IMPRESSIONS, Click: CLICKS, Order: ORDERS}[type(event)].name, b"u", b"{"),
        ]

    during = [verdict for verdict in verdicts(unreadable) if verdict.end > FROM]
    check = next(check for verdict in during for check in verdict.failed if check.name == "quarantine")
    assert {(sample.id, sample.detail) for sample in check.samples} == {("", "unreadable")}
    assert encode(check)
