"""The trie of the catalogue's identifiers, as flat arrays: which tokens may follow a prefix, which items end there.

The nodes at depth d are the distinct prefixes of length d, numbered 0.. in lexicographic order; depth 0 holds the root
alone and depth L the leaves. So the children of a node are a contiguous range of the next depth. ``level`` l (0..L-1) is
the token that leads from depth l to depth l + 1. Letters: N items, L levels, P prefixes, K the level's codebook size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.errors import InvalidValue

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

#: An item whose identifier is this in every level is known but not in the trie.
ABSENT = -1


@dataclass(frozen=True, eq=False)
class Trie:
    """Immutable. ``sids_NL`` keeps the catalogue's row order; several items may share a leaf."""

    level_sizes: tuple[int, ...]
    sids_NL: NDArray[np.int32]
    leaf_of_item_N: IntArray  #: leaf of every row, -1 where the row is absent
    child_start: tuple[IntArray, ...]  #: per level: [nodes at depth l + 1]; children of p are start[p]:start[p + 1]
    codes: tuple[NDArray[np.int32], ...]  #: per level: token of every node at depth l + 1
    parents: tuple[IntArray, ...]  #: per level: parent (at depth l) of every node at depth l + 1
    item_start: IntArray  #: [leaves + 1]; items of leaf p are item_rows[start[p]:start[p + 1]]
    item_rows: IntArray

    root = 0

    @classmethod
    def build(cls, sids_NL: ArrayLike, level_sizes: Sequence[int]) -> Trie:
        """The trie of N identifiers; a row that is `ABSENT` in every level is left out.

        Raises:
            InvalidValue: a code outside its level, or sizes whose product does not fit 63 bits.
        """
        sizes = tuple(int(size) for size in level_sizes)
        sids = np.ascontiguousarray(sids_NL, dtype=np.int32).reshape(-1, len(sizes))
        present = _check(sids, sizes)
        rows = np.flatnonzero(present)
        keys = _pack(sids[rows], sizes)
        order = np.argsort(keys, kind="stable")  # stable: items of a leaf stay in row order
        rows, keys = rows[order], keys[order]
        # A node is the first row of its run of equal prefixes; a prefix is the key without its last levels' digits.
        below = [1]
        for size in reversed(sizes):
            below.append(below[-1] * size)
        node_of_row = [np.zeros(len(rows), dtype=np.int64)]
        counts = [1]
        starts, codes, parents = [], [], []
        for level in range(len(sizes)):
            prefix = keys // below[len(sizes) - level - 1]
            first = np.flatnonzero(np.diff(prefix, prepend=-1))
            node = np.cumsum(np.diff(prefix, prepend=-1) != 0) - 1
            parent = node_of_row[-1][first]
            starts.append(np.searchsorted(parent, np.arange(counts[-1] + 1)))
            codes.append((prefix[first] % sizes[level]).astype(np.int32))
            parents.append(parent)
            node_of_row.append(node)
            counts.append(len(first))
        leaf = np.full(len(sids), -1, dtype=np.int64)
        leaf[rows] = node_of_row[-1]
        return cls(
            level_sizes=sizes,
            sids_NL=sids,
            leaf_of_item_N=leaf,
            child_start=tuple(starts),
            codes=tuple(codes),
            parents=tuple(parents),
            item_start=np.searchsorted(node_of_row[-1], np.arange(counts[-1] + 1)),
            item_rows=rows,
        )

    def extended(self, sids_ML: ArrayLike) -> Trie:
        """A new trie with M items appended (rows N..N+M-1). Node numbers are the new trie's own."""
        more = np.asarray(sids_ML, dtype=np.int32).reshape(-1, self.levels)
        return Trie.build(np.concatenate([self.sids_NL, more]), self.level_sizes)

    def __len__(self) -> int:
        return len(self.sids_NL)

    @property
    def levels(self) -> int:
        """L, the length of an identifier."""
        return len(self.level_sizes)

    def nodes(self, depth: int) -> int:
        """How many distinct prefixes of this length there are."""
        return 1 if depth == 0 else len(self.codes[depth - 1])

    def allowed_mask(self, level: int, nodes_P: ArrayLike, available: Sequence[BoolArray] | None = None) -> BoolArray:
        """Which tokens of ``level`` may follow: bool [P, K_level] for nodes at depth ``level``.

        ``available`` (from `node_mask`) further keeps only children with an available item below.
        """
        nodes = np.asarray(nodes_P, dtype=np.int64)
        owner, child = self.children(level, nodes)
        if available is not None:
            keep = available[level + 1][child]
            owner, child = owner[keep], child[keep]
        mask = np.zeros((len(nodes), self.level_sizes[level]), dtype=np.bool_)
        mask[owner, self.codes[level][child]] = True
        return mask

    def children(self, level: int, nodes_P: ArrayLike) -> tuple[IntArray, IntArray]:
        """All children of P nodes at depth ``level``, flat: (index into ``nodes_P``, child at depth ``level`` + 1)."""
        return _ranges(self.child_start[level], np.asarray(nodes_P, dtype=np.int64))

    def child(self, level: int, nodes_P: ArrayLike, codes_P: ArrayLike) -> IntArray:
        """The nodes [P] at depth ``level`` + 1 reached from P nodes by P tokens.

        Raises:
            InvalidValue: a token that no child has.
        """
        child, found = self.find_child(level, nodes_P, codes_P)
        if not found.all():
            at = int(np.flatnonzero(~found)[0])
            where = f"token of level {level} after node {np.asarray(nodes_P)[at]}"
            raise InvalidValue(where, np.asarray(codes_P)[at], "a child in the trie", "mask with allowed_mask first")
        return child

    def find_child(self, level: int, nodes_P: ArrayLike, codes_P: ArrayLike) -> tuple[IntArray, BoolArray]:
        """As `child`, but (nodes [P], found [P]); a node that was not found is 0."""
        size = self.level_sizes[level]
        codes = np.asarray(codes_P, dtype=np.int64)
        wanted = np.asarray(nodes_P, dtype=np.int64) * size + codes
        keys = self.parents[level] * size + self.codes[level]
        at = np.minimum(np.searchsorted(keys, wanted), max(len(keys) - 1, 0))
        found = (codes >= 0) & (codes < size) & (keys[at] == wanted) if len(keys) else np.zeros(len(wanted), np.bool_)
        return np.where(found, at, 0), found

    def path(self, sids_PL: ArrayLike) -> IntArray:
        """Nodes along P identifiers: [P, L + 1], column d at depth d, the last one the leaf.

        Raises:
            InvalidValue: an identifier that is not in the trie.
        """
        sids = np.asarray(sids_PL, dtype=np.int64).reshape(-1, self.levels)
        nodes = np.zeros((len(sids), self.levels + 1), dtype=np.int64)
        for level in range(self.levels):
            nodes[:, level + 1] = self.child(level, nodes[:, level], sids[:, level])
        return nodes

    def contains(self, sids_PL: ArrayLike) -> BoolArray:
        """Whether each of P identifiers belongs to an item."""
        sids = np.asarray(sids_PL, dtype=np.int64).reshape(-1, self.levels)
        node = np.zeros(len(sids), dtype=np.int64)
        inside = np.ones(len(sids), dtype=np.bool_)
        for level in range(self.levels):
            node, found = self.find_child(level, node, sids[:, level])
            inside &= found
        return inside

    def items(self, leaf: int) -> IntArray:
        """Rows of the items at one leaf, ascending."""
        return self.item_rows[self.item_start[leaf] : self.item_start[leaf + 1]]

    def items_of(self, leaves_P: ArrayLike) -> tuple[IntArray, IntArray]:
        """Items of P leaves, flat: (index into ``leaves_P``, row)."""
        owner, at = _ranges(self.item_start, np.asarray(leaves_P, dtype=np.int64))
        return owner, self.item_rows[at]

    def node_mask(self, item_mask_N: ArrayLike) -> list[BoolArray]:
        """Which nodes have an available item below: L + 1 bool arrays, entry d for the nodes at depth d."""
        available = np.asarray(item_mask_N, dtype=np.bool_)
        if available.shape != self.leaf_of_item_N.shape:
            raise InvalidValue("item mask's shape", available.shape, str(self.leaf_of_item_N.shape), "pass one flag a row")
        masks = [np.zeros(self.nodes(depth), dtype=np.bool_) for depth in range(self.levels + 1)]
        leaves = self.leaf_of_item_N[available]
        masks[-1][leaves[leaves >= 0]] = True
        for level in reversed(range(self.levels)):
            masks[level][self.parents[level][masks[level + 1]]] = True
        return masks


