"""Resident memory of the core that open views cost: filled in a process of its own, without Kafka."""

from __future__ import annotations

import gc
from typing import Any

import msgspec
import psutil

from benchmarks.attribution_peers.host import Tell
from benchmarks.attribution_peers.workload import CLICKS, IMPRESSIONS, ORDERS, PAGE, TOPICS, VIEWS_A_USER
from schemas.events import Click, Impression, ShownItem, Tick
from streams.attribution.core import AttributionCore
from streams.runtime.core import Record
from streams.settings import AttributionSettings

#: Event time in which all views come; their windows are longer.
SPAN_MS, START_MS = 1_200_000, 1_700_000_000_000
BATCH = 1_000


def run(job: dict[str, Any], tell: Tell) -> None:
    """``job``: views, click (a click each). Tells ``bytes``, by which the process has grown."""
    core = AttributionCore(0, AttributionSettings())
    process = psutil.Process()
    _fill(core, 0, BATCH, BATCH * 1_000, job["click"])  # what is loaded at the first use is no part of a view
    gc.collect()
    before = process.memory_info().rss
    tell("first")
    _fill(core, BATCH, job["views"], job["views"], job["click"])
    gc.collect()
    grown = process.memory_info().rss - before
    counters = core.counters
    held = counters["impressions"] - BATCH, counters.get("clicks", 0), counters.get("views.provisional", 0)
    if held != (job["views"], (job["views"] + BATCH) * job["click"], 0):
        raise AssertionError(f"{held} instead of {job['views']} open views")
    tell("end", bytes=grown)


def _fill(core: AttributionCore, first: int, views: int, of: int, click: bool) -> None:
    """Bring ``views`` views, numbered from ``first``, over ``views / of`` of the span, and let them be joined."""
    base = START_MS + (100_000 if first else 0)  # those before have moved the watermark by 80 s
    ts = base
    for begin in range(0, views, BATCH):
        pages, clicks = [], []
        for n in range(begin, min(views, begin + BATCH)):
            ts, number = base + SPAN_MS * n // of, first + n
            user, request = f"user-{number // VIEWS_A_USER}", f"{number:06x}-{number:08x}"
            items = tuple(ShownItem(f"item-{(number * 7 + k) % 20_000:05d}", k + 1, 0.75) for k in range(PAGE))
            query = f"query {number % 2_000} for things"
            page = Impression(ts, request, user, query, items, session=f"s-{number // 3}", checkpoint="step-1200")
            pages.append(_record(number, ts, page))
            if click:
                clicks.append(_record(number, ts + 500, Click(ts + 500, user, items[2].item, request, 3)))
        for topic, records in ((IMPRESSIONS, pages), (CLICKS, clicks), (ORDERS, [_record(begin, ts, Tick(ts))])):
            core.apply(TOPICS[topic], records or [_record(begin, ts, Tick(ts))])
        core.advance()
        core.drain()
    end = ts + 200_000
    for name in TOPICS:
        core.apply(name, [_record(views, end, Tick(end))])
    core.advance()
    core.drain()


def _record(offset: int, ts: int, event: msgspec.Struct) -> Record:
    return Record(offset, ts, b"user", msgspec.json.encode(event))
