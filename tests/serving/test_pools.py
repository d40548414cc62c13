"""What a page was drawn from is kept: it explains the page's propensities, and losing it is counted."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from headrace.services.ports import free_port
from reward.campaigns.facts import ItemFacts
from reward.composite import serving_score
from reward.preview.preview import preview
from reward.preview.rates import Rates
from reward.settings import RewardSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.checkpoints import Absorbed
from schemas.connections import Connections
from schemas.examples import ExampleItem, TrainingExample
from schemas.log import scan
from schemas.pools import Pool
from schemas.topics import IMPRESSIONS, POOLS
from schemas.views import ViewStatus
from schemas.weights import RewardWeights

Shop = Any  # the fixture's class; conftest files are not importable by name


class Kept:
    """A sink that keeps all."""

    def __init__(self) -> None:
        self.pools: list[Pool] = []

    def wants(self, request_id: str) -> bool:
        return True

    def keep(self, user: str, pool: Pool) -> None:
        self.pools.append(pool)


def propensities(pool: Pool, page: list[str], weights: RewardWeights) -> list[float]:
    """Of a page's items, one position after the other, by exp and sum."""
    tier, ctr = np.frombuffer(pool.tier, "<i1"), np.frombuffer(pool.ctr, "<f8")
    total = serving_score(np.frombuffer(pool.logp, "<f8"), tier, ctr, weights, ServingScoreSettings())
    left = {item: float(u) / pool.temperature for item, u in zip(pool.items, total, strict=True)}
    said = []
    for item in page:
        top = max(left.values())
        said.append(math.exp(left[item] - top) / sum(math.exp(u - top) for u in left.values()))
        del left[item]
    return said


def test_a_pool_explains_the_propensities_of_its_page(shop: Shop, prior: PosteriorSnapshot) -> None:
    """Plackett-Luce over the serving score with the weights that ordered the page."""
    weights, sink = RewardWeights(version=7, relevance=0.5, ctr=0.25), Kept()
    engine = shop.engine(1, exploration=0.7, beam=20)
    requests = [msgspec.structs.replace(r, segment="new", market="north") for r in shop.requests(5)]
    answers = engine.answer(requests, weights, prior, 3, sink)
    assert answers == engine.answer(requests, weights, prior, 3)
    for request, answer, pool in zip(requests, answers, sink.pools, strict=True):
        assert (pool.request_id, pool.ts, pool.query) == (request.request_id, request.ts, request.query)
        assert (pool.segment, pool.market, pool.checkpoint) == ("new", "north", "policy-1")
        assert (pool.weights_version, pool.temperature) == (7, 0.7)
        page = [item.item for item in answer.items]
        assert propensities(pool, page, weights) == pytest.approx([i.propensity for i in answer.items], rel=1e-9)
        logp = dict(zip(pool.items, np.frombuffer(pool.logp, "<f8"), strict=True))
        assert [logp[i.item] for i in answer.items] == pytest.approx([i.scores.policy for i in answer.items])


def test_a_pool_holds_what_campaigns_and_checkpoint_make_of_it(shop: Shop, prior: PosteriorSnapshot) -> None:
    """A campaign in force, a checkpoint that has taken up half of another book, and a control share: the preview, from the pools
    alone, finds the propensities of every page that the active book ordered, and reweighs the others from the book before."""
    words = shop.world.catalogue.categories
    lean = Campaign(
        "lean",
        1,
        "lean",
        "ann",
        Scope(categories=(words[0],), segments=("new",)),
        ctr=0.5,
        multipliers=Multipliers(margin=1.6),
    )
    before = RewardWeights(version=3, relevance=0.7)
    book = RewardWeights(version=4, relevance=0.3, campaigns=(lean,), before=before)
    taken = Absorbed(0.5, RewardWeights(relevance=3.0, campaigns=(lean,))), Absorbed(0.5, RewardWeights())
    engine, sink = shop.engine(1, exploration=2.0, beam=20), Kept()
    engine.absorbed = taken
    requests = [msgspec.structs.replace(r, segment="new" if n % 2 else "") for n, r in enumerate(shop.requests(40))]
    answers = engine.answer(requests, engine.ordering(book, 0.5), prior, 0, sink)
    assert {pool.weights_version for pool in sink.pools} == {3, 4}
    assert all(pool.excess_relevance for pool in sink.pools)
    examples = [
        TrainingExample(
            f"{a.request_id}:x:1", a.request_id, ViewStatus.PROVISIONAL, 1, r.ts, r.ts, r.user, r.query,
            tuple(
                ExampleItem(i.item, i.position, i.propensity, i.scores.tier, 1.0, i.scores.ctr, 0.0, i.position % 2, 0, 0.0)
                for i in a.items
            ),
            "r", 0, weights_version=a.weights_version, segment=r.segment,
        )
        for r, a in zip(requests, answers, strict=True)
    ]  # fmt: skip
    catalogue, ours = shop.world.catalogue, sum(a.weights_version == 4 for a in answers)
    pools = {pool.request_id: pool for pool in sink.pools}
    about = (catalogue.row, ItemFacts.of(catalogue), RewardSettings(), requests[0].ts, Rates(0, None, None))
    fine = preview(examples, pools, book, book, *about).support
    assert (fine.inconsistent, fine.used) == (0, 40)
    other = msgspec.structs.replace(book, relevance=0.31)  # seen on the pages whose pools have more than one tier
    assert 0 < preview(examples, pools, other, other, *about).support.inconsistent <= ours
    mine = [e for e in examples if e.weights_version == 4]
    alone = preview(mine, pools, book, book, *about)
    assert all(kind.effective == pytest.approx(ours) for kind in alone.expected)


