"""The revision that turns what the live topic says of a view into what was joined anew. Pure.

Consumers move by differences, so a correction says by how much: over all revisions of a view the ``d_clicks`` and ``d_orders``
of an item sum to its last label.
"""

from __future__ import annotations

from msgspec.structs import replace

from schemas.views import View, ViewItem, ViewStatus
from streams.attribution.emission import Tally


def label(view: View) -> Tally:
    """Item -> (clicks, orders, value), for items that have any. One that stands twice has them at its first position."""
    return {e.item: (e.clicks, e.orders, e.value) for e in view.items if e.clicks or e.orders}


def revisions(live: View | None, rebuilt: View | None, emitted_at: int) -> list[View]:
    """What is sent, at ``emitted_at`` (event time, ms), of a view that the two sides differ in; None: a side lacks it."""
    if live is None:
        return [] if rebuilt is None else [introduce(rebuilt, emitted_at)]
    return [take_back(live, emitted_at)] if rebuilt is None else correct(live, rebuilt, emitted_at)


def correct(live: View, rebuilt: View, emitted_at: int) -> list[View]:
    """From ``live`` to ``rebuilt``. Two revisions when ``live`` counts an item that ``rebuilt``'s page does not have."""
    if not label(live).keys() <= {entry.item for entry in rebuilt.items}:
        gone = take_back(live, emitted_at)
        return [gone, *correct(gone, rebuilt, emitted_at)]
    return [_revision(rebuilt, rebuilt.status, live.revision + 1, emitted_at, _moved(rebuilt.items, label(live)))]


def take_back(live: View, emitted_at: int) -> View:
    """The view as if nobody had touched it: no correction can unsay that its page was seen."""
    none = tuple(replace(entry, clicks=0, orders=0, value=0.0) for entry in live.items)
    return _revision(live, ViewStatus.RETRACTED, live.revision + 1, emitted_at, _moved(none, label(live)))


def introduce(rebuilt: View, emitted_at: int) -> View:
    """The first revision of a view that the live topic does not have."""
    return _revision(rebuilt, rebuilt.status, 1, emitted_at, _moved(rebuilt.items, {}))


def _moved(items: tuple[ViewItem, ...], before: Tally) -> tuple[ViewItem, ...]:
    """The items with their difference to ``before``; one that stands twice has its counts at its first position."""
    left = dict(before)
    moved = []
    for entry in items:
        clicks, orders, _ = left.pop(entry.item, (0, 0, 0.0))
        moved.append(replace(entry, d_clicks=entry.clicks - clicks, d_orders=entry.orders - orders))
    return tuple(moved)


def _revision(view: View, status: ViewStatus, revision: int, emitted_at: int, items: tuple[ViewItem, ...]) -> View:
    name = f"{view.request_id}:{status}:{revision}"
    return replace(view, view_id=name, status=status, revision=revision, emitted_at=emitted_at, items=items)
