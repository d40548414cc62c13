"""The posterior CTR against simpler estimates: excess log-loss over the simulated shop's truth, predicted, then learned.

Every logged page view is predicted with the latest snapshot, then counted; a snapshot comes every 6 hours of event
time. The excess is that of the click probability at the shown position over the true one, which knows the user: part of
it no estimate per (query, item) can avoid. The peers see the same clicks over the same examined mass, at the same times.
Views before the first snapshot compare nothing that was learned; they are told apart, below the table.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from benchmarks.common import NOW_MS, Result, finish, parser, row
from benchmarks.posterior_peers import PEERS, Tables
from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from headrace.world import Request
from reward.counts import Counts, examination
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.codec import encode
from schemas.events import Click, Impression, Order
from schemas.posteriors import CountDelta, PosteriorDelta
from schemas.topics import DELTAS
from streams.posteriors.merger_core import MergerCore
from streams.runtime.core import Record

SEEDS = (7, 8, 9, 10, 11)
QUICK_VIEWS = 1_500


class Posterior:
    """The product's merging agent over one source: counts in, calibrated snapshots out; with its time."""

    def __init__(self, settings: PosteriorSettings) -> None:
        self._merger = MergerCore(1, settings)
        self.snapshot, self.size = PosteriorSnapshot.prior(settings), 0
        self.seconds, self.updates = 0.0, 0

    def learn(self, deltas: Sequence[CountDelta], stamp: int) -> None:
        """Publish a snapshot at ``stamp`` with these counts added."""
        value = encode(PosteriorDelta(0, stamp, tuple(deltas)))
        started = time.perf_counter()
        self._merger.apply(DELTAS.name, [Record(stamp, stamp, None, value)])
        self._merger.advance()
        data = self._merger.drain()[1][-1].data
        self.seconds += time.perf_counter() - started
        self.snapshot, self.size, self.updates = PosteriorSnapshot(data), len(data), self.updates + len(deltas)


class Run:
    """One shop's history, predicted and learned; ``excess`` sums nats over the ``shown`` positions, [before, after] the
    first snapshot."""

    def __init__(self, world: ShopWorld, settings: PosteriorSettings) -> None:
        self.world, self.settings = world, settings
        self.posterior, self.tables = Posterior(settings), Tables(settings)
        self.excess: defaultdict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
        self.shown = [0, 0]
        self._of_request: dict[str, tuple[str, int]] = {}

    def whole(self) -> None:
        """Every event of the history in time order; a snapshot holds all that came before its time."""
        every, fresh, stamp = self.settings.snapshot_every_s * 1_000, list[CountDelta](), 0
        for event in self.world.history():
            if event.ts // every * every > stamp:
                stamp = event.ts // every * every
                deltas = Counts(fresh).deltas()  # what the counting agent sends: sums a pair and bucket
                if deltas:
                    self.posterior.learn(deltas, stamp)
                    self.tables.learn(deltas)
                fresh = []
            if isinstance(event, Impression):
                self._predict(event)
                fresh += self._shown(event)
            elif isinstance(event, Click):
                query, bucket = self._of_request[event.request_id]
                fresh.append(CountDelta(query, event.item, bucket, 0, 1, 0))
            elif isinstance(event, Order):
                query, bucket = self._of_request[event.order_id[2 : -len(event.item) - 1]]
                fresh.append(CountDelta(query, event.item, bucket, 0, 0, 1))

    def _shown(self, view: Impression) -> list[CountDelta]:
        key, bucket = normalise(view.query), view.ts // (self.settings.bucket_s * 1_000)
        self._of_request[view.request_id] = key, bucket
        masses = [examination(shown.position, self.settings.position_power) for shown in view.items]
        pairs = zip(view.items, masses, strict=True)
        return [CountDelta(key, shown.item, bucket, mass, 0, 0, square) for shown, (mass, square) in pairs]

    def _predict(self, view: Impression) -> None:
        items, key = [shown.item for shown in view.items], normalise(view.query)
        theta_N = np.array([shown.position for shown in view.items]) ** -self.settings.position_power
        request = Request(view.request_id, view.ts, view.user, view.session, view.query)
        true_N = theta_N * self.world.click_probability(request, items)
        said = {"ours": self.posterior.snapshot.ctr(key, items).mean_N, **self.tables.predict(key, items)}
        part = int(self.posterior.snapshot.pairs > 0)
        for name, ctr_N in said.items():
            p_N = theta_N * ctr_N
            self.excess[name][part] += float(
                (true_N * np.log(true_N / p_N) + (1 - true_N) * np.log((1 - true_N) / (1 - p_N))).sum()
            )
        self.shown[part] += len(items)

    def mean(self, name: str, part: int = 1) -> float:
        """Mean excess, millinats a position: before (0) or after (1) the first snapshot."""
        return 1e3 * self.excess[name][part] / self.shown[part]


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    chosen = parser("posterior", __doc__).parse_args(arguments)
    views = {"history_impressions": QUICK_VIEWS} if chosen.quick else {}
    runs = [Run(ShopWorld(ShopSettings(seed=seed, **views), NOW_MS), PosteriorSettings()) for seed in SEEDS]
    for run in runs:
        run.whole()

    unit = "excess millinats a position"
    rows = [row(case, [(r.mean("ours"), r.mean(case)) for r in runs], name, unit) for case, name in PEERS.items()]
    parts = [run.posterior for run in runs]
    speed = np.median([p.updates / p.seconds for p in parts])
    size = np.median([p.size / p.snapshot.pairs for p in parts])
    notes = [
        f"{speed:,.0f} updates/s on one core, snapshots and calibration included; {size:.0f} bytes per pair in a snapshot",
        f"{runs[0].shown[1]:,} positions and {parts[0].snapshot.pairs:,} pairs in the first shop",
        f"before the first snapshot ({runs[0].shown[0]:,} positions more, from the priors alone): "
        + ", ".join(f"{name} {np.median([r.mean(name, 0) for r in runs]):.1f}" for name in ("ours", *PEERS)),
    ]
    return finish("posterior", rows, chosen, notes)


if __name__ == "__main__":
    main()
