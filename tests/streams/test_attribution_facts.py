"""What the join tells of a window, by hand."""

from __future__ import annotations

from schemas.codec import decode, encode
from schemas.events import Click, Impression, Order, ShownItem, Tick
from schemas.integrity import Facts, Sample
from schemas.topics import CLICKS, FACTS, IMPRESSIONS, INPUTS, ORDERS
from streams.attribution.core import AttributionCore
from streams.runtime.core import Record
from streams.settings import AttributionSettings

#: Windows of a minute; the first begins at 60,000.
RULES = AttributionSettings(
    click_window_s=30, order_window_s=60, return_window_s=10, lateness_s=2, tick_grid_s=10, integrity_window_s=60
)


def page(request: str, ts: int) -> bytes:
    return encode(Impression(ts, request, "u", "q", (ShownItem("a", 1), ShownItem("b", 2))))


def feed(core: AttributionCore, topic: str, raws: list[bytes], way_ms: int = 100) -> None:
    """Each record at the broker ``way_ms`` after its own time; offsets count on from 10."""
    times = [decode(Impression | Click | Order | Tick, raw).ts if raw != b"{" else 60_000 for raw in raws]
    core.apply(topic, [Record(n, ts + way_ms, b"u", raw) for n, (raw, ts) in enumerate(zip(raws, times, strict=True), 10)])


def facts(core: AttributionCore) -> list[Facts]:
    core.advance()
    return [decode(Facts, output.value) for output in core.drain()[0] if output.topic == FACTS.name]


def test_the_facts_of_a_window_by_hand() -> None:
    """Two pages, one of them twice; two clicks 1,000 and 9,000 ms after their page (10 and 14 binary digits), one of an unknown
    request, one that cannot be read; an order 20,000 ms after its page (15 digits). Seven records and one at the door, of
    which two are refused. Pages came 100 ms later than they were, two of one second; clicks 400; the order 900."""
    core = AttributionCore(1, RULES)
    feed(core, IMPRESSIONS.name, [page("r1", 61_000), page("r2", 61_500), page("r1", 61_000)])
    clicks = [Click(62_000, "u", "a", "r1"), Click(70_500, "u", "b", "r2"), Click(71_000, "u", "b", "r9")]
    feed(core, CLICKS.name, [*map(encode, clicks), b"{"], 400)
    feed(core, ORDERS.name, [encode(Order(81_000, "u", "a", "o1"))], 900)
    for topic in INPUTS:
        feed(core, topic.name, [encode(Tick(122_000))])
    opening, told = facts(core)
    assert (opening.stamp, opening.sums) == (60_000, {})  # the time before the first record
    assert (told.source, told.stage, told.stamp) == (1, "join", 120_000)
    octave = {name: {n: k for n, k in enumerate(told.sums.pop(name)) if k} for name in ("click_delay", "order_delay")}
    assert octave == {"click_delay": {10: 1, 14: 1}, "order_delay": {15: 1}}
    assert told.sums == {
        "click_join": (2, 3), "duplicates": (1, 7), "quarantine": (2, 8), "arrival_impressions": (100, 1),
        "arrival_clicks": (400 * 3, 3), "arrival_orders": (900, 1),
    }  # fmt: skip
    assert told.samples["duplicates"] == (Sample("r1", IMPRESSIONS.name, 1, 12),)
    assert told.samples["click_join"] == (Sample("b", CLICKS.name, 1, 12, "unknown_request"),)
    assert told.samples["quarantine"][1] == Sample("", CLICKS.name, 1, 13, "unreadable")


def test_a_window_of_another_width_goes_on_at_its_own_borders() -> None:
    """A state of windows of a minute, loaded under windows of 90 s: the one that is open ends at 180,000."""
    core = AttributionCore(0, RULES)
    feed(core, IMPRESSIONS.name, [page("r1", 125_000)])
    for topic in INPUTS:
        feed(core, topic.name, [encode(Tick(128_000))])
    assert [told.stamp for told in facts(core)] == [120_000]
    again = AttributionCore(0, RULES.model_copy(update={"integrity_window_s": 90}))
    again.load(core.dump())
    for topic in INPUTS:
        feed(again, topic.name, [encode(Tick(300_000))])
    found = facts(again)
    assert [told.stamp for told in found] == [180_000, 270_000]
    assert found[0].sums["arrival_impressions"] == (100, 1) and not found[1].sums
