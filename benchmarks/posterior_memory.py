"""What live pairs cost: bytes in the merger's memory and in a snapshot, time to open one and to look a page up."""

from __future__ import annotations

import tempfile

import numpy as np

from benchmarks.common import seconds
from reward.counts import ROW_BYTES, UNIT, Counts, Rows
from reward.eviction import sweep
from reward.keys import keys, pair_keys
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.posteriors import SnapshotPointer
from schemas.store import Store

#: Items of a page that is looked up.
PAGE = 100


def memory_note(settings: PosteriorSettings, quick: bool) -> str:
    """A line on a million pairs (a fifth of that with ``quick``), each shown at three positions."""
    pairs, now = (200_000 if quick else 1_000_000), 20_000 * 86_400_000
    counts = many(pairs, now, settings)
    rows = len(counts.rows.pair_R)
    data = PosteriorSnapshot.build(counts, now, settings)
    with tempfile.TemporaryDirectory() as folder:
        store = Store(folder)
        store.write("s", data)
        pointer = SnapshotPointer(1, now, "s", PosteriorSnapshot(data).sha256, 0, pairs)
        opened = min(seconds(lambda: PosteriorSnapshot.read(store, pointer)) for _ in range(5))
        snapshot = PosteriorSnapshot.read(store, pointer)
        page = [f"i{n}" for n in range(PAGE)]
        snapshot.ctr("q1", page)
        look = min(seconds(lambda: snapshot.ctr("q1", page)) for _ in range(20))
    half = settings.model_copy(update={"max_pairs": pairs // 2})
    swept = sweep(counts, now, half)
    return (
        f"{pairs:,} live pairs: {rows * ROW_BYTES / pairs:.0f} bytes per pair in memory and state ({rows / pairs:.1f} rows of "
        f"{ROW_BYTES}), {len(data) / pairs:.0f} in a snapshot; it opens in {1e3 * opened:.2f} ms and answers {PAGE} items in "
        f"{1e6 * look:.0f} us; bounded to half, {swept.evicted:,} pairs merged into their items"
    )


def many(pairs: int, now: int, settings: PosteriorSettings) -> Counts:
    """``pairs`` pairs over a twentieth of as many items, each shown once at three positions, a fifth of the showings clicked."""
    rng = np.random.default_rng(1)
    items = keys([f"i{n}" for n in range(max(1, pairs // 20))])
    queries = keys([f"q{n}" for n in range(20)])
    item_R = np.repeat(np.tile(items, len(queries)), 3)
    pair_R = pair_keys(np.repeat(np.repeat(queries, len(items)), 3), item_R)
    bucket = now // (settings.bucket_s * 1_000) - 1
    slot_R = (bucket << 16) + np.tile(np.arange(1, 4), len(item_R) // 3)
    clicks_R = (rng.random(len(item_R)) < 0.2).astype(np.int64)
    counts = Counts()
    examined_R = np.full(len(item_R), UNIT, np.int64)
    counts.merge(Rows(pair_R, item_R, slot_R, examined_R, clicks_R, np.zeros_like(clicks_R)))
    return counts