@pytest.mark.services
def test_each_page_of_the_server_leaves_its_pool(serve: Callable[..., Any], fresh_topics: Connections, shop: Shop) -> None:
    """Twelve searches, one of them asked twice: twelve pools, in the partitions of their impressions."""
    requests = shop.requests(12)
    with serve(fresh_topics) as running:
        running.wait_ready()
        for request in [*requests, requests[0]]:
            asked = {"q": request.query, "user": request.user, "request_id": request.request_id, "ts": request.ts}
            assert running.search(**asked).status_code == 200
        written = running.app.state.server.metrics.pools
        deadline = time.monotonic() + 10
        while written.labels("kept")._value.get() < 12 and time.monotonic() < deadline:
            time.sleep(0.02)
        assert (written.labels("kept")._value.get(), written.labels("lost")._value.get()) == (12, 0)
    pages = {entry.record.request_id: entry for entry in scan(fresh_topics, IMPRESSIONS)}
    pools = [(entry.partition, entry.record) for entry in scan(fresh_topics, POOLS)]
    assert sorted(pool.request_id for _, pool in pools) == sorted(pages)
    for partition, pool in pools:
        assert partition == pages[pool.request_id].partition
        assert {shown.item for shown in pages[pool.request_id].record.items} <= set(pool.items)


def test_a_share_of_the_pages() -> None:
    """A quarter of 4,000 request ids, give or take four standard deviations of 27; none at 0, all at 1, each always alike."""
    from prometheus_client import CollectorRegistry, Counter

    from serving.impressions import ImpressionLog
    from serving.pools import PoolLog

    counter = Counter("pools", "of this test", ["outcome"], registry=CollectorRegistry())
    log = ImpressionLog(Connections(kafka=f"127.0.0.1:{free_port()}"), timeout_s=1)
    ids = [f"r{n}" for n in range(4_000)]
    quarter = [PoolLog(log, 0.25, counter).wants(one) for one in ids]
    assert abs(sum(quarter) - 1_000) < 108
    assert quarter == [PoolLog(log, 0.25, counter).wants(one) for one in ids]
    assert not any(PoolLog(log, 0.0, counter).wants(one) for one in ids)
    assert all(PoolLog(log, 1.0, counter).wants(one) for one in ids)


def test_what_the_broker_does_not_take_is_counted(shop: Shop, prior: PosteriorSnapshot) -> None:
    """Nobody listens: keeping returns at once, and after the producer's second each pool counts as lost. One that is too
    large for the producer counts at once."""
    from prometheus_client import CollectorRegistry, Counter

    from serving.impressions import ImpressionLog
    from serving.pools import PoolLog

    sink, counter = Kept(), Counter("pools", "of this test", ["outcome"], registry=CollectorRegistry())
    shop.engine(1).answer(shop.requests(3), RewardWeights(), prior, 0, sink)
    with ImpressionLog(Connections(kafka=f"127.0.0.1:{free_port()}"), timeout_s=1) as log:
        pools, lost = PoolLog(log, 1.0, counter), counter.labels("lost")._value
        begin = time.monotonic()
        for pool in sink.pools:
            pools.keep("ann", pool)
        assert time.monotonic() - begin < 0.5 and lost.get() == 0
        pools.keep("ann", msgspec.structs.replace(sink.pools[0], logp=bytes(1_000_000)))
        assert lost.get() == 1
        while lost.get() < 4 and time.monotonic() - begin < 25:
            time.sleep(0.05)
        assert lost.get() == 4