def _check(sids: NDArray[np.int32], sizes: tuple[int, ...]) -> BoolArray:
    """Which rows are present; raises on codes out of range."""
    product = 1
    for size in sizes:
        product *= size
    if not sizes or min(sizes) < 1 or product >= 2**63:
        raise InvalidValue("level sizes", sizes, "at least 1 each, with a product below 2**63", "use smaller codebooks")
    present: BoolArray = ~(sids == ABSENT).all(axis=1)
    wrong = present[:, None] & ((sids < 0) | (sids >= np.asarray(sizes)))
    if wrong.any():
        row = int(np.flatnonzero(wrong.any(axis=1))[0])
        raise InvalidValue(f"identifier of row {row}", sids[row].tolist(), f"codes below {sizes}", "check the codebook")
    return present


def _pack(sids: NDArray[np.int32], sizes: tuple[int, ...]) -> IntArray:
    """Each identifier as one integer, so that integer order is lexicographic order."""
    key = np.zeros(len(sids), dtype=np.int64)
    for level, size in enumerate(sizes):
        key = key * size + sids[:, level]
    return key


def _ranges(start: IntArray, nodes: IntArray) -> tuple[IntArray, IntArray]:
    """The ranges start[n]:start[n + 1] of P nodes, flat, with the index of each entry's owner."""
    low = start[nodes]
    count = start[nodes + 1] - low
    owner = np.repeat(np.arange(len(nodes)), count)
    offset = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
    return owner, low[owner] + offset
