"""Brings a state of the join in line with what `search.views` says already, so that its next revisions go on from there.

For a switch of the live topic to labels that were joined anew (`streams.replaying.switch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from streams.attribution.core import AttributionCore
from streams.attribution.emission import Tally
from streams.attribution.state import BUCKET_MS, PLACES, OpenView, Phase


class Told(NamedTuple):
    """The last revision of a view in the log: its number, and its label; None for the one that the state emitted itself."""

    revision: int
    label: Tally | None = None


def unjoined(core: AttributionCore) -> set[str]:
    """Request ids of impressions that wait for the watermark."""
    agenda = core.state.agenda
    return {waiting.id for place in agenda if place % PLACES == Phase.IMPRESSIONS for waiting in agenda[place]}


def untold(core: AttributionCore) -> set[str]:
    """Request ids of open views whose first revision is still to come."""
    return {view.request_id for view in _views(core) if not view.revision}


def align(core: AttributionCore, told: Mapping[str, Told], floor: int) -> None:
    """Let every open view go on from what is told of it; of what is due before ``floor`` (event time, ms) nothing is emitted
    earlier than that."""
    for view in _views(core):
        said = told.get(view.request_id)
        if said is not None:
            view.before = said.revision - view.revision
            view.sent = view.sent if said.label is None else said.label
    core.state.frontier = max(core.state.frontier, -(-floor // BUCKET_MS) * BUCKET_MS)


def _views(core: AttributionCore) -> Iterator[OpenView]:
    """Those in their order window, and those that are over but for an order that can be returned."""
    yield from core.state.requests.values()
    yield from (order.view for order in core.state.orders.values() if order.view.over)
