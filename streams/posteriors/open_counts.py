"""Counts of the views since the last stamp, by name: few, and soon told."""

from __future__ import annotations

from collections.abc import Iterable

from schemas.posteriors import CountDelta


class OpenCounts:
    """Sums of `CountDelta` per (query, item, bucket, position). Equal contents give equal `deltas`, however they came in."""

    def __init__(self, deltas: Iterable[CountDelta] = ()) -> None:
        self._sums: dict[tuple[str, str, int, int], list[int]] = {}
        self.add(deltas)

    def add(self, deltas: Iterable[CountDelta]) -> None:
        """Add changes; negative ones take back."""
        sums = self._sums
        for d in deltas:
            held = sums.setdefault((d.query, d.item, d.bucket, d.position), [0, 0, 0])
            held[0] += d.examined
            held[1] += d.clicks
            held[2] += d.orders

    def deltas(self) -> tuple[CountDelta, ...]:
        """The contents, sorted, without zeros."""
        return tuple(
            CountDelta(query, item, bucket, examined, clicks, orders, 0, position)
            for (query, item, bucket, position), (examined, clicks, orders) in sorted(self._sums.items())
            if examined or clicks or orders
        )
