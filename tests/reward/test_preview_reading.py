"""The newest examples and their pools, from a real broker: what is read, how far back, and what is passed over."""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from headrace.services.ports import free_port
from reward.counts import UNIT, Counts
from reward.examination import start
from reward.preview.pages import Pages
from reward.preview.rates import NewestRates
from reward.preview.reading import SLACK_MS, RecentPages
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas import tails
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import InvalidRequest, Unavailable
from schemas.examples import TrainingExample
from schemas.posteriors import CountDelta, SnapshotPointer
from schemas.store import Store
from schemas.topics import EXAMPLES, POOLS, SNAPSHOTS, WEIGHTS
from streams.producing import EventProducer
from tests.reward import preview_toys
from tests.reward.preview_toys import NOW_MS, Log, Toys

pytestmark = pytest.mark.services


def named(toys: Toys, prefix: str, later_ms: int = 0) -> Toys:
    """The same pages under other names, at another time."""

    def example(e: TrainingExample) -> TrainingExample:
        return msgspec.structs.replace(
            e, request_id=prefix + e.request_id, ts=e.ts + later_ms, emitted_at=e.emitted_at + later_ms
        )

    pools = {
        prefix + request: msgspec.structs.replace(pool, request_id=prefix + request, ts=pool.ts + later_ms)
        for request, pool in toys.pools.items()
    }
    return Toys([example(e) for e in toys.examples], pools, toys.catalogue)


def test_the_last_examples_and_their_pools(fresh_topics: Connections) -> None:
    """Of 600 pages over two partitions the newest 200, each with its own pool.
    Then 40 more: they come in, the oldest go, and no pool is lost."""
    toys, log = preview_toys.make(600), Log(fresh_topics, "a")
    log.write(toys)
    recent = RecentPages(fresh_topics, 200)
    first = recent.read()
    assert len(first.examples) == 200 and first.unreadable == 0
    by_request = {e.request_id: e for e in toys.examples}
    assert all(by_request[e.request_id] == e for e in first.examples)
    assert first.pools == {e.request_id: toys.pools[e.request_id] for e in first.examples}
    oldest = min(e.ts for e in first.examples)
    assert oldest >= NOW_MS - 1_000 * 201
    more = named(preview_toys.make(40, seed=9), "n", 60_000)
    log.write(more)
    second = recent.read()
    assert len(second.examples) == 200 and set(more.pools) <= set(second.pools) == {e.request_id for e in second.examples}
    assert recent.read() == second
    assert RecentPages(fresh_topics, 200).read().pools == second.pools


def test_revisions_aborted_records_and_what_cannot_be_read(fresh_topics: Connections) -> None:
    """The newest revision of a page counts; an aborted transaction is not there; a broken record is counted."""
    toys, log = preview_toys.make(30), Log(fresh_topics, "b")
    log.write(toys)
    revised = [msgspec.structs.replace(e, revision=2) for e in toys.examples[:5]]
    log.write(Toys(revised, {}, toys.catalogue))
    log.write(named(toys, "gone"), abort=True)
    log.pools.produce(EXAMPLES.name, value=b"{", partition=0)
    log.pools.flush(30)
    found = RecentPages(fresh_topics, 1_000).read()
    assert {e.request_id: e.revision for e in found.examples} == {
        e.request_id: 2 if n < 5 else 1 for n, e in enumerate(toys.examples)
    }
    assert found.unreadable == 1 and set(found.pools) == set(toys.pools)


def test_pools_are_sought_by_the_time_of_their_pages(fresh_topics: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half an hour of later pages, which are no examples yet, and a day of older ones lie around them: few are looked at."""
    toys, log = preview_toys.make(100), Log(fresh_topics, "c")
    old, new = (
        named(preview_toys.make(400, seed=1), "old", -86_400_000),
        named(preview_toys.make(400, seed=2), "new", 1_000_000),
    )
    for part in (old, toys, new):
        log.write(Toys(part.examples if part is toys else [], {}, part.catalogue))
    user = {e.request_id: e.user for part in (old, toys, new) for e in part.examples}
    for part in (old, toys, new):
        for pool in part.pools.values():
            log.pools.produce(POOLS.name, key=user[pool.request_id].encode(), value=encode(pool), timestamp=pool.ts)
    log.pools.flush(30)
    looked: list[int] = []
    read = tails.read

    def counted(connections: Connections, topic: object, starts: object, enough: object = lambda _: False) -> object:
        for message in read(connections, topic, starts, enough):  # type: ignore[arg-type]
            looked.append(message.offset() if topic is POOLS else 0)
            yield message

    monkeypatch.setattr(tails, "read", counted)
    found = RecentPages(fresh_topics, 100).read()
    assert set(found.pools) == set(toys.pools)
    assert len(looked) <= 200 + SLACK_MS // 1_000  # the examples, their pools, and a second of slack each


def test_nothing_there(fresh_topics: Connections) -> None:
    """Empty topics give no examples; a topic that is missing is told."""
    found = RecentPages(fresh_topics, 10).read()
    assert (found.examples, found.pools) == ((), {})
    with pytest.raises(Unavailable, match="headrace topics --create"):
        tails.ends(fresh_topics, dataclasses.replace(WEIGHTS, name="no.such.topic"))


@pytest.mark.parametrize("count", [0, -1, 200_001])
def test_the_number_of_examples_has_bounds(count: int) -> None:
    with pytest.raises(InvalidRequest, match="1 to 200,000"):
        RecentPages(Connections(kafka=f"127.0.0.1:{free_port()}"), count)


def test_rates_and_examination_are_those_of_the_newest_snapshot(fresh_topics: Connections) -> None:
    """Before any snapshot what is stored and the start's; then the last one's of partition 0, also of those that come after the
    first read. Where clicks count as observed, the rates alone."""
    store, settings = Store(fresh_topics.store), PosteriorSettings()
    newest, observed = (NewestRates(fresh_topics, store, settings, expected) for expected in (True, False))
    toys = preview_toys.make(3, queries=2)
    pages = Pages.of(toys.examples, toys.row)
    none_yet, seen = newest.read(), (pages.asked[0].query, pages.items[0])
    assert (none_yet.version, none_yet.examination) == (0, start(settings)) and none_yet.on(pages) is pages
    for version, clicks in ((1, 900), (2, 500), (3, 300)):
        counts = Counts(CountDelta(*seen, 0, 1_000 * UNIT, n, 0, 0, place) for place, n in ((1, 1_000), (2, clicks)))
        data = PosteriorSnapshot.build(counts, version, settings, version=version)
        store.write(f"posteriors/{version}", data)
        pointer = SnapshotPointer(version, version, f"posteriors/{version}", PosteriorSnapshot(data).sha256, 0, 1)
        with EventProducer(fresh_topics) as producer:
            producer.send(SNAPSHOTS.name, encode(pointer), b"", 0)
        now, same = newest.read(), PosteriorSnapshot(data)
        assert now.version == version and now.examination is not None
        np.testing.assert_array_equal(now.examination.theta_T, same.examination.theta_T)
        one_by_one = [same.ctr(pages.asked[m].query, [i]).mean_N[0] for m, i in zip(pages.page_P, pages.items, strict=True)]
        np.testing.assert_array_equal(now.on(pages).ctr_P, one_by_one)
    assert same.examination.theta_T[1] < 0.5 and len(set(one_by_one)) > 1
    assert (observed.read().version, observed.read().examination) == (3, None)
