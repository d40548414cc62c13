"""A shop's or a log's events through the posterior agents: predict each page with the latest snapshot, then count it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from benchmarks.posterior_peers import Tables
from headrace.world import Event
from reward.counts import UNIT
from reward.prefixes import Prefixes
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.codec import encode
from schemas.events import Click, Impression, Order
from schemas.posteriors import CountDelta, PosteriorDelta
from schemas.topics import DELTAS
from streams.posteriors.merger_core import MergerCore
from streams.posteriors.open_counts import OpenCounts
from streams.runtime.core import Record

Floats = NDArray[np.float64]


class Posterior:
    """The product's merging agent over one source: counts in, calibrated snapshots out; with its time."""

    def __init__(self, settings: PosteriorSettings, prefixes: Prefixes | None = None) -> None:
        self.merger = MergerCore(1, settings, prefixes and (lambda _: prefixes))
        self.snapshot, self.size = PosteriorSnapshot.prior(settings), 0
        self.seconds, self.updates, self.version = 0.0, 0, 0

    def learn(self, deltas: Sequence[CountDelta], stamp: int) -> None:
        """Publish a snapshot at ``stamp`` with these counts added."""
        value = encode(PosteriorDelta(0, stamp, tuple(deltas)))
        started = time.process_time()
        self.merger.apply(DELTAS.name, [Record(stamp, stamp, None, value)])
        self.merger.advance()
        data = self.merger.drain()[1][-1].data
        self.seconds += time.process_time() - started
        self.snapshot, self.size, self.updates = PosteriorSnapshot(data), len(data), self.updates + len(deltas)
        self.version += 1


@dataclass
class Said:
    """What was predicted: per shown position its time, query (a number), snapshot (0: before any), what is known of the
    click (its probability, or whether it came), and each one's probability of it."""

    ts: list[int] = field(default_factory=list)
    query: list[int] = field(default_factory=list)
    version: list[int] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    by: dict[str, list[float]] = field(default_factory=dict)

    def arrays(self) -> tuple[Floats, Floats, Floats, Floats, dict[str, Floats]]:
        """``ts_N``, ``query_N``, ``version_N``, ``known_N`` and a column [N] for each who predicted."""
        columns = (np.array(column, np.float64) for column in (self.ts, self.query, self.version, self.known))
        return *columns, {name: np.array(p) for name, p in self.by.items()}  # type: ignore[return-value]


class Run:
    """Events in time order, predicted and learned; ``known(view)`` is what is known of each shown item's click."""

    def __init__(
        self, settings: PosteriorSettings, known: Callable[[Impression], Floats], prefixes: Prefixes | None = None
    ) -> None:
        self.settings, self._known = settings, known
        self.posterior, self.tables, self.said = Posterior(settings, prefixes), Tables(settings), Said()
        self._of_request: dict[str, tuple[str, int, dict[str, int]]] = {}
        self._query: dict[str, int] = {}

    def whole(self, events: Iterable[Event]) -> None:
        """Predict every page view, then count it; a snapshot holds all that came before its time."""
        every, fresh, stamp = self.settings.snapshot_every_s * 1_000, OpenCounts(), 0
        for event in events:
            if event.ts // every * every > stamp:
                stamp = event.ts // every * every
                if deltas := fresh.deltas():
                    self.posterior.learn(deltas, stamp)
                    self.tables.learn(deltas)
                fresh = OpenCounts()
            if isinstance(event, Impression):
                self._predict(event)
                fresh.add(self._shown(event))
            elif isinstance(event, Click | Order):
                request = event.request_id if isinstance(event, Click) else event.order_id[2 : -len(event.item) - 1]
                query, bucket, places = self._of_request[request]
                click = isinstance(event, Click)
                fresh.add([CountDelta(query, event.item, bucket, 0, int(click), int(not click), 0, places[event.item])])

    def _shown(self, view: Impression) -> list[CountDelta]:
        key, bucket = normalise(view.query), view.ts // (self.settings.bucket_s * 1_000)
        self._of_request[view.request_id] = key, bucket, {shown.item: shown.position for shown in view.items}
        return [CountDelta(key, shown.item, bucket, UNIT, 0, 0, 0, shown.position) for shown in view.items]

    def _predict(self, view: Impression) -> None:
        items, key = [shown.item for shown in view.items], normalise(view.query)
        position_N = np.array([shown.position for shown in view.items])
        snapshot = self.posterior.snapshot
        said = {"ours": snapshot.examination.at(position_N) * snapshot.ctr(key, items).mean_N}
        start_N = position_N**-self.settings.position_power
        said |= {name: start_N * ctr_N for name, ctr_N in self.tables.predict(key, items).items()}
        for name, p_N in said.items():
            self.said.by.setdefault(name, []).extend(np.clip(p_N, 1e-6, 1 - 1e-6).tolist())
        number = self._query.setdefault(key, len(self._query))
        self.said.known += self._known(view).tolist()
        self.said.ts += [view.ts] * len(items)
        self.said.query += [number] * len(items)
        self.said.version += [self.posterior.version] * len(items)


def loss(known_N: Floats, p_N: Floats) -> Floats:
    """Log-loss [N] in millinats of probabilities, against click probabilities or clicks."""
    return np.asarray(-1e3 * (known_N * np.log(p_N) + (1 - known_N) * np.log1p(-p_N)))


def calibration_error(known_N: Floats, p_N: Floats, bins: int = 15) -> float:
    """ECE: mean distance of predicted from known click probability over bins of equal number, by prediction."""
    order = np.argsort(p_N, kind="stable")
    return float(sum(abs((p_N[part] - known_N[part]).sum()) for part in np.array_split(order, bins)) / len(p_N))
