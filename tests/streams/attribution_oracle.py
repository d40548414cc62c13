"""The join over the whole log at once, slowly: every question is asked of all events, nothing is kept incrementally."""

from __future__ import annotations

from collections import Counter
from typing import Any, NamedTuple

from schemas.codec import decode
from schemas.errors import InvalidEvent
from schemas.events import Click, Impression, Order, Return, Tick
from schemas.topics import CLICKS, IMPRESSIONS, ORDERS
from streams.runtime.core import Record
from streams.settings import AttributionSettings

KINDS: dict[str, Any] = {
    IMPRESSIONS.name: Impression | Tick,
    CLICKS.name: Click | Tick,
    ORDERS.name: Order | Return | Tick,
}


class Seen(NamedTuple):
    second: int
    ts: int
    id: str
    offset: int
    event: Any


class Emitted(NamedTuple):
    """A revision: (emitted_at, phase, view ts, request, status, items as (item, clicks, orders, value))."""

    at: int
    phase: int
    ts: int
    request: str
    status: str
    label: tuple[tuple[str, int, int, float], ...]


class Answer(NamedTuple):
    emitted: list[Emitted]
    quarantined: Counter[tuple[str, int, str]]  #: (topic, offset, reason)
    counters: Counter[str]


def whole_log(logs: dict[str, list[Record]], settings: AttributionSettings) -> Answer:
    """What the join must say once every log has been read to its end."""
    bad: Counter[tuple[str, int, str]] = Counter()
    count: Counter[str] = Counter()
    accepted: dict[type, list[Seen]] = {Impression: [], Click: [], Order: [], Return: []}
    newest = dict.fromkeys(logs, -1)
    late = settings.lateness_s * 1000
    for topic, records in logs.items():
        for record in records:
            try:
                event = decode(KINDS[topic], record.value)
            except InvalidEvent as error:
                bad[topic, record.offset, error.reason] += 1
                continue
            if event.ts > record.timestamp + settings.future_tolerance_s * 1000:
                bad[topic, record.offset, "future"] += 1
                continue
            if isinstance(event, Tick):
                count["ticks"] += 1
            elif event.ts < newest[topic] - late:
                bad[topic, record.offset, "late"] += 1
                continue
            else:
                name = getattr(event, "order_id", "") or getattr(event, "request_id", "")
                name = event.item if isinstance(event, Click) else name
                accepted[type(event)].append(Seen(event.ts // 1000, event.ts, name, record.offset, event))
            newest[topic] = max(newest[topic], event.ts)
    horizon = max(0, min(newest.values()) - late) // 1000  # seconds below it are settled
    waiting = sum(1 for seen in accepted.values() for s in seen if s.second >= horizon)
    settled = {kind: sorted(s for s in seen if s.second < horizon) for kind, seen in accepted.items()}
    answer = _joined(settled, horizon, settings, bad, count)
    count["pending"] = waiting
    return answer


def _joined(
    settled: dict[type, list[Seen]],
    horizon: int,
    settings: AttributionSettings,
    bad: Counter[tuple[str, int, str]],
    count: Counter[str],
) -> Answer:
    click_ms, order_ms = settings.click_window_s * 1000, settings.order_window_s * 1000
    return_ms = settings.return_window_s * 1000
    views: list[Seen] = []
    for s in settled[Impression]:
        same = [v for v in views if v.id == s.id and s.second <= (v.ts + click_ms + order_ms) // 1000]
        if not same:
            views.append(s)
            count["impressions"] += 1
        elif same[-1].event == s.event:
            count["duplicates"] += 1
        else:
            bad[IMPRESSIONS.name, s.offset, "contradiction"] += 1

    clicks: list[tuple[Seen, Seen]] = []  # (click, view)
    for s in settled[Click]:
        click: Click = s.event
        open_ = [v for v in views if v.second <= s.second <= (v.ts + click_ms + order_ms) // 1000]
        inside = [v for v in open_ if v.ts <= s.ts <= v.ts + click_ms]
        shows = [v for v in inside if any(i.item == click.item for i in v.event.items)]
        reason = ""
        if click.request_id:
            named = [v for v in open_ if v.id == click.request_id]
            match = [v for v in shows if v in named]
            if not named:
                reason = "unknown_request"
            elif named[0].event.user != click.user:
                reason = "contradiction"
            elif named[0] not in inside:
                reason = "outside_window"
            elif not match:
                reason = "not_shown"
        else:
            match = [v for v in shows if v.event.user == click.user]
            reason = "" if match else "not_shown"
        if reason:
            bad[CLICKS.name, s.offset, reason] += 1
            continue
        view = max(match, key=lambda v: (v.ts, v.id))
        if any(v is view and c.ts == s.ts and c.event.item == click.item for c, v in clicks):
            count["duplicates"] += 1
        else:
            clicks.append((s, view))
            count["clicks"] += 1

    orders: list[tuple[Seen, Seen]] = []  # (order, view)
    for s in settled[Order]:
        known = [o for o, _ in orders if o.id == s.id and s.second <= (o.ts + return_ms) // 1000]
        if known:
            if known[-1].event == s.event:
                count["duplicates"] += 1
            else:
                bad[ORDERS.name, s.offset, "contradiction"] += 1
            continue
        why = [(c, v) for c, v in clicks if c.event.user == s.event.user and c.event.item == s.event.item and c.ts <= s.ts]
        last = max(why, key=lambda cv: (cv[0].ts, cv[1].ts, cv[1].id), default=None)
        if last is None or s.ts > last[0].ts + order_ms:
            bad[ORDERS.name, s.offset, "no_click"] += 1
        else:
            orders.append((s, last[1]))
            count["orders"] += 1

    returned: dict[int, list[Seen]] = {}  # index of the order -> its returns
    for s in settled[Return]:
        match_ = [
            n for n, (o, _) in enumerate(orders) if o.id == s.id and o.second <= s.second <= (o.ts + return_ms) // 1000
        ]
        if not match_:
            reason = "unknown_order"
        elif orders[match_[-1]][0].event.user != s.event.user:
            reason = "contradiction"
        elif any(r.event == s.event for r in returned.get(match_[-1], ())):
            count["duplicates"] += 1
            continue
        elif (left := _left(orders[match_[-1]][0], returned.get(match_[-1], []))) is None or s.event.value > left:
            reason = "contradiction"
        elif not orders[match_[-1]][0].ts <= s.ts <= orders[match_[-1]][0].ts + return_ms:
            reason = "outside_window"
        else:
            returned.setdefault(match_[-1], []).append(s)
            count["returns"] += 1
            continue
        bad[ORDERS.name, s.offset, reason] += 1

    emitted: list[Emitted] = []
    for view in views:
        emitted += _life(view, clicks, orders, returned, horizon, click_ms, order_ms)
    for e in emitted:
        count[f"views.{e.status}"] += 1
    for _, _, reason in bad.elements():
        count[f"quarantined.{reason}"] += 1
    return Answer(sorted(emitted), bad, count)


def _left(order: Seen, returns: list[Seen]) -> float | None:
    """Value of the order after these returns; None once all of it is back. A return of value 0 is of the whole."""
    left: float | None = order.event.value
    for r in returns:
        assert left is not None
        left = left - r.event.value if 0 < r.event.value < left else None
    return left


def _life(
    view: Seen,
    clicks: list[tuple[Seen, Seen]],
    orders: list[tuple[Seen, Seen]],
    returned: dict[int, list[Seen]],
    horizon: int,
    click_ms: int,
    order_ms: int,
) -> list[Emitted]:
    def label(second: int) -> tuple[tuple[str, int, int, float], ...]:
        """Everything that happened up to the end of that second."""
        tally: dict[str, list[float]] = {}
        for c, v in clicks:
            if v is view and c.second <= second:
                tally.setdefault(c.event.item, [0, 0, 0.0])[0] += 1
        for n, (o, v) in enumerate(orders):
            left = _left(o, [r for r in returned.get(n, ()) if r.second <= second])
            if v is view and o.second <= second and left is not None:
                count = tally.setdefault(o.event.item, [0, 0, 0.0])
                count[1] += 1
                count[2] += left
        return tuple(sorted((item, int(c), int(o), value) for item, (c, o, value) in tally.items() if c or o))

    close = (view.ts + click_ms) // 1000
    final = (view.ts + click_ms + order_ms) // 1000
    backs = {r.second for n, (_, v) in enumerate(orders) if v is view for r in returned.get(n, ())}
    steps = sorted({(close, 1, "provisional"), (final, 2, "final"), *((b, 0, "retracted") for b in backs if b > close)})
    out: list[Emitted] = []
    for second, phase, status in steps:
        if second >= horizon:
            break
        now = label(second)
        if status == "provisional" or now != out[-1].label:
            out.append(Emitted((second + 1) * 1000, phase, view.ts, view.id, status, now))
    return out
