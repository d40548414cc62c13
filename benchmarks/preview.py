"""A preview of 10,000 stored examples, from Kafka to the result: seconds, against the 2 s allowed and against a plain loop.

Rates are the newest snapshot's, which knows every pair that was shown; each preview opens it anew. The loop reads nothing: it is
given decoded examples and pools and the open snapshot, and computes item by item a part of what the preview's arrays do: rewards
under both books and whole-list weights. It runs over a tenth of the pages, and its time is taken ten times.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
from confluent_kafka import Producer

from benchmarks.common import NOW_MS, Result, finish, parser, row
from headrace.services import start_services
from headrace.services.lock import hold
from headrace.supervisor import Supervisor
from headrace.topics_admin import create_topics
from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.weighing import Weighing
from reward.composite import serving_score
from reward.counts import UNIT, Counts
from reward.preview.preview import preview
from reward.preview.rates import Rates
from reward.preview.results import Preview
from reward.preview.service import Previews
from reward.settings import RewardSettings, ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.catalogue import Catalogue
from schemas.clients import librdkafka
from schemas.codec import encode
from schemas.connections import Connections
from schemas.examples import ExampleItem, TrainingExample
from schemas.pools import Pool
from schemas.posteriors import CountDelta, SnapshotPointer
from schemas.store import Store
from schemas.topics import EXAMPLES, POOLS, SNAPSHOTS
from schemas.views import ViewStatus
from schemas.weights import RewardWeights

ALLOWED_S = 2.0
#: Pages that the loop runs over.
LOOPED = 1_000
PAGES, ITEMS, QUERIES, CANDIDATES, SHOWN, TEMPERATURE = 10_000, 20_000, 2_000, 50, 10, 0.2
CURRENT = RewardWeights()
LAMPS = Campaign("sale", 1, "sale", "ann", Scope(categories=("c3",)), ctr=1.2, multipliers=Multipliers(margin=1.2))
DRAFT = RewardWeights(version=2, relevance=1.1, campaigns=(LAMPS,))
SETTINGS = RewardSettings()


def shop() -> Catalogue:
    """20 categories, 50 brands, margins for all."""
    number = range(ITEMS)
    return Catalogue(
        items=tuple(f"item-{n}" for n in number),
        titles=("",) * ITEMS,
        categories=tuple(f"c{n % 20}" for n in number),
        brands=tuple(f"b{n % 50}" for n in number),
        prices_N=np.ones(ITEMS, dtype=np.float32),
        available_from_N=np.zeros(ITEMS, dtype=np.int64),
        attributes=({},) * ITEMS,
        margins_N=np.linspace(0, 1, ITEMS).astype(np.float32),
    )


def page(n: int, rng: np.random.Generator) -> tuple[TrainingExample, Pool]:
    """One page of today's weights, drawn from its pool."""
    request, ts, query = f"request-{n}", NOW_MS + 1_000 * n, f"query {rng.integers(QUERIES)}"
    rows = (rng.integers(ITEMS) + 397 * np.arange(CANDIDATES)) % ITEMS
    logp, ctr = rng.normal(-8, 2, CANDIDATES), rng.uniform(0.005, 0.3, CANDIDATES)
    tier = rng.integers(0, 4, CANDIDATES)
    utility = serving_score(logp, tier, ctr, CURRENT, SETTINGS.serving) / TEMPERATURE
    order = np.argsort(-(utility + rng.gumbel(size=CANDIDATES)))
    left = np.logaddexp.accumulate(utility[order][::-1])[::-1]
    clicked = rng.random(SHOWN) < 0.05
    items = tuple(
        ExampleItem(
            f"item-{rows[c]}", k + 1, float(np.exp(utility[c] - left[k])), int(tier[c]), 1.0, float(ctr[c]), 1e-4,
            int(clicked[k]), int(clicked[k] and rng.random() < 0.1), 0.0,
        )
        for k, c in enumerate(order[:SHOWN].tolist())
    )  # fmt: skip
    example = TrainingExample(
        f"{request}:provisional:1", request, ViewStatus.PROVISIONAL, 1, ts, ts + 1_800_000, f"user-{n % 2_000}", query, items,
        "relevance", 0, weights_version=1, recent_queries=(query,) * 3,
    )  # fmt: skip
    names, columns = tuple(f"item-{one}" for one in rows), (logp.tobytes(), tier.astype("i1").tobytes(), ctr.tobytes())
    return example, Pool(ts, request, query, names, *columns, TEMPERATURE, "checkpoint", 1)


