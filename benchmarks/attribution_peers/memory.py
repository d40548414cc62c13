"""Resident memory of the core that open views cost: filled in a process of its own, without Kafka."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from typing import Any

import msgspec
import psutil

from benchmarks.attribution_peers.host import Tell
from benchmarks.attribution_peers.workload import CLICKS, IMPRESSIONS, PAGE, TOPICS, VIEWS_A_USER
from schemas.events import Click, Impression, ShownItem, Tick
from streams.attribution.core import AttributionCore
from streams.runtime.core import Record
from streams.settings import AttributionSettings

#: Event time in which all views come, and then all clicks, before the first window ends.
SPAN_MS, CLICKS_MS, START_MS = 1_200_000, 300_000, 1_700_000_000_000
#: Little, so that few events wait for the watermark: what waits is not measured.
LATENESS_S = 1
BATCH = 1_000


def run(job: dict[str, Any], tell: Tell) -> None:
    """``job``: views. Tells ``views`` and ``clicked``: bytes by which the process has grown with the views, and then with
    a click on each."""
    core = AttributionCore(0, AttributionSettings(lateness_s=LATENESS_S))
    _bring(core, START_MS, 0, BATCH)  # what is loaded at the first use is no part of a view
    before = _resident()
    tell("first")
    _bring(core, START_MS + 10_000, BATCH, job["views"])
    views = _resident() - before
    _click(core, START_MS + SPAN_MS + 100_000, BATCH, job["views"])
    held = core.counters["impressions"], core.counters["clicks"], core.counters.get("views.provisional", 0)
    if held != (BATCH + job["views"], job["views"], 0):
        raise AssertionError(f"{held} views, clicks and closed views instead of {job['views']} open ones")
    tell("end", views=views, clicked=_resident() - before)


def _bring(core: AttributionCore, base: int, first: int, views: int) -> None:
    """Open views numbered from ``first``, evenly over the span from ``base`` on; the very first ones all at ``base``."""
    for begin in range(first, first + views, BATCH):
        pages = []
        for number in range(begin, min(first + views, begin + BATCH)):
            ts = base + (SPAN_MS * (number - first) // views if first else 0)
            items = tuple(ShownItem(f"item-{(number * 7 + k) % 20_000:05d}", k + 1, 0.75) for k in range(PAGE))
            user, query = f"user-{number // VIEWS_A_USER}", f"query {number % 2_000} for things"
            session = f"s-{number // 3}"
            page = Impression(ts, _request(number), user, query, items, session=session, checkpoint="step-1200")
            pages.append(_record(number, ts, page))
        _take(core, IMPRESSIONS, pages)
    _settle(core, pages[-1].timestamp)


def _click(core: AttributionCore, base: int, first: int, views: int) -> None:
    """A click on each of those views, from ``base`` on."""
    for begin in range(first, first + views, BATCH):
        clicks = []
        for number in range(begin, min(first + views, begin + BATCH)):
            ts, item = base + CLICKS_MS * (number - first) // views, f"item-{(number * 7 + 2) % 20_000:05d}"
            click = Click(ts, f"user-{number // VIEWS_A_USER}", item, _request(number), 3)
            clicks.append(_record(number, ts, click))
        _take(core, CLICKS, clicks)
    _settle(core, clicks[-1].timestamp)


def _take(core: AttributionCore, topic: int, records: list[Record]) -> None:
    """Records of one topic; the others keep step with a tick."""
    core.apply(TOPICS[topic], records)
    _tick(core, records[-1].timestamp, [name for name in TOPICS if name != TOPICS[topic]])


def _settle(core: AttributionCore, ts: int) -> None:
    """Have everything up to ``ts`` joined."""
    _tick(core, ts + 1_000 * LATENESS_S + 2_000, TOPICS)


def _tick(core: AttributionCore, ts: int, topics: Sequence[str]) -> None:
    for name in topics:
        core.apply(name, [_record(0, ts, Tick(ts))])
    core.advance()
    core.drain()


def _resident() -> int:
    gc.collect()
    return int(psutil.Process().memory_info().rss)


def _request(number: int) -> str:
    return f"{number:06x}-{number:08x}"


def _record(offset: int, ts: int, event: msgspec.Struct) -> Record:
    return Record(offset, ts, b"user", msgspec.json.encode(event))
