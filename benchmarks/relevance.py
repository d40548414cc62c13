"""The relevance scorer against BM25 and the embeddings' cosine: quadratic kappa on judged queries none of them saw.

The peers' three borders between tiers are the best ones on the queries that are not held out. One repeat is one seed:
a shop of its own and a split of its own; of a data folder, a split of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import NOW_MS, Result, finish, parser, row
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


def reports(data: str, quick: bool) -> list[RelevanceReport]:
    """The held-out report of every seed.

    Raises:
        InvalidData: the folder has too few judgments to train on.
    """
    found, encoder = [], SentenceEncoder()
    for seed, world, emb_ND in worlds(data, quick, encoder):
        _, report = RelevanceScorer.train(world.judgments, world.catalogue, emb_ND, encoder, RelevanceSettings(), seed)
        if not report.trained:
            least = RelevanceSettings().min_judgments
            raise InvalidData(data, None, "judgments", report.judgments, f"at least {least}, of 10 queries")
        found.append(report)
    return found


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("relevance", __doc__)
    options.add_argument("--data", default="shop", metavar="PATH", help="a data folder in place of the built-in shop")
    chosen = options.parse_args(arguments)
    found = reports(chosen.data, chosen.quick)
    unit = "held-out quadratic kappa"
    rows = [
        row("BM25", [(r.kappa, r.kappa_bm25) for r in found], "BM25 with best borders", unit, higher_is_better=True),
        row("cosine", [(r.kappa, r.kappa_cosine) for r in found], "cosine with best borders", unit, higher_is_better=True),
    ]
    judged = [r.judgments for r in found]
    error = float(np.median([r.calibration_error for r in found]))
    notes = [
        f"{min(judged)} to {max(judged)} judgments a seed, {found[0].test_judgments} held out of the first",
        f"median calibration error of the confidence {error:.3f}",
    ]
    return finish("relevance", rows, chosen, notes)


if __name__ == "__main__":
    main()