def snapshot_of(examples: Sequence[TrainingExample]) -> bytes:
    """What the posterior makes of these pages: every pair that they show, with its places."""
    settings = SETTINGS.posterior
    deltas = (
        CountDelta(normalise(e.query), item.item, 0, UNIT, item.clicks, item.orders, 0, item.position)
        for e in examples
        for item in e.items
    )
    return PosteriorSnapshot.build(Counts(deltas), 0, settings)


def fill(connections: Connections, store: Store) -> PosteriorSnapshot:
    """The topics as server and rewarding write them, and the snapshot that they name."""
    rng = np.random.default_rng(0)
    pages = [page(n, rng) for n in range(PAGES)]
    options = librdkafka(connections) | {"partitioner": "murmur2_random", "linger.ms": 20}
    pools, examples = Producer(options), Producer(options | {"transactional.id": "preview"})
    examples.init_transactions(30)
    for begin in range(0, PAGES, 500):
        examples.begin_transaction()
        for example, pool in pages[begin : begin + 500]:
            pools.produce(POOLS.name, key=example.user.encode(), value=encode(pool))
            examples.produce(EXAMPLES.name, key=example.user.encode(), value=encode(example))
        examples.commit_transaction(30)
        pools.flush(30)
    data = snapshot_of([example for example, _ in pages])
    store.write("posteriors/1", data)
    snapshot = PosteriorSnapshot(data)
    pools.produce(
        SNAPSHOTS.name, encode(SnapshotPointer(1, 0, "posteriors/1", snapshot.sha256, 0, snapshot.pairs)), partition=0
    )
    pools.flush(30)
    return snapshot


def loop(
    stored: Sequence[TrainingExample], pools: dict[str, Pool], catalogue: Catalogue, rates: PosteriorSnapshot
) -> tuple[float, float, float]:
    """Mean item reward before and after, and the mean weight of the whole lists, one item after the other."""
    facts, theta_K = ItemFacts.of(catalogue), rates.examination.at(np.arange(SHOWN + 1)).tolist()
    books = [Weighing(book, facts) for book in (CURRENT, DRAFT)]
    sums, count, weights = [0.0, 0.0], 0, 0.0
    for e in stored:
        asked, pool = Asked(normalise(e.query), e.segment, e.market), pools[e.request_id]
        count += len(e.items)
        ctrs = rates.ctr(asked.query, [item.item for item in e.items]).mean_N.tolist()
        for b, book in enumerate(books):
            for item, ctr in zip(e.items, ctrs, strict=True):
                one = book.of(asked, np.array([catalogue.row[item.item]]), e.ts)
                theta = min(theta_K[item.position], 1.0)
                chance = 1.0 if item.clicks else ctr * (1 - theta) / (1 - theta * ctr)
                relevance, rate, click, order, lean = (
                    float(np.squeeze(getattr(one, name))) for name in ("relevance", "ctr", "click", "order", "multiplier")
                )
                sums[b] += lean * (relevance * item.tier + rate * ctr + (order if item.orders else click * chance))
        weights += _weight(e, pool, asked, books[1], catalogue, SETTINGS.serving)
    return sums[0] / count, sums[1] / count, weights / len(stored)


