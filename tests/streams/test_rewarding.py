"""Rewarding: a view gets the posterior of its own time, whatever came first; components stay apart."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from reward.calibration import IDENTITY
from reward.counts import Counts
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.catalogue import Catalogue
from schemas.codec import decode, encode
from schemas.descriptions import Description
from schemas.events import Tick
from schemas.examples import TrainingExample
from schemas.posteriors import CountDelta, SnapshotPointer
from schemas.quarantine import Quarantined
from schemas.store import Store
from schemas.topics import EXAMPLES, QUARANTINE, SNAPSHOTS, VIEWS
from schemas.views import View, ViewItem, ViewStatus
from streams.rewarding.agent import snapshot_loader
from streams.rewarding.core import RewardingCore
from streams.runtime.core import Record

SETTINGS = PosteriorSettings(snapshot_every_s=10, prior_ctr=0.05)
EVERY = 10_000
CATALOGUE = Catalogue(
    ("a", "b", "c"), ("A", "B", "C"), ("x",) * 3, ("",) * 3, np.ones(3, np.float32), np.zeros(3, np.int64), ({},) * 3
)


class RowTiers:
    """A scorer that can be followed by hand: the tier is the row's number."""

    version = "rows"

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        return rows.astype(np.int8), np.full(len(rows), 0.5, np.float32)


def snapshot_of(pointer: SnapshotPointer) -> PosteriorSnapshot:
    """The more versions, the more clicks on a."""
    delta = CountDelta("red shoe", "a", 0, 10 << 20, pointer.version, 0)
    calibrator = replace(IDENTITY, version=5)
    return PosteriorSnapshot(PosteriorSnapshot.build(Counts([delta]), pointer.stamp, SETTINGS, calibrator))


def core() -> RewardingCore:
    return RewardingCore(0, CATALOGUE, RowTiers(), snapshot_of, SETTINGS)


def view(n: int, emitted_at: int, items: str = "abc") -> View:
    shown = tuple(ViewItem(i, k + 1, 0.5, clicks=2 * (k == 0), orders=int(k == 0), value=9.5) for k, i in enumerate(items))
    return View(
        f"r{n}:final:2", f"r{n}", ViewStatus.FINAL, 2, emitted_at - 9, emitted_at, "u", "Red shoe!", shown,
        recent_queries=("x",), recent_items=("c",), candidates=("a",), checkpoint="cp", weights_version=4,
        segment="loyal", market="north",
    )  # fmt: skip


