"""The join against its whole-log oracle: interleaving, chunk borders and restarts do not matter, and nothing is lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.events import Click, Impression, Order, Return, ShownItem, Tick
from schemas.quarantine import Quarantined
from schemas.topics import CLICKS, FACTS, IMPRESSIONS, ORDERS, QUARANTINE, VIEWS
from schemas.views import View
from streams.attribution.core import AttributionCore
from streams.runtime.core import Output, Record
from streams.settings import AttributionSettings
from tests.streams.attribution_oracle import whole_log

START = 1_000_000
RULES = AttributionSettings(
    click_window_s=5,
    order_window_s=8,
    return_window_s=6,
    lateness_s=2,
    future_tolerance_s=1,
    tick_grid_s=3,
    integrity_window_s=4,
)
#: The broker's time of every record: events up to one second later are not yet "future".
BROKER = START + 40_000

times = st.integers(0, 80).map(lambda n: START + n * 250)
users = st.sampled_from(["u", "v"])
items = st.sampled_from(["a", "b", "c"])
requests = st.sampled_from(["r1", "r2", "r3", "r4", "r5", "r6"])
order_ids = st.sampled_from(["o1", "o2", "o3", "o4"])
impressions = st.builds(
    lambda ts, request, user, shown: Impression(
        ts=ts, request_id=request, user=user, query="q", items=tuple(ShownItem(i, n + 1) for n, i in enumerate(shown))
    ),
    times,
    requests,
    users,
    st.lists(items, min_size=1, max_size=3, unique=True),
)
clicks = st.builds(
    lambda ts, user, item, request: Click(ts, user, item, request), times, users, items, st.just("") | requests
)
orders = st.builds(lambda ts, user, item, name: Order(ts, user, item, name, 2.0), times, users, items, order_ids)
values = st.sampled_from([0.0, 0.5, 1.5, 2.0, 2.5])
returns = st.builds(lambda ts, user, name, value: Return(ts, user, name, value), times, users, order_ids, values)
ticks = times.map(Tick)
broken = st.sampled_from([b"{", b'{"type":"tick","ts":-1}', b'{"type":"tick","ts":1,"v":7}', b"\xff", b'{"type":"other"}'])


@st.composite
def stories(draw: st.DrawFn) -> list[Impression | Click | Order | Return]:
    """A view and what follows from it, with delays that fall inside, on and outside the windows."""
    view = draw(impressions)
    told: list[Impression | Click | Order | Return] = [view]
    for _ in range(draw(st.integers(0, 2))):
        item = draw(st.sampled_from([i.item for i in view.items]))
        clicked = view.ts + draw(st.sampled_from([0, 500, 2_000, 4_750, 5_000, 5_250]))
        told.append(Click(clicked, view.user, item, draw(st.sampled_from(["", view.request_id]))))
        for name in draw(st.lists(order_ids, max_size=2)):
            ordered = clicked + draw(st.sampled_from([0, 1_000, 4_000, 8_000, 8_250]))
            told.append(Order(ordered, view.user, item, name, 2.0))
            for value in draw(st.lists(values, max_size=2)):
                told.append(Return(ordered + draw(st.sampled_from([0, 2_000, 6_000, 6_250])), view.user, name, value))
    return told


@st.composite
def topic_logs(draw: st.DrawFn) -> dict[str, list[Record]]:
    """One log per topic: mostly in time order, with repeats, stragglers and broken records."""
    told = [event for story in draw(st.lists(stories(), max_size=5)) for event in story]
    logs: dict[str, list[Record]] = {}
    for topic, kind, kinds in (
        (IMPRESSIONS, impressions, Impression),
        (CLICKS, clicks, Click),
        (ORDERS, orders | returns, Order | Return),
    ):
        events = [e for e in told if isinstance(e, kinds)] + draw(st.lists(kind | ticks, max_size=3))
        events.sort(key=lambda e: e.ts + draw(st.sampled_from([0, 0, 0, 0, 1_500, 6_000])))
        raws = [msgspec.json.encode(e) for e in events]
        for raw in draw(st.lists(st.sampled_from(raws), max_size=3)) if raws else []:
            raws.insert(draw(st.integers(0, len(raws))), raw)
        for raw in draw(st.lists(broken, max_size=2)):
            raws.insert(draw(st.integers(0, len(raws))), raw)
        if draw(st.sampled_from([True, True, True, False])):
            raws.append(msgspec.json.encode(Tick(BROKER)))
        logs[topic.name] = [Record(n, BROKER, b"u", raw) for n, raw in enumerate(raws)]
    return logs


@st.composite
def schedules(draw: st.DrawFn) -> list[tuple[str, int, bool]]:
    """In which order the topics are read: (topic, records of the chunk, whether the worker restarts after it)."""
    names = st.sampled_from([IMPRESSIONS.name, CLICKS.name, ORDERS.name])
    return draw(st.lists(st.tuples(names, st.integers(1, 5), st.booleans()), max_size=25))


def run(logs: dict[str, list[Record]], schedule: list[tuple[str, int, bool]]) -> tuple[list[Output], AttributionCore]:
    """Feed the logs by the schedule, then the rest topic after topic."""
    core, outputs = AttributionCore(3, RULES), []
    read = dict.fromkeys(logs, 0)
    for topic, size, restart in [*schedule, *((name, 1_000, False) for name in logs)]:
        core.apply(topic, logs[topic][read[topic] : read[topic] + size])
        read[topic] += size
        core.advance()
        outputs += core.drain()[0]
        if restart:
            state, core = core.dump(), AttributionCore(3, RULES)
            core.load(state)
    return outputs, core


def label(view: View) -> tuple[tuple[str, int, int, float], ...]:
    return tuple(sorted((i.item, i.clicks, i.orders, i.value) for i in view.items if i.clicks or i.orders))


@settings(max_examples=250, deadline=None)
@given(topic_logs(), schedules())
def test_the_result_is_the_oracles_whatever_the_interleaving_chunks_and_restarts(
    logs: dict[str, list[Record]], schedule: list[tuple[str, int, bool]]
) -> None:
    """Views in order, quarantine as a set, counters: all equal the whole-log answer."""
    outputs, core = run(logs, schedule)
    want = whole_log(logs, RULES)
    said = [msgspec.json.decode(o.value, type=View | Tick) for o in outputs if o.topic == VIEWS.name]
    views = [v for v in said if isinstance(v, View)]
    assert [(v.emitted_at, v.request_id, v.status.value, label(v)) for v in views] == [
        (e.at, e.request, e.status, e.label) for e in want.emitted
    ]
    refused = [msgspec.json.decode(o.value, type=Quarantined) for o in outputs if o.topic == QUARANTINE.name]
    assert Counter((q.topic, q.offset, q.reason) for q in refused) == want.quarantined
    got = {name: n for name, n in core.counters.items() if n and name != "views.ticks"}
    assert got == {name: n for name, n in want.counters.items() if n}


@settings(max_examples=80, deadline=None)
@given(topic_logs(), schedules())
def test_views_and_facts_are_byte_identical_in_every_interleaving(
    logs: dict[str, list[Record]], schedule: list[tuple[str, int, bool]]
) -> None:
    """Ticks included: their place between the views does not hang on the chunks either."""
    one, _ = run(logs, schedule)
    other, _ = run(logs, [])
    for topic in (VIEWS.name, FACTS.name):
        assert [o for o in one if o.topic == topic] == [o for o in other if o.topic == topic]


@settings(max_examples=80, deadline=None)
@given(topic_logs(), schedules())
def test_emission_times_never_fall_and_no_view_follows_a_tick_it_precedes(
    logs: dict[str, list[Record]], schedule: list[tuple[str, int, bool]]
) -> None:
    """A tick says that no later record of the partition is emitted before it."""
    said: list[Any] = [
        msgspec.json.decode(o.value, type=View | Tick) for o in run(logs, schedule)[0] if o.topic == VIEWS.name
    ]
    stamps = [r.emitted_at if isinstance(r, View) else r.ts for r in said]
    assert stamps == sorted(stamps)


@settings(max_examples=80, deadline=None)
@given(topic_logs(), schedules())
def test_every_record_is_accounted_for_once(logs: dict[str, list[Record]], schedule: list[tuple[str, int, bool]]) -> None:
    """in = impressions + clicks + orders + returns + duplicates + ticks + quarantined + pending."""
    _, core = run(logs, schedule)
    kept = ("impressions", "clicks", "orders", "returns", "duplicates", "ticks", "pending")
    counted = sum(n for name, n in core.counters.items() if name in kept or name.startswith("quarantined."))
    assert counted == sum(map(len, logs.values()))


@settings(max_examples=80, deadline=None)
@given(topic_logs())
def test_differences_between_revisions_add_up_to_the_last_label(logs: dict[str, list[Record]]) -> None:
    """Whoever sums d_clicks and d_orders over a view's revisions has its present clicks and orders."""
    sums: Counter[tuple[str, int, str]] = Counter()
    last: dict[tuple[str, int], View] = {}
    for output in run(logs, [])[0]:
        if output.topic == VIEWS.name and b'"type":"view"' in output.value:
            view = msgspec.json.decode(output.value, type=View)
            last[view.request_id, view.ts] = view
            for item in view.items:
                sums[view.request_id, view.ts, item.item] += item.d_clicks * 1_000 + item.d_orders
    for (request, ts), view in last.items():
        for item in view.items:
            assert sums[request, ts, item.item] == item.clicks * 1_000 + item.orders
