"""Pages that were drawn from pools by known weights, with clicks of known probability."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from confluent_kafka import Producer
from numpy.typing import NDArray

from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.weighing import Weighing
from reward.composite import serving_score
from reward.settings import ServingScoreSettings
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.clients import librdkafka
from schemas.codec import encode
from schemas.connections import Connections
from schemas.examples import ExampleItem, TrainingExample
from schemas.pools import Pool
from schemas.topics import EXAMPLES, POOLS
from schemas.views import ViewStatus
from schemas.weights import RewardWeights

NOW_MS = 1_780_000_000_000
DAY_MS = 86_400_000
CATEGORIES = ("lamps", "rugs", "mugs")
BRANDS = ("acme", "zenith")


def catalogue(items: int) -> Catalogue:
    """i0, i1, ...; categories and brands in turn, every fifth came a day ago, margins 0 to 0.9."""
    return Catalogue(
        items=tuple(f"i{n}" for n in range(items)),
        titles=tuple(f"title {n}" for n in range(items)),
        categories=tuple(CATEGORIES[n % 3] for n in range(items)),
        brands=tuple(BRANDS[n % 2] for n in range(items)),
        prices_N=np.ones(items, dtype=np.float32),
        available_from_N=np.array([NOW_MS - DAY_MS if n % 5 == 0 else 0 for n in range(items)], dtype=np.int64),
        attributes=({},) * items,
        margins_N=np.array([n % 10 / 10 for n in range(items)], dtype=np.float32),
    )


@dataclass(frozen=True)
class Toys:
    """Examples and the pools of their pages."""

    examples: list[TrainingExample]
    pools: dict[str, Pool]
    catalogue: Catalogue

    @property
    def row(self) -> dict[str, int]:
        return self.catalogue.row

    @property
    def facts(self) -> ItemFacts:
        return ItemFacts.of(self.catalogue)


def answers(tier: int, position: int, rng: np.random.Generator) -> tuple[int, int]:
    """Clicks and orders of an item: the better and the higher, the likelier."""
    clicked = int(rng.random() < 0.1 * (tier + 1) / position)
    return clicked, int(clicked and rng.random() < 0.3)


def make(
    pages: int,
    *,
    seed: int = 0,
    items: int = 60,
    candidates: int = 8,
    shown: int | Sequence[int] = 4,
    weights: RewardWeights | None = None,
    temperature: float = 2.0,
    queries: int = 20,
    answer: Callable[[int, int, np.random.Generator], tuple[int, int]] = answers,
) -> Toys:
    """Pages of ``weights`` (default: the defaults), drawn by Gumbel noise over the serving score."""
    weights = weights or RewardWeights()
    rng, shop, settings = np.random.default_rng(seed), catalogue(items), ServingScoreSettings()
    weighing, examples, pools = Weighing(weights, ItemFacts.of(shop)), [], {}
    for n in range(pages):
        request, ts, query = f"r{n}", NOW_MS - 1_000 * (pages - n), f"Query {int(rng.integers(queries))}"
        about = ("new" if n % 2 else "", "north" if n % 3 else "south")
        rows = rng.choice(items, candidates, replace=False)
        logp, tier, ctr = rng.normal(-5, 1, candidates), rng.integers(0, 4, candidates), rng.uniform(0.01, 0.4, candidates)
        wished = weighing.of(Asked(normalise(query), *about), rows, ts)
        utility = serving_score(logp, tier, ctr, wished, settings) / temperature
        order = np.argsort(-(utility + rng.gumbel(size=candidates)))
        size = shown if isinstance(shown, int) else int(rng.choice(shown))
        said = propensities(utility[order], size)
        made = []
        for position, c in enumerate(order[:size].tolist(), 1):
            clicks, orders = answer(int(tier[c]), position, rng)
            made.append(
                ExampleItem(
                    f"i{rows[c]}",
                    position,
                    said[position - 1],
                    int(tier[c]),
                    1.0,
                    float(ctr[c]),
                    0.0,
                    clicks,
                    orders,
                    9.5 * orders,
                )
            )
        examples.append(
            TrainingExample(
                f"{request}:provisional:1", request, ViewStatus.PROVISIONAL, 1, ts, ts + 1_800_000, f"u{n % 50}", query,
                tuple(made), "r", 0, weights_version=weights.version, segment=about[0], market=about[1],
            )
        )  # fmt: skip
        pools[request] = Pool(
            ts, request, query, tuple(f"i{row}" for row in rows), logp.tobytes(), tier.astype("i1").tobytes(), ctr.tobytes(),
            temperature, "c", weights.version, *about,
        )  # fmt: skip
    return Toys(examples, pools, shop)


def propensities(utility: NDArray[np.float64], size: int) -> list[float]:
    """Of each place given those above, by exp and sum."""
    power = np.exp(utility - utility.max())
    return [float(power[k] / power[k:].sum()) for k in range(size)]


class Log:
    """Writes examples and pools as rewarding and server do: by user, examples in transactions."""

    def __init__(self, connections: Connections, name: str) -> None:
        options = librdkafka(connections) | {"partitioner": "murmur2_random", "linger.ms": 5, "log_level": 2}
        self.pools = Producer(options)
        self.examples = Producer(options | {"transactional.id": name})
        self.examples.init_transactions(30)

    def write(self, toys: Toys, abort: bool = False, chunk: int = 50) -> None:
        """In the order of time; a pool is written when its page is seen, an example when its windows have closed."""
        user = {e.request_id: e.user for e in toys.examples}
        for pool in toys.pools.values():
            self.pools.produce(POOLS.name, key=user[pool.request_id].encode(), value=encode(pool), timestamp=pool.ts)
        self.pools.flush(30)
        for begin in range(0, len(toys.examples), chunk):
            self.examples.begin_transaction()
            for e in toys.examples[begin : begin + chunk]:
                self.examples.produce(EXAMPLES.name, key=e.user.encode(), value=encode(e), timestamp=e.emitted_at)
            if abort:
                self.examples.flush(30)
                self.examples.abort_transaction(30)
            else:
                self.examples.commit_transaction(30)
