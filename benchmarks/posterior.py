"""The posterior CTR against simpler estimates: excess log-loss over the simulated shop's truth, predicted, then learned.

Every logged page view is predicted with the latest snapshot, then counted; a snapshot comes every 6 hours of event
time. The excess is that of the click probability at the shown position over the true one, which knows the user: part of
it no estimate per (query, item) can avoid. The peers see the same clicks at the same times, and are given the true curve of
examination where ours estimates it. Views before the first snapshot compare nothing that was learned and are left out.
Below the table: calibration, the drift, examination against the truth, a log of real clicks, memory and speed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import NOW_MS, Result, finish, parser, row
from benchmarks.posterior_memory import memory_note
from benchmarks.posterior_peers import PEERS
from benchmarks.posterior_runs import Floats, Run, calibration_error, loss
from headrace.adapters.trivago import read_trivago
from headrace.shop.draws import stream
from headrace.shop.lexical import LexicalSearch
from headrace.shop.settings import ShopSettings
from headrace.shop.world import ShopWorld
from headrace.world import Event, Request
from reward.encoder import SentenceEncoder
from reward.prefixes import Prefixes
from reward.settings import PosteriorSettings
from schemas.events import Click, Impression, ShownItem
from trainers.evaluation import paired_bootstrap
from trainers.identifiers.build import build_identifiers

SEEDS = (7, 8, 9, 10, 11)
QUICK_VIEWS, QUICK_ITEMS = 1_500, 600
#: Views of a window after the drift in which the calibration error is looked at, and the bound it has to come back under.
WINDOW, BOUND = 500, 0.02
SETTINGS = PosteriorSettings()


class Shop:
    """One shop's history and, by its old search, its live part; predicted and learned."""

    def __init__(self, seed: int, views: int | None, encoder: SentenceEncoder) -> None:
        sizes = {} if views is None else {"history_impressions": views, "live_requests": views, "items": QUICK_ITEMS}
        self.world = ShopWorld(ShopSettings(seed=seed, **sizes), NOW_MS)
        self.run = Run(SETTINGS, self._truth, self._prefixes(seed, encoder))
        self.run.whole(self._events())
        self.ts_N, self.query_N, self.version_N, self.true_N, self.by = self.run.said.arrays()
        self.learned_N = self.version_N > 0
        self.past_N = self.learned_N & (self.ts_N < self.world.live_ms)

    def _prefixes(self, seed: int, encoder: SentenceEncoder) -> Prefixes:
        catalogue = self.world.catalogue
        none = np.zeros((0, encoder.dim), np.float32)
        made = build_identifiers(
            catalogue, encoder.encode(catalogue.titles), [], none, seed=seed, known_ms=self.world.live_ms
        )
        return Prefixes.of(made.version, catalogue.items, made.sids_NL, SETTINGS.sid_levels)

    def _truth(self, view: Impression) -> Floats:
        """Probability of each click, its place and its user known."""
        request = Request(view.request_id, view.ts, view.user, view.session, view.query)
        place_N = np.array([shown.position for shown in view.items]) ** -self.world.settings.position_power
        return np.asarray(place_N * self.world.click_probability(request, [shown.item for shown in view.items]))

    def _events(self) -> Iterator[Event]:
        """The history and the live searches, these answered by the search that wrote the history, in time order."""
        yield from heapq.merge(self.world.history(), self._live(), key=lambda event: event.ts)

    def _live(self) -> list[Event]:
        events, s = list[Event](), self.world.settings
        search = LexicalSearch(self.world.catalogue.titles, np.arange(len(self.world.catalogue)), s.seed)
        for request in self.world.requests():
            rng = stream(s.seed, "live", request.request_id)
            rows = search.sample(request.query, s.page, s.temperature, rng).rows_K.tolist()
            shown = tuple(ShownItem(self.world.catalogue.items[row], n) for n, row in enumerate(rows, start=1))
            outcome = self.world.feedback(request, [item.item for item in shown])
            events.append(Impression(request.ts, request.request_id, request.user, request.query, shown, request.session))
            events += [*outcome.clicks, *outcome.orders]
        return sorted(events, key=lambda event: event.ts)

    def excess(self, name: str) -> Floats:
        """Millinats over the truth at each position of the learned part of the history."""
        true_N = self.true_N[self.past_N]
        return loss(true_N, self.by[name][self.past_N]) - loss(true_N, true_N)

    def error(self, name: str = "ours") -> float:
        """ECE over the learned part of the history."""
        return calibration_error(self.true_N[self.past_N], self.by[name][self.past_N])

    def errors_after_drift(self) -> list[float]:
        """ECE of each `WINDOW` of views from the drift on."""
        after = np.flatnonzero(self.ts_N >= self.world.drift_ms)
        width = WINDOW * self.world.settings.page
        windows = [after[at : at + width] for at in range(0, len(after) - width + 1, width)]
        return [calibration_error(self.true_N[w], self.by["ours"][w]) for w in windows]

    def examination_error(self) -> float:
        """Greatest relative distance of an estimated theta from the shop's, over the page's positions."""
        position_K = np.arange(1, self.world.settings.page + 1)
        true_K = position_K**-self.world.settings.position_power
        return float(np.abs(self.run.posterior.snapshot.examination.at(position_K) / true_K - 1).max())


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("posterior", __doc__)
    options.add_argument(
        "--lists",
        type=Path,
        metavar="FOLDER",
        help="a folder of real lists in the form of trivago_lists_day1: one more note",
    )
    chosen = options.parse_args(arguments)
    encoder = SentenceEncoder(None, threads=1)
    shops = [Shop(seed, QUICK_VIEWS if chosen.quick else None, encoder) for seed in SEEDS]
    unit = "excess millinats a position"
    means = [{name: float(shop.excess(name).mean()) for name in ("ours", *PEERS)} for shop in shops]
    rows = [row(case, [(m["ours"], m[case]) for m in means], told, unit) for case, told in PEERS.items()]
    notes = [*_intervals(shops), *_calibration(shops), _speed(shops), memory_note(SETTINGS, chosen.quick)]
    if chosen.lists is not None:
        notes += real_lists(chosen.lists)
    return finish("posterior", rows, chosen, notes)