def _weight(
    e: TrainingExample, pool: Pool, asked: Asked, book: Weighing, catalogue: Catalogue, settings: ServingScoreSettings
) -> float:
    """Ratio of the draft's probability of a list to the logged one."""
    left = {}
    columns = (
        np.frombuffer(column, kind).tolist() for column, kind in ((pool.logp, "f8"), (pool.tier, "i1"), (pool.ctr, "f8"))
    )
    for item, logp, tier, ctr in zip(pool.items, *columns, strict=True):
        one = book.of(asked, np.array([catalogue.row[item]]), e.ts)
        relevance, rate, lean = (float(np.squeeze(getattr(one, name))) for name in ("relevance", "ctr", "multiplier"))
        score = logp + settings.relevance_scale * relevance * tier + settings.ctr_scale * rate * math.log(ctr)
        left[item] = (score + settings.multiplier_scale * math.log(lean)) / pool.temperature
    ratio = 0.0
    for item in e.items:
        top = max(left.values())
        ratio += left[item.item] - top - math.log(sum(math.exp(u - top) for u in left.values())) - math.log(item.propensity)
        del left[item.item]
    return math.exp(ratio)


def check(found: Preview, plain: tuple[float, float, float]) -> None:
    """Both sides say the same.

    Raises:
        AssertionError: they do not.
    """
    whole = next(one for one in found.expected if one.estimator == "list")
    mine = (found.rewards.before, found.rewards.after, whole.mean_weight)
    for ours, theirs in zip(mine, plain, strict=True):
        if not math.isclose(ours, theirs, rel_tol=1e-6):
            raise AssertionError(f"the preview says {mine}, the loop {plain}")


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    chosen = parser("preview", __doc__).parse_args(arguments)
    repeats = 5 if chosen.quick else 9
    with tempfile.TemporaryDirectory() as scratch, hold(Path(scratch)), Supervisor(Path(scratch)) as supervisor:
        connections = start_services(Path(scratch), Connections(redis="redis://127.0.0.1:1"), supervisor)
        create_topics(connections, (EXAMPLES, POOLS, SNAPSHOTS))
        store, catalogue = Store(str(Path(scratch) / "store")), shop()
        catalogue.save(store)
        snapshot = fill(connections, store)
        rates = Rates(1, snapshot, snapshot.examination)
        ours: list[tuple[float, float]] = []
        against: list[tuple[float, float]] = []
        parts: list[float] = []
        for _ in range(repeats + 1):
            begin = time.perf_counter()
            previews = Previews(connections, store, SETTINGS)
            found = previews.preview(CURRENT, DRAFT)
            spent = time.perf_counter() - begin
            stored = previews.recent.read()
            begin = time.perf_counter()
            again = previews.preview(CURRENT, DRAFT)
            parts.append(time.perf_counter() - begin)
            part = stored.examples[:LOOPED]
            begin = time.perf_counter()
            plain = loop(part, stored.pools, catalogue, snapshot)
            ours.append((spent, ALLOWED_S))
            against.append((spent, (time.perf_counter() - begin) * PAGES / LOOPED))
            row_of, facts = catalogue.row, ItemFacts.of(catalogue)
            check(preview(part, stored.pools, CURRENT, DRAFT, row_of, facts, SETTINGS, found.at_ms, rates), plain)
            if msgspec.structs.replace(again, warnings=()) != msgspec.structs.replace(found, warnings=()):
                raise AssertionError("two previews of the same pages differ")
    if found.pages != PAGES or found.support.used != PAGES:
        raise AssertionError(f"{found.pages} pages, {found.support.used} with a pool, of {PAGES}")
    rows = [
        row("10,000 examples from Kafka", ours[1:], "2 s allowed", "s"),
        row("10,000 examples, item by item", against[1:], "plain loop, already decoded", "s"),
    ]
    note = f"a second preview over what was read: {float(np.median(parts[1:])):.2f} s; pages of {SHOWN} from pools of {CANDIDATES}"
    return finish("preview", rows, chosen, [note])


if __name__ == "__main__":
    main()