def pointer(stamp: int) -> SnapshotPointer:
    return SnapshotPointer(stamp // EVERY, stamp, f"p{stamp}", "", 0, 1)


def records(messages: Sequence[msgspec.Struct | bytes]) -> list[Record]:
    return [Record(n, 0, None, m if isinstance(m, bytes) else encode(m)) for n, m in enumerate(messages)]


def drained(reward: RewardingCore) -> list[TrainingExample]:
    return [decode(EXAMPLES.kind, o.value) for o in reward.drain()[0] if o.topic == EXAMPLES.name]


def test_an_example_keeps_every_fact_and_names_its_versions() -> None:
    reward = core()
    reward.apply(SNAPSHOTS.name, records([pointer(10_000)]))
    reward.apply(VIEWS.name, records([view(1, 12_000)]))
    reward.advance()
    (example,) = drained(reward)
    first = example.items[0]
    ctr = snapshot_of(pointer(10_000)).ctr("red shoe", ["a"])
    assert (first.item, first.tier, first.tier_confidence, first.clicks, first.orders, first.value) == (
        "a",
        0,
        0.5,
        2,
        1,
        9.5,
    )
    assert (first.ctr, first.ctr_variance, first.ctr_ess) == (ctr.mean_N[0], ctr.variance_N[0], ctr.ess_N[0])
    assert first.ctr_ess > 0 and example.items[1].ctr_ess == 0 and example.calibrator_version == 5
    assert [item.tier for item in example.items] == [0, 1, 2]
    assert (example.relevance_version, example.snapshot_version, example.weights_version) == ("rows", 1, 4)
    assert (example.example_id, example.candidates, example.recent_items) == ("r1:final:2", ("a",), ("c",))
    assert (example.segment, example.market) == ("loyal", "north")


@pytest.mark.parametrize(
    ("emitted_at", "version"),
    [(1, 0), (10_000, 0), (10_001, 1), (20_000, 1), (20_001, 2), (39_999, 3)],
)
def test_the_newest_snapshot_before_the_emission(emitted_at: int, version: int) -> None:
    """A snapshot stamped at the very time of the view may hold the view's own clicks: it is not used. Before the first
    stamp the prior stands, as version 0."""
    reward = core()
    reward.apply(SNAPSHOTS.name, records([pointer(stamp) for stamp in (10_000, 20_000, 30_000, 40_000)]))
    reward.apply(VIEWS.name, records([view(1, emitted_at)]))
    reward.advance()
    (example,) = drained(reward)
    assert example.snapshot_version == version
    if version == 0:
        assert example.items[1].ctr == pytest.approx(0.05)


def test_a_view_waits_for_its_stamp_and_holds_those_behind_it() -> None:
    reward = core()
    reward.apply(VIEWS.name, records([view(1, 12_000), view(2, 22_000), Tick(30_000)]))
    reward.advance()
    assert drained(reward) == [] and reward.watermark == 12_000
    reward.apply(SNAPSHOTS.name, records([pointer(10_000)]))
    reward.advance()
    assert [example.request_id for example in drained(reward)] == ["r1"] and reward.watermark == 22_000
    reward.apply(SNAPSHOTS.name, records([pointer(20_000)]))
    reward.advance()
    assert [example.request_id for example in drained(reward)] == ["r2"] and reward.watermark == 30_000


def test_unknown_items_and_broken_records_are_refused_with_their_reason() -> None:
    reward = core()
    reward.apply(VIEWS.name, records([view(1, 5_000, "az"), b"\xff", view(2, 5_000)]))
    reward.advance()
    outputs, _ = reward.drain()
    refused = [decode(Quarantined, o.value) for o in outputs if o.topic == QUARANTINE.name]
    assert [(q.reason, q.offset, q.topic) for q in refused] == [
        ("unknown_item", 0, VIEWS.name),
        ("unreadable", 1, VIEWS.name),
    ]
    assert [o.topic for o in outputs].count(EXAMPLES.name) == 1
    assert reward.counters == {"quarantined.unknown_item": 1, "quarantined.unreadable": 1, "views": 1, "examples": 1}


@given(st.lists(st.integers(1, 70_000), min_size=1, max_size=12), st.randoms(use_true_random=False))
def test_interleaving_chunks_and_restarts_do_not_matter(times: list[int], rng: random.Random) -> None:
    views = records([view(n, at) for n, at in enumerate(sorted(times))])
    pointers = records([pointer(stamp) for stamp in range(EVERY, 80_000, EVERY)])
    whole = core()
    whole.apply(SNAPSHOTS.name, pointers)
    whole.apply(VIEWS.name, views)
    whole.advance()
    expected = drained(whole)
    mixed, found = core(), list[TrainingExample]()
    queues = {VIEWS.name: views, SNAPSHOTS.name: pointers}
    while any(queues.values()):
        topic = rng.choice([name for name, queue in queues.items() if queue])
        cut = rng.randint(1, len(queues[topic]))
        mixed.apply(topic, queues[topic][:cut])
        queues[topic] = queues[topic][cut:]
        mixed.advance()
        found += drained(mixed)
        restarted = core()
        restarted.load(mixed.dump())
        mixed = restarted
    assert found == expected
    assert [e.snapshot_version for e in found] == [(at - 1) // EVERY for at in sorted(times)]


def test_pointers_that_no_view_can_need_are_forgotten() -> None:
    """Hours without a view: ticks move on, and the state holds one pointer, not all."""
    reward = core()
    for stamp in range(EVERY, 500_000, EVERY):
        reward.apply(SNAPSHOTS.name, records([pointer(stamp)]))
        reward.apply(VIEWS.name, records([Tick(stamp + 1)]))
        reward.advance()
    assert len(msgspec.msgpack.decode(reward.dump())["pointers"]) == 1


def test_the_loader_reads_files_that_pointers_name(tmp_path: Path) -> None:
    store = Store(str(tmp_path))
    data = PosteriorSnapshot.build(Counts(), 5, SETTINGS)
    load = snapshot_loader(store)
    store.write("p/1", data)
    assert load(SnapshotPointer(1, 5, "p/1", PosteriorSnapshot(data).sha256, 0, 0)).stamp == 5


class Later:
    """One item, z, that a look finds; from 30,000 ms of emission on, all tiers are 3."""

    def __init__(self) -> None:
        self.looks = 0
        self.shop = CATALOGUE.described({"z": Description("Z")}, {"z": 4_000})

    def look(self) -> None:
        self.looks += 1

    def knows(self, item: str) -> bool:
        return item in (self.shop if self.looks else CATALOGUE).row

    def at(self, emitted_at: int, items: Sequence[str]) -> tuple[dict[str, int], RowTiers]:
        return self.shop.row, TopTiers() if emitted_at >= 30_000 else RowTiers()


class TopTiers(RowTiers):
    version = "top"

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        return np.full(len(rows), 3, np.int8), np.ones(len(rows), np.float32)


def test_a_page_that_shows_an_item_that_came_since_becomes_an_example() -> None:
    """The topic is looked at once a chunk, and only when it has to be; what is not known then is refused."""
    later = Later()
    reward = RewardingCore(0, CATALOGUE, RowTiers(), snapshot_of, SETTINGS, later)
    reward.apply(VIEWS.name, records([view(1, 5_000)]))
    assert later.looks == 0
    reward.apply(VIEWS.name, records([view(2, 5_000, "y"), view(3, 5_000, "az"), view(4, 5_000, "zy")]))
    reward.apply(VIEWS.name, records([view(5, 5_000, "z")]))
    reward.advance()
    assert later.looks == 1
    found = {example.request_id: [(item.item, item.tier) for item in example.items] for example in drained(reward)}
    assert found == {"r1": [("a", 0), ("b", 1), ("c", 2)], "r3": [("a", 0), ("z", 3)], "r5": [("z", 3)]}
    assert reward.counters["quarantined.unknown_item"] == 2


def test_a_view_is_scored_by_the_catalogue_of_its_time_though_it_waited_and_the_worker_was_restarted() -> None:
    """Not by that of the moment at which its snapshot came: also the one that shows an item which the new process has not met."""
    reward = RewardingCore(0, CATALOGUE, RowTiers(), snapshot_of, SETTINGS, Later())
    reward.apply(VIEWS.name, records([view(1, 29_999, "az"), view(2, 30_000, "az")]))
    reward.advance()
    assert drained(reward) == []
    restarted = RewardingCore(0, CATALOGUE, RowTiers(), snapshot_of, SETTINGS, Later())
    restarted.load(reward.dump())
    restarted.apply(SNAPSHOTS.name, records([pointer(stamp) for stamp in (10_000, 20_000, 30_000)]))
    restarted.advance()
    found = {e.request_id: (e.relevance_version, [item.tier for item in e.items]) for e in drained(restarted)}
    assert found == {"r1": ("rows", [0, 3]), "r2": ("top", [3, 3])}
