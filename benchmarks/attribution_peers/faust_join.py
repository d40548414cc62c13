"""Peer `plain Faust`: agents as Faust's manual writes them. Records as models, one event at a time, tables, `send`.

An easier join than ours: no lateness, no contradictions, no quarantine, no returns and no second revision. Faust reads
topics in no common order, so a click that comes before its view waits in a table. A view closes at the user's next page
after its window. Tables are in memory, with the changelogs that Faust makes; delivery is its default, at least once.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import faust

from benchmarks.attribution_peers.host import Tell
from benchmarks.attribution_peers.workload import CLICK_WINDOW_S, FEW_TOPICS, ORDER_WINDOW_S, TABLES

CLICK_MS, ORDER_MS = CLICK_WINDOW_S * 1_000, ORDER_WINDOW_S * 1_000


class ShownItem(faust.Record):
    """A place on the page."""

    item: str
    position: int
    propensity: float


class Impression(faust.Record):
    """A page view, or a tick: those have nothing but the first two fields."""

    type: str
    ts: int
    request_id: str = ""
    user: str = ""
    query: str = ""
    items: list[ShownItem] = []  # noqa: RUF012 - the manual's way to write a field
    session: str = ""
    checkpoint: str = ""


class Click(faust.Record):
    """A click, or a tick."""

    type: str
    ts: int
    user: str = ""
    item: str = ""
    request_id: str = ""
    position: int = 0


class Order(faust.Record):
    """An order, a return, or a tick."""

    type: str
    ts: int
    user: str = ""
    item: str = ""
    order_id: str = ""
    value: float = 0.0


class ViewItem(faust.Record):
    """A place of an emitted view."""

    item: str
    position: int
    propensity: float
    clicks: int
    orders: int
    value: float


class View(faust.Record):
    """What is emitted."""

    view_id: str
    request_id: str
    status: str
    ts: int
    emitted_at: int
    user: str
    query: str
    items: list[ViewItem]
    session: str
    checkpoint: str


def run(job: dict[str, Any], tell: Tell) -> None:
    """``job``: kafka, name (of the app), out (topic), partitions, state (folder), events (after which it ends).

    It reads the log of few users: at its speed the whole one would take minutes.
    """
    app = faust.App(
        job["name"],
        broker=f"kafka://{job['kafka']}",
        store="memory://",
        topic_partitions=job["partitions"],
        topic_disable_leader=True,
        web_enabled=False,
        datadir=Path(job["state"]),
    )
    _define(app, job, tell)
    faust.Worker(app, loglevel="WARN").execute_from_commandline()


def _define(app: Any, job: dict[str, Any], tell: Tell) -> None:
    impressions = app.topic(FEW_TOPICS[0], key_type=bytes, value_type=Impression)
    clicks = app.topic(FEW_TOPICS[1], key_type=bytes, value_type=Click)
    orders = app.topic(FEW_TOPICS[2], key_type=bytes, value_type=Order)
    out = app.topic(job["out"], key_type=bytes, value_type=View)
    open_views, clicked, ordered = (app.Table(name, default=list) for name in TABLES)
    left, untold = [job["events"]], [True]

    async def count() -> None:
        left[0] -= 1
        if left[0] == 0:
            await app.producer.flush()
            tell("end")
            os._exit(0)

    def began() -> None:
        if untold:
            untold.clear()
            tell("first")

    @app.agent(impressions)
    async def on_impression(stream: Any) -> None:
        async for event in stream:
            began()
            if event.type == "impression":
                user = event.user
                for view in [v for v in open_views[user] if v.ts + CLICK_MS < event.ts]:
                    await out.send(key=user.encode(), value=close(view, clicked[user], ordered[user]))
                open_views[user] = [v for v in open_views[user] if v.ts + CLICK_MS >= event.ts] + [event]
                await count()

    @app.agent(clicks)
    async def on_click(stream: Any) -> None:
        async for event in stream:
            began()
            if event.type == "click":
                fresh = [c for c in clicked[event.user] if c.ts >= event.ts - CLICK_MS - ORDER_MS]
                clicked[event.user] = [*fresh, event]
                await count()

    @app.agent(orders)
    async def on_order(stream: Any) -> None:
        async for event in stream:
            began()
            if event.type == "order":
                ordered[event.user] = [o for o in ordered[event.user] if o.ts >= event.ts - ORDER_MS] + [event]
            if event.type != "tick":
                await count()


def close(view: Impression, clicked: list[Click], ordered: list[Order]) -> View:
    """The view with its clicks, each once, and the orders that came so far."""
    mine = {
        (c.item, c.ts) for c in clicked if view.ts <= c.ts <= view.ts + CLICK_MS and c.request_id in ("", view.request_id)
    }
    items = []
    for shown in view.items:
        times = [ts for item, ts in mine if item == shown.item]
        bought = {
            o.order_id: o.value for o in ordered if o.item == shown.item and any(t <= o.ts <= t + ORDER_MS for t in times)
        }
        items.append(ViewItem(shown.item, shown.position, shown.propensity, len(times), len(bought), sum(bought.values())))
    return View(
        f"{view.request_id}:provisional:1", view.request_id, "provisional", view.ts, view.ts + CLICK_MS, view.user,
        view.query, items, view.session, view.checkpoint,
    )  # fmt: skip
