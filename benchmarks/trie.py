"""The flat trie of 10 million identifiers against a trie of nested dictionaries: building, memory, masks; and changing it.

Ten million nested dictionaries do not fit here: the peer builds 200,000 identifiers, and its time and bytes are multiplied.
For the masks it is given exactly the dictionaries that are asked for, at hand in a list: walking there from the root, as a
`prefix_allowed_tokens_fn` does, would cost it more. Its masks are flags, ours are bits.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from benchmarks.common import LEAST_REPEATS, Result, Row, finish, paired_times, parser, row, scaled, seconds
from trainers.identifiers.settings import adapted_sizes
from trainers.identifiers.trie import MERGE, MERGE_SHARE, Trie
from trainers.identifiers.trie_file import open_trie, save

PEER = "dict of dicts"
PREFIXES = 4_096
#: Identifiers that the peer is built of.
BEARABLE = 200_000

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def make_sids(count: int, sizes: Sequence[int], seed: int) -> NDArray[np.int16]:
    """Identifiers [N, L] whose tokens are drawn with Zipf's law, so that prefixes are shared as in a catalogue."""
    rng = np.random.default_rng(seed)
    sids_NL = np.empty((count, len(sizes)), dtype=np.int16)
    for level, size in enumerate(sizes):
        share_K = np.arange(1.0, size + 1) ** -0.7
        below_K = np.cumsum(share_K / share_K.sum())
        sids_NL[:, level] = np.minimum(np.searchsorted(below_K, rng.random(count)), size - 1)
    return sids_NL


def nested(sids: Sequence[Sequence[int]]) -> dict[int, Any]:
    """Dictionaries of dictionaries; the last ones hold lists of rows."""
    root: dict[int, Any] = {}
    for n, sid in enumerate(sids):
        node = root
        for code in sid[:-1]:
            node = node.setdefault(code, {})
        node.setdefault(sid[-1], []).append(n)
    return root


def nested_bytes(node: dict[int, Any] | list[int]) -> int:
    """Bytes of the dictionaries and lists, the numbers in them left out."""
    below = sum(map(nested_bytes, node.values())) if isinstance(node, dict) else 0
    return sys.getsizeof(node) + below


def nested_mask(nodes: Sequence[dict[int, Any]], size: int) -> Bools:
    """Allowed tokens [P, K] of P nodes."""
    mask_PK = np.zeros((len(nodes), size), dtype=np.bool_)
    for n, node in enumerate(nodes):
        mask_PK[n, list(node)] = True
    return mask_PK


def mask_rows(trie: Trie, sids: NDArray[np.int16], repeats: int) -> list[Row]:
    """One row a level: prefixes of identifiers drawn at random, so popular ones come more often."""
    nodes_PL = trie.path(sids)
    rows = []
    for level, size in enumerate(trie.level_sizes):
        nodes: Ints = np.ascontiguousarray(nodes_PL[:, level])
        owner, child = trie.children(level, nodes)
        parts = np.split(trie.codes_of(level, child), np.cumsum(np.bincount(owner, minlength=len(nodes)))[:-1])
        dicts = [dict.fromkeys(codes.tolist()) for codes in parts]
        if not np.array_equal(trie.packed_mask(level, nodes), np.packbits(nested_mask(dicts, size), 1, "little")):
            raise AssertionError(f"the masks of level {level + 1} differ")

        def flat(level: int = level, nodes: Ints = nodes) -> NDArray[np.uint8]:
            return trie.packed_mask(level, nodes)

        def peer(dicts: list[dict[int, None]] = dicts, size: int = size) -> Bools:
            return nested_mask(dicts, size)

        pairs = scaled(paired_times(flat, peer, repeats, calls=5), 1e3)
        rows.append(row(f"{PREFIXES} prefixes, level {level + 1} of {trie.levels}", pairs, PEER, "ms"))
    return rows


