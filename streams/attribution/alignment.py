"""Brings a state of the join in line with what `search.views` says already, so that its next revisions go on from there.

For a switch of the live topic to labels that were joined anew (`streams.replaying.switch`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from streams.attribution.core import AttributionCore
from streams.attribution.state import BUCKET_MS


class Told(NamedTuple):
    """The last revision of a view in the log: its number, and item -> (clicks, orders) for items that have any; None for
    the label that the state has emitted itself."""

    revision: int
    label: dict[str, tuple[int, int]] | None = None


def unjoined(core: AttributionCore) -> set[str]:
    """Request ids of impressions that wait for the watermark."""
    return {waiting.id for bucket in core.state.buckets.values() for waiting in bucket.impressions}


def untold(core: AttributionCore) -> set[str]:
    """Request ids of open views whose first revision is still to come."""
    return {view.request_id for view in core.state.views.values() if not view.revision}


def align(core: AttributionCore, told: Mapping[str, Told], floor: int) -> None:
    """Let every open view go on from what is told of it; buckets below ``floor`` (event time, ms) count as fired."""
    for view in core.state.views.values():
        said = told.get(view.request_id)
        if said is not None:
            view.revision = said.revision
            view.sent = view.sent if said.label is None else said.label
    core.state.frontier = max(core.state.frontier, -(-floor // BUCKET_MS) * BUCKET_MS)