def _intervals(shops: Sequence[Shop]) -> list[str]:
    told = []
    for name in PEERS:
        ours_N = np.concatenate([shop.excess("ours") for shop in shops])
        peer_N = np.concatenate([shop.excess(name) for shop in shops])
        labels = [(n, q) for n, shop in enumerate(shops) for q in shop.query_N[shop.past_N].tolist()]
        between = paired_bootstrap(peer_N, ours_N, labels)
        told.append(f"{name}: {between.diff:.2f} [{between.low:.2f}, {between.high:.2f}]")
    head = f"excess over ours, millinats, 95 % interval by paired bootstrap over queries, {len(shops)} shops: "
    return [head + "; ".join(told)]


def _calibration(shops: Sequence[Shop]) -> list[str]:
    after = [shop.errors_after_drift() for shop in shops]
    views = []
    for errors in after:
        late = [n for n, error in enumerate(errors) if error >= BOUND]
        views.append(WINDOW * (late[-1] + 1 if late else 0))
    of_ours = ", ".join(f"{shop.error():.4f}" for shop in shops)
    return [
        f"ECE of the history (15 bins): ours {of_ours}; "
        + ", ".join(f"{name} {np.median([shop.error(name) for shop in shops]):.4f}" for name in PEERS),
        f"after the drift, ECE of windows of {WINDOW} views: at most {max(map(max, after)):.4f}; under {BOUND} for good after "
        f"{max(views)} views",
        "examination against the shop's curve, greatest relative error over the page: "
        + ", ".join(f"{shop.examination_error():.1%}" for shop in shops),
    ]


def _speed(shops: Sequence[Shop]) -> str:
    parts = [shop.run.posterior for shop in shops]
    speed = np.median([p.updates / p.seconds for p in parts])
    size = np.median([p.size / p.snapshot.pairs for p in parts])
    return (
        f"{speed:,.0f} updates/s on one core, snapshots and calibration included; {size:.0f} bytes per pair in a snapshot; "
        f"{parts[0].snapshot.pairs:,} pairs in the first shop"
    )


def real_lists(folder: Path) -> list[str]:
    """Progressive log-loss on real clicks: a snapshot every hour, the log cut into history and live part taken as one."""
    world = read_trivago(folder, NOW_MS, ShopSettings())
    settings = SETTINGS.model_copy(update={"snapshot_every_s": 3_600, "bucket_s": 3_600})
    events: list[Event] = list(world.history())
    for request in world.requests():
        shown = tuple(ShownItem(item, n) for n, item in enumerate(request.candidates, start=1))
        events.append(Impression(request.ts, request.request_id, request.user, request.query, shown, request.session))
        outcome = world.feedback(request, request.candidates)
        events += [*outcome.clicks, *outcome.orders]
    events.sort(key=lambda event: event.ts)
    clicked = {(event.request_id, event.item) for event in events if isinstance(event, Click)}

    def known(view: Impression) -> Floats:
        return np.array([(view.request_id, shown.item) in clicked for shown in view.items], np.float64)

    run = Run(settings, known)
    run.whole(events)
    _, query_N, version_N, known_N, by = run.said.arrays()
    on = version_N > 0
    ours_N = loss(known_N[on], by["ours"][on])
    told = []
    for name in PEERS:
        peer_N = loss(known_N[on], by[name][on])
        between = paired_bootstrap(peer_N, ours_N, query_N[on].tolist())
        told.append(f"{name} {peer_N.mean():.1f} ({between.diff:+.1f} [{between.low:.1f}, {between.high:.1f}])")
    return [
        f"real lists of {folder.name}, {int(on.sum()):,} positions, progressive log-loss in millinats: "
        f"ours {ours_N.mean():.1f}, " + ", ".join(told)
    ]


if __name__ == "__main__":
    main()
