"""The relevance scorer against BM25 and the embeddings' cosine: quadratic kappa on judged queries none of them saw.

Cases `BM25` and `cosine` are of the built-in shop, simulated judgments; those that a folder's name follows are of the human
judgments in it. The peers' three borders between tiers are the best ones on the queries that are not held out. One repeat is one
seed: a shop of its own and a split of its own; of a folder, a split of its own. The cases `scoring` hold the speed of batches against
what is required of it. The notes give each seed's gain with its 95 % interval (queries resampled, both sides from one draw),
calibration, and the confusion of tiers on what is held out. A quick run takes small shops and leaves the folder out.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from benchmarks.common import LEAST_REPEATS, NOW_MS, Result, Row, finish, parser, row
from headrace.adapters.opening import open_world
from headrace.relevance_work import Labelled, embedded, open_labelled
from headrace.settings import Settings
from headrace.shop.settings import ShopSettings
from reward.encoder import SentenceEncoder
from reward.relevance import RelevanceScorer
from reward.relevance_report import RelevanceReport
from reward.relevance_training import too_few
from reward.settings import RelevanceSettings
from schemas.store import Store

SEEDS = (7, 8, 9, 10, 11)
#: Items of a shop with --quick.
QUICK_ITEMS = 500
#: Pairs of a batch, and items of a page.
BATCH, PAGE = 20_000, 10
#: Pairs that a core has to score in a second, in batches.
REQUIRED = 20_000
#: Where the judgments of the home improvement shop are looked for.
HOMEDEPOT = Path("../shared/data/homedepot_search")

Embeddings = NDArray[np.float32]


def shops(quick: bool, encoder: SentenceEncoder) -> Iterator[tuple[Labelled, Embeddings]]:
    """A shop for each seed, and its item_emb_ND."""
    for seed in SEEDS:
        world = open_world("shop", ShopSettings(), NOW_MS, seed, items=QUICK_ITEMS if quick else None)
        yield Labelled(world.catalogue, world.judgments, ()), encoder.encode(world.catalogue.titles)


def folder(path: Path, encoder: SentenceEncoder, store: Store) -> Iterator[tuple[Labelled, Embeddings]]:
    """The same data for each seed, embedded once; the embeddings stay in the store."""
    labelled = open_labelled(str(path), Settings(), NOW_MS, SEEDS[0])
    emb_ND = embedded(labelled.catalogue, encoder, store, lambda done, of: None)
    yield from ((labelled, emb_ND) for _ in SEEDS)


class Measured(NamedTuple):
    """Of one seed: the report on held-out queries, that on those the data keep apart, and pairs/s of CPU time in batches across
    queries and in pages of one query.
    """

    report: RelevanceReport
    apart: RelevanceReport | None
    batch: float
    page: float


def measure(given: Iterator[tuple[Labelled, Embeddings]], encoder: SentenceEncoder) -> list[Measured]:
    """Every seed's scorer.

    Raises:
        InvalidData: there are too few judgments to train on.
    """
    found = []
    for seed, (labelled, emb_ND) in zip(SEEDS, given, strict=True):
        settings = RelevanceSettings()
        scorer, report = RelevanceScorer.train(labelled.judgments, labelled.catalogue, emb_ND, encoder, settings, seed)
        if not report.trained:
            raise too_few(report.judgments, settings)
        apart = scorer.measure(labelled.held_out) if labelled.held_out else None
        queries = sorted({judgment.query for judgment in labelled.judgments})
        found.append(Measured(report, apart, *speed(scorer, queries, len(labelled.catalogue), seed)))
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


def rows_of(found: Sequence[Measured], data: str, name: str) -> list[Row]:
    """``data``: what was judged; ``name`` ends the cases' names."""
    made = [m.report for m in found]
    unit = f"held-out quadratic kappa, {data}"
    speeds = [(m.batch, REQUIRED) for m in found]
    return [
        row(f"BM25{name}", [(r.kappa, r.kappa_bm25) for r in made], "BM25 with best borders", unit, higher_is_better=True),
        row(
            f"cosine{name}",
            [(r.kappa, r.kappa_cosine) for r in made],
            "cosine with best borders",
            unit,
            higher_is_better=True,
        ),
        row(f"scoring{name}", speeds, f"required {REQUIRED:,}", f"pairs/s/core, {data}", higher_is_better=True),
    ]


def notes_of(found: Sequence[Measured], data: str) -> Iterator[str]:
    """How sure the kappas are, and where the tiers go wrong."""
    judged = [m.report.judgments for m in found]
    yield f"{data}: {min(judged):,} to {max(judged):,} judgments a seed, {found[0].report.test_judgments:,} held out of the first"
    for seed, m in zip(SEEDS, found, strict=True):
        yield f"seed {seed}: {_agreement(m.report)}"
        if m.apart is not None:
            yield f"  on the {m.apart.test_judgments:,} judgments that the data keep apart: {_agreement(m.apart)}"
    yield from _confusion(found[0].apart or found[0].report)
    yield (
        f"pairs/s/core, vectors cached: {np.median([m.batch for m in found]):,.0f} in batches of {BATCH:,} across queries, "
        f"{np.median([m.page for m in found]):,.0f} in pages of {PAGE}"
    )


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("relevance", __doc__)
    options.add_argument(
        "--data", type=Path, default=HOMEDEPOT, metavar="PATH", help=f"a folder of judgments; default: {HOMEDEPOT}"
    )
    options.add_argument("--store", metavar="URL", help="keep the embeddings of its titles here, for the next run")
    chosen = options.parse_args(arguments)
    encoder = SentenceEncoder()
    with threadpool_limits(1), TemporaryDirectory() as scratch:
        found = measure(shops(chosen.quick, encoder), encoder)
        rows, notes = rows_of(found, "built-in shop", ""), [*notes_of(found, "built-in shop")]
        if chosen.quick or not (chosen.data / "judgments.parquet").is_file():
            notes.append(
                f"{chosen.data} is not measured: {'a quick run leaves it out' if chosen.quick else 'it is not there'}"
            )
        else:
            found, data = measure(folder(chosen.data, encoder, Store(chosen.store or scratch)), encoder), chosen.data.name
            rows += rows_of(found, data, f" {data.partition('_')[0]}")
            notes += notes_of(found, data)
    return finish("relevance", rows, chosen, notes)


def _agreement(r: RelevanceReport) -> str:
    return (
        f"kappa {r.kappa:.3f}, less BM25's {r.kappa_bm25:.3f} {_interval(r.gain_bm25)}, less cosine's {r.kappa_cosine:.3f} "
        f"{_interval(r.gain_cosine)}, accuracy {r.accuracy:.3f}, ECE {r.calibration_error:.3f}, of the tiers "
        f"{r.tier_calibration_error:.3f}"
    )


def _confusion(r: RelevanceReport) -> Iterator[str]:
    """A line for each tier that judges gave."""
    yield "confusion, the first seed's; rows: judges said, columns: the scorer said 0, 1, 2, 3"
    for tier, counts in enumerate(r.confusion):
        yield f"  {tier}: " + " ".join(f"{count:7,}" for count in counts)


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"


if __name__ == "__main__":
    main()
