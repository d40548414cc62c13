"""Simpler estimates of a pair's CTR, from the same clicks over the same examined mass as the posterior's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from reward.counts import UNIT
from reward.settings import PosteriorSettings
from schemas.posteriors import CountDelta

#: Ratios and rates stay this far from 0 and 1: without it a raw ratio's loss is infinite.
FLOOR = 1e-3

PEERS = {
    "raw": "clicks / examined; unseen: global",
    "add-ten": "V1: c(clicks) / sum of c, c(x) = log(x + 10)",
    "global": "one rate for all",
    "ten at the global rate": "(clicks + 10 global) / (examined + 10)",
}

Floats = NDArray[np.float64]


class Tables:
    """The peers' counts per (query, item): examined mass, clicks, orders, as of the last snapshot."""

    def __init__(self, settings: PosteriorSettings) -> None:
        self._sums: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0.0, 0.0])
        self._mass = self._clicks = 0.0
        self._rate, self._power = settings.prior_ctr, settings.position_power

    def learn(self, deltas: Sequence[CountDelta]) -> None:
        """Add counts."""
        for d in deltas:
            sums = self._sums[d.query, d.item]
            mass = d.examined / UNIT * d.position**-self._power
            for n, value in enumerate((mass, d.clicks, d.orders)):
                sums[n] += value
            self._mass += mass
            self._clicks += d.clicks
        self._rate = self._clicks / self._mass if self._clicks else self._rate

    def predict(self, query: str, items: Sequence[str]) -> dict[str, Floats]:
        """CTR [N] of each peer."""
        sums_N3 = np.array([self._sums.get((query, item), (0.0, 0.0, 0.0)) for item in items])
        mass_N, clicks_N, rate = sums_N3[:, 0], sums_N3[:, 1], self._rate
        c_N3 = np.log(sums_N3 + 10)
        found = {
            "raw": np.where(mass_N > 0, clicks_N / np.maximum(mass_N, 1e-12), rate),
            "add-ten": c_N3[:, 1] / c_N3.sum(axis=1),
            "global": np.full(len(items), rate),
            "ten at the global rate": (clicks_N + 10 * rate) / (mass_N + 10),
        }
        return {name: np.clip(ctr_N, FLOOR, 1 - FLOOR) for name, ctr_N in found.items()}
