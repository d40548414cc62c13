"""The flat trie against a trie of nested dictionaries: the mask of allowed tokens, and building.

The dictionaries are given the node of every prefix, as the flat trie is: walking there from the root for every prefix,
as a `prefix_allowed_tokens_fn` does, would cost them more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.common import Result, Row, finish, paired_times, parser, row, scaled
from trainers.identifiers.settings import adapted_sizes
from trainers.identifiers.trie import Trie

PEER = "dict of dicts"

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]


def make_sids(count: int, sizes: Sequence[int], seed: int) -> NDArray[np.int32]:
    """Identifiers [N, L] whose tokens are drawn with Zipf's law, so that prefixes are shared as in a catalogue."""
    rng = np.random.default_rng(seed)
    columns = []
    for size in sizes:
        share_K = np.arange(1.0, size + 1) ** -0.7
        columns.append(rng.choice(size, count, p=share_K / share_K.sum()))
    return np.stack(columns, axis=1).astype(np.int32)


def nested(sids: Sequence[Sequence[int]]) -> dict[int, Any]:
    """Dictionaries of dictionaries; the last ones hold lists of rows."""
    root: dict[int, Any] = {}
    for n, sid in enumerate(sids):
        node = root
        for code in sid[:-1]:
            node = node.setdefault(code, {})
        node.setdefault(sid[-1], []).append(n)
    return root


def nested_mask(nodes: Sequence[dict[int, Any]], size: int) -> Bools:
    """Allowed tokens [P, K] of P nodes."""
    mask_PK = np.zeros((len(nodes), size), dtype=np.bool_)
    for n, node in enumerate(nodes):
        mask_PK[n, list(node)] = True
    return mask_PK


def find(root: dict[int, Any], prefix: Sequence[int]) -> dict[int, Any]:
    """The dictionary at the end of a prefix."""
    for code in prefix:
        root = root[code]
    return root


def mask_rows(trie: Trie, root: dict[int, Any], prefixes: int, repeats: int) -> list[Row]:
    """One row a level: prefixes of identifiers drawn at random, so popular ones come more often."""
    sids = trie.sids_NL[np.random.default_rng(2).integers(0, len(trie), prefixes)]
    nodes_PL = trie.path(sids)
    rows = []
    for level, size in enumerate(trie.level_sizes):
        nodes: Ints = nodes_PL[:, level]
        dicts = [find(root, prefix) for prefix in sids[:, :level].tolist()]
        if not np.array_equal(trie.allowed_mask(level, nodes), nested_mask(dicts, size)):
            raise AssertionError(f"the masks of level {level + 1} differ")

        def flat(level: int = level, nodes: Ints = nodes) -> Bools:
            return trie.allowed_mask(level, nodes)

        def peer(dicts: list[dict[int, Any]] = dicts, size: int = size) -> Bools:
            return nested_mask(dicts, size)

        pairs = scaled(paired_times(flat, peer, repeats, calls=5), 1e3)
        rows.append(row(f"allowed mask, {prefixes} prefixes, level {level + 1} of {trie.levels}", pairs, PEER, "ms"))
    return rows


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("trie", __doc__)
    options.add_argument("--sids", type=int, default=200_000, help="identifiers in the trie")
    chosen = options.parse_args(arguments)
    repeats = 5 if chosen.quick else 11
    sizes = adapted_sizes(chosen.sids)
    sids_NL = make_sids(chosen.sids, sizes, seed=1)
    as_lists = sids_NL.tolist()
    trie, root = Trie.build(sids_NL, sizes), nested(as_lists)
    rows = mask_rows(trie, root, 4096, repeats)
    del root
    build = paired_times(lambda: Trie.build(sids_NL, sizes), lambda: nested(as_lists), min(repeats, 7))
    amount = f"{chosen.sids // 1000}k" if chosen.sids % 1000 == 0 else str(chosen.sids)
    rows.append(row(f"build, {amount} SIDs", scaled(build, 1e3), PEER, "ms"))
    note = f"level sizes {'/'.join(map(str, sizes))}, {trie.nodes(trie.levels)} leaves, one thread; all masks agree."
    return finish("trie", rows, chosen, [note])


if __name__ == "__main__":
    main()
