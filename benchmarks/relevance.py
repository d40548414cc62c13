"""The relevance scorer against BM25 and the embeddings' cosine: quadratic kappa on judged queries none of them saw.

The peers' three borders between tiers are the best ones on the queries that are not held out. One repeat is one seed:
a shop of its own and a split of its own; of a data folder, a split of its own. The notes give each seed's
gain with its 95 % interval (queries resampled, both sides from one draw), calibration, and speed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.common import LEAST_REPEATS, NOW_MS, Result, finish, parser, row
from headrace.adapters.opening import open_world
from headrace.shop.settings import ShopSettings
from headrace.world import World
from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.relevance_report import RelevanceReport
from reward.settings import RelevanceSettings
from schemas.errors import InvalidData

SEEDS = (7, 8, 9, 10, 11)
#: Items of a shop with --quick.
QUICK_ITEMS = 500
#: Pairs of a batch, and items of a page.
BATCH, PAGE = 20_000, 10


def worlds(data: str, quick: bool, encoder: SentenceEncoder) -> Iterator[tuple[int, World, NDArray[np.float32]]]:
    """(seed, world, item_emb_ND); a folder's catalogue is embedded once."""
    if data != "shop":
        world = open_world(data, ShopSettings(), NOW_MS, SEEDS[0])
        emb_ND = encoder.encode(world.catalogue.titles)
        for seed in SEEDS:
            yield seed, world, emb_ND
        return
    for seed in SEEDS:
        world = open_world("shop", ShopSettings(), NOW_MS, seed, items=QUICK_ITEMS if quick else None)
        yield seed, world, encoder.encode(world.catalogue.titles)


class Measured(NamedTuple):
    """Of one seed: the held-out report, and pairs/s of CPU time in batches across queries and in pages of one query."""

    report: RelevanceReport
    batch: float
    page: float


def measure(data: str, quick: bool) -> list[Measured]:
    """Every seed's scorer.

    Raises:
        InvalidData: the folder has too few judgments to train on.
    """
    found, encoder = [], SentenceEncoder()
    for seed, world, emb_ND in worlds(data, quick, encoder):
        settings = RelevanceSettings()
        scorer, report = RelevanceScorer.train(world.judgments, world.catalogue, emb_ND, encoder, settings, seed)
        if not report.trained:
            raise InvalidData(data, None, "judgments", report.judgments, f"at least {settings.min_judgments}, of 10 queries")
        queries = sorted({judgment.query for judgment in world.judgments})
        found.append(Measured(report, *speed(scorer, queries, len(world.catalogue), seed)))
    return found


def speed(scorer: RelevanceScorer, queries: Sequence[str], items: int, seed: int) -> tuple[float, float]:
    """Pairs/s of CPU time, medians of `LEAST_REPEATS`: `BATCH` pairs at once, and pages of `PAGE` items one after the other.

    Queries and items are drawn at random, so few pairs have a judgment. Queries have been seen: their vectors are cached.
    """
    rng = np.random.default_rng(seed)
    asked, rows_P = [queries[n] for n in rng.integers(0, len(queries), BATCH // PAGE)], rng.integers(0, items, BATCH)
    each = [query for query in asked for _ in range(PAGE)]
    pages = rows_P.reshape(-1, PAGE)
    scorer.tiers_many(each, rows_P)
    batch, page = [], []
    for _ in range(LEAST_REPEATS):
        began = time.process_time()
        scorer.tiers_many(each, rows_P)
        between = time.process_time()
        for query, rows in zip(asked, pages, strict=True):
            scorer.tiers(query, rows)
        batch.append(BATCH / (between - began))
        page.append(BATCH / (time.process_time() - between))
    return float(np.median(batch)), float(np.median(page))


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("relevance", __doc__)
    options.add_argument("--data", default="shop", metavar="PATH", help="a data folder in place of the built-in shop")
    chosen = options.parse_args(arguments)
    with threadpool_limits(1):
        found = measure(chosen.data, chosen.quick)
    made = [m.report for m in found]
    unit = "held-out quadratic kappa"
    rows = [
        row("BM25", [(r.kappa, r.kappa_bm25) for r in made], "BM25 with best borders", unit, higher_is_better=True),
        row("cosine", [(r.kappa, r.kappa_cosine) for r in made], "cosine with best borders", unit, higher_is_better=True),
    ]
    judged = [r.judgments for r in made]
    notes = [
        f"{min(judged)} to {max(judged)} judgments a seed, {made[0].test_judgments} held out of the first",
        *(
            f"seed {seed}: kappa {r.kappa:.3f}, less BM25's {_interval(r.gain_bm25)}, less cosine's {_interval(r.gain_cosine)}, "
            f"accuracy {r.accuracy:.3f}, ECE {r.calibration_error:.3f}, of the tiers {r.tier_calibration_error:.3f}"
            for seed, r in zip(SEEDS, made, strict=True)
        ),
        f"pairs/s/core, vectors cached: {np.median([m.batch for m in found]):,.0f} in batches of {BATCH:,} across queries, "
        f"{np.median([m.page for m in found]):,.0f} in pages of {PAGE}",
    ]
    return finish("relevance", rows, chosen, notes)


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"


if __name__ == "__main__":
    main()