def memory_row(amount: str, path: Path, peer_mb: float, peer_name: str, repeats: int) -> Row:
    """What mapping the file adds to this process, every page of it touched by the check."""
    resident = psutil.Process().memory_info
    pairs = []
    for _ in range(max(repeats, 5)):
        before = resident().rss
        trie = open_trie(path)
        pairs.append(((resident().rss - before) / 1e6, peer_mb))
        del trie
    return row(f"{amount} memory", pairs, peer_name, "MB")


def change_rows(trie: Trie, amount: str, build: Sequence[tuple[float, float]]) -> Iterator[Row]:
    """Items added and removed one after the other, up to where `Trie.tidied` builds anew; its time is shared out to the changes."""
    rng, most, last = np.random.default_rng(3), max(MERGE, int(len(trie) * MERGE_SHARE)), trie
    times = dict[str, list[float]](add=[], remove=[])
    for n, gone in enumerate(rng.permutation(len(trie))[:most]):
        case, sid = ("add", "remove")[n % 2], rng.integers(0, trie.level_sizes, (1, trie.levels))
        started = time.perf_counter()
        last = last.extended(sid) if case == "add" else last.without([gone])
        times[case].append(1e3 * (time.perf_counter() - started))
    anew_ms, merging_ms = 1e3 * statistics.median(anew for anew, _ in build), 1e3 * seconds(last.merged) / most
    for case, taken in times.items():
        parts = [taken[n::LEAST_REPEATS] for n in range(LEAST_REPEATS)]  # each over the whole course
        pairs = [(float(np.mean(part)) + merging_ms, anew_ms) for part in parts]
        yield row(f"{amount} {case} one item, merging shared out", pairs, "building anew", "ms")
        worst = [(float(np.quantile(part, 0.99)), anew_ms) for part in parts]
        yield row(f"{amount} {case} one item, 99th percentile", worst, "building anew", "ms")


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("trie", __doc__)
    options.add_argument("--sids", type=int, default=10_000_000, help="identifiers in the trie")
    chosen = options.parse_args(arguments)
    repeats = 5 if chosen.quick else 11
    sizes, few = adapted_sizes(chosen.sids), min(BEARABLE, chosen.sids)
    sids_NL = make_sids(chosen.sids, sizes, seed=1)
    as_lists, times = sids_NL[:few].tolist(), chosen.sids / few
    amount, peer = short(chosen.sids), PEER if times == 1 else f"{PEER}, {short(few)} x {times:g}"
    peer_mb = nested_bytes(nested(as_lists)) / 1e6 * times
    build = paired_times(lambda: Trie.build(sids_NL, sizes), lambda: nested(as_lists), 5)
    rows = [row(f"{amount} build", [(ours, theirs * times) for ours, theirs in build], peer, "s")]
    trie = Trie.build(sids_NL, sizes)
    asked = sids_NL[np.random.default_rng(2).integers(0, chosen.sids, PREFIXES)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.trie"
        save(trie, path)
        rows.append(memory_row(amount, path, peer_mb, peer, repeats))
        del trie
        trie = open_trie(path)
        rows += mask_rows(trie, asked, repeats)
        rows += change_rows(trie, amount, build)
        masks = [seconds(lambda n=n: trie.node_mask_of(np.arange(0, len(trie), len(trie) // n))) for n in (2_000, len(trie))]
    note = f"level sizes {'/'.join(map(str, sizes))}, {trie.nodes(trie.levels)} leaves, one thread; all masks agree."
    filters = "A request's filter over the whole trie: {:.1f} ms for 2,000 items, {:.0f} ms for all.".format(
        *(1e3 * m for m in masks)
    )
    return finish("trie", rows, chosen, [note, filters])


def short(count: int) -> str:
    """10000000: 10M; 3000: 3k."""
    for unit, name in ((1_000_000, "M"), (1_000, "k")):
        if count % unit == 0:
            return f"{count // unit}{name}"
    return str(count)


if __name__ == "__main__":
    main()
