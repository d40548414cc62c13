"""The trie of the catalogue's identifiers: which tokens may follow a prefix, which items end there.

A `Flat` trie of arrays, and beside it the `Changes` since it was built. Both are values: adding or removing items makes a
new trie that shares the arrays, so a reader never meets a half-made change. Nodes at a depth have numbers of their own trie,
0 .. `nodes` - 1; the root is 0. Letters: N items, L levels, P prefixes, K the level's codebook size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.errors import InvalidValue
from trainers.identifiers import trie_bits
from trainers.identifiers.trie_changes import Changes, sorted_place
from trainers.identifiers.trie_flat import ABSENT, BoolArray, Flat, IntArray, identifiers, ranges, spans, within

__all__ = ["ABSENT", "Trie"]

#: Changes beside the flat trie after which `tidied` builds it anew: so many, or this share of the items. A change takes time in
#: proportion to those before it, building anew in proportion to the items: at this share each change's part of either is small.
MERGE, MERGE_SHARE = 1_000, 1 / 2_000

#: Share of a depth's nodes up to which a mask climbs node by node.
_FEW = 1 / 16


@dataclass(frozen=True, eq=False)
class Trie:
    """Immutable. Rows are the catalogue's; several items may share a leaf. A number of a row or node that is not there is an `InvalidValue`."""

    flat: Flat
    changes: Changes

    root = 0

    @classmethod
    def build(cls, sids_NL: ArrayLike, level_sizes: Sequence[int]) -> Trie:
        """The trie of N identifiers; a row that is `ABSENT` in every level is left out.

        Raises:
            InvalidValue: a code outside its level, or sizes whose product does not fit 63 bits.
        """
        return cls.of(Flat.build(sids_NL, level_sizes))

    @classmethod
    def of(cls, flat: Flat) -> Trie:
        """A flat trie as it is."""
        return cls(flat, Changes.none(len(flat.level_sizes)))

    def changed(self, rows_M: ArrayLike, sids_ML: ArrayLike) -> Trie:
        """A new trie in which M rows have these identifiers: new rows (N, N + 1, ...), moved ones, removed ones (`ABSENT`).

        Takes time in proportion to the changes since the trie was built; `tidied` keeps those few.

        Raises:
            InvalidValue: a row twice, a gap behind the last row, or a code outside its level.
        """
        rows = np.asarray(rows_M, dtype=np.int64).reshape(-1)
        sids = identifiers(sids_ML, self.levels).astype(np.int64, copy=False)
        if len(sids) != len(rows):
            raise InvalidValue("number of identifiers", len(sids), f"{len(rows)}, one a row", "pass as many of both")
        fresh = np.sort(rows[rows >= len(self)])
        if len(rows) and (rows.min() < 0 or not np.array_equal(fresh, len(self) + np.arange(len(fresh)))):
            bound = f"0 to {len(self) - 1}, or {len(self)} and on without a gap"
            raise InvalidValue("rows to change", rows.tolist(), bound, "number new items behind the last one")
        return Trie(self.flat, self.changes.and_then(self.flat, rows, sids))

    def extended(self, sids_ML: ArrayLike) -> Trie:
        """A new trie with M items appended (rows N..N+M-1)."""
        sids = identifiers(sids_ML, self.levels)
        return self.changed(np.arange(len(self), len(self) + len(sids)), sids)

    def without(self, rows_M: ArrayLike) -> Trie:
        """A new trie in which M rows are absent; rows keep their numbers."""
        rows = np.asarray(rows_M, dtype=np.int64)
        return self.changed(rows, np.full((len(rows), self.levels), ABSENT))

    def merged(self) -> Trie:
        """The same identifiers built anew, without changes beside them; itself when there are none."""
        return Trie.of(self.changes.merged(self.flat)) if len(self.changes) else self

    def tidied(self) -> Trie:
        """`merged` when there are many changes, else itself: what to keep where changes go on coming."""
        return self.merged() if len(self.changes) > max(MERGE, len(self) * MERGE_SHARE) else self

    def __len__(self) -> int:
        return max(len(self.flat.leaf_N), self.changes.last_row + 1)

    @property
    def level_sizes(self) -> tuple[int, ...]:
        """K of every level."""
        return self.flat.level_sizes

    @property
    def levels(self) -> int:
        """L, the length of an identifier."""
        return len(self.level_sizes)

    @property
    def empty(self) -> bool:
        """Whether no item is in it."""
        return self.nodes(self.levels) == len(self.changes.dead[-1])

    def nodes(self, depth: int) -> int:
        """How many node numbers there are at a depth: its distinct prefixes, and those that lost their last item."""
        return self.flat.nodes(depth) + (len(self.changes.keys[depth - 1]) if depth else 0)

    def packed_mask(self, level: int, nodes_P: ArrayLike) -> NDArray[np.uint8]:
        """Which tokens of ``level`` may follow, as bits: uint8 [P, ceil(K / 8)], the first code in the lowest bit."""
        return trie_bits.packed_mask(self.flat, self.changes, level, self._nodes(level, nodes_P))

    def allowed_mask(self, level: int, nodes_P: ArrayLike, available: Sequence[BoolArray] | None = None) -> BoolArray:
        """Which tokens of ``level`` may follow: bool [P, K_level] for nodes at depth ``level``.

        ``available`` (from `node_mask`) further keeps only children with an available item below.
        """
        nodes, size = self._nodes(level, nodes_P), self.level_sizes[level]
        if available is None:
            return np.unpackbits(self.packed_mask(level, nodes), axis=1, count=size, bitorder="little").view(np.bool_)
        owner, child = self.children(level, nodes)
        keep = available[level + 1][child]
        mask = np.zeros((len(nodes), size), dtype=np.bool_)
        mask[owner[keep], self.codes_of(level, child[keep])] = True
        return mask

    def children(self, level: int, nodes_P: ArrayLike) -> tuple[IntArray, IntArray]:
        """All children of P nodes at depth ``level``, flat: (index into ``nodes_P``, child at depth ``level`` + 1)."""
        nodes, base = self._nodes(level, nodes_P), self.flat.nodes(level)
        if not len(self.changes):
            return ranges(self.flat.starts[level], nodes)
        inside = np.flatnonzero(nodes < base)
        owner, child = ranges(self.flat.starts[level], nodes[inside])
        alive = ~sorted_place(self.changes.dead[level], child)[1]
        parents = self.changes.keys[level] // self.level_sizes[level]
        low = np.searchsorted(parents, nodes)
        further, at = spans(low, np.searchsorted(parents, nodes, side="right") - low)
        owner, child = (
            np.concatenate([inside[owner[alive]], further]),
            np.concatenate([child[alive], self.flat.nodes(level + 1) + at]),
        )
        order = np.argsort(owner, kind="stable")
        return owner[order], child[order]

    def parents(self, level: int, nodes_P: IntArray) -> IntArray:
        """The nodes [P] at depth ``level`` above P nodes one deeper."""
        base = self.flat.nodes(level + 1)
        further = nodes_P >= base
        parents = self.flat.parent(level + 1, nodes_P)
        parents[further] = self.changes.keys[level][nodes_P[further] - base] // self.level_sizes[level]
        return parents

    def codes_of(self, level: int, children_P: IntArray) -> IntArray:
        """The tokens of ``level`` that lead to P nodes at depth ``level`` + 1."""
        base = self.flat.nodes(level + 1)
        codes = self.flat.codes[level][np.minimum(children_P, base - 1)].astype(np.int64) if base else children_P.copy()
        further = children_P >= base
        codes[further] = self.changes.keys[level][children_P[further] - base] % self.level_sizes[level]
        return codes

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
        nodes, codes = np.asarray(nodes_P, dtype=np.int64), np.asarray(codes_P, dtype=np.int64)
        base, size = self.flat.nodes(level), self.level_sizes[level]
        at, found = self.flat.find(level, np.minimum(nodes, max(base - 1, 0)), codes)
        found &= (nodes >= 0) & (nodes < base)
        if len(self.changes):
            found &= ~sorted_place(self.changes.dead[level], at)[1]
            further, more = sorted_place(self.changes.keys[level], nodes * size + codes)
            more &= (codes >= 0) & (codes < size)
            at, found = np.where(more, self.flat.nodes(level + 1) + further, at), found | more
        return np.where(found, at, 0), found

    def path(self, sids_PL: ArrayLike) -> IntArray:
        """Nodes along P identifiers: [P, L + 1], column d at depth d, the last one the leaf.

        Raises:
            InvalidValue: an identifier that is not in the trie.
        """
        sids = identifiers(sids_PL, self.levels)
        nodes = np.zeros((len(sids), self.levels + 1), dtype=np.int64)
        for level in range(self.levels):
            nodes[:, level + 1] = self.child(level, nodes[:, level], sids[:, level])
        return nodes

    def contains(self, sids_PL: ArrayLike) -> BoolArray:
        """Whether each of P identifiers belongs to an item."""
        sids = identifiers(sids_PL, self.levels)
        node, inside = np.zeros(len(sids), dtype=np.int64), np.ones(len(sids), dtype=np.bool_)
        for level in range(self.levels):
            node, found = self.find_child(level, node, sids[:, level])
            inside &= found
        return inside

    def items(self, leaf: int) -> IntArray:
        """Rows of the items at one leaf, ascending."""
        return self.items_of([leaf])[1]

    def items_of(self, leaves_P: ArrayLike) -> tuple[IntArray, IntArray]:
        """Items of P leaves, flat: (index into ``leaves_P``, row)."""
        leaves, base, changes = self._nodes(self.levels, leaves_P), self.flat.nodes(self.levels), self.changes
        inside = np.flatnonzero(leaves < base)
        owner, at = ranges(self.flat.item_start, leaves[inside])
        owner, rows = inside[owner], self.flat.item_rows[at].astype(np.int64)
        if not len(changes):
            return owner, rows
        stay = ~changes.place(rows)[1]
        moved = changes.leaf_M[changes.leaf_order_M]
        low = np.searchsorted(moved, leaves)
        further, at = spans(low, np.searchsorted(moved, leaves, side="right") - low)
        owner = np.concatenate([owner[stay], further])
        rows = np.concatenate([rows[stay], changes.rows_M[changes.leaf_order_M[at]]])
        order = np.lexsort((rows, owner))
        return owner[order], rows[order]

    def leaf_of(self, rows_P: ArrayLike) -> IntArray:
        """The leaf of each of P rows, -1 where the row is absent."""
        rows = within("row", rows_P, len(self))
        if not len(self.changes):
            return self.flat.leaf_N[rows].astype(np.int64)
        place, changed = self.changes.place(rows)
        base = self.flat.leaf_N[np.minimum(rows, len(self.flat.leaf_N) - 1)] if len(self.flat.leaf_N) else rows
        return np.where(changed, self.changes.leaf_M[place], base).astype(np.int64)

    @cached_property
    def leaf_of_item_N(self) -> IntArray:
        """`leaf_of` every row."""
        return self.leaf_of(np.arange(len(self)))

    @cached_property
    def sids_NL(self) -> NDArray[np.int32]:
        """`sids_of` every row."""
        return self.sids_of(np.arange(len(self)))

    def sids_of(self, rows_P: ArrayLike) -> NDArray[np.int32]:
        """Identifiers [P, L] of P rows, int32; `ABSENT` in every level of a row that is not in the trie."""
        rows, known = within("row", rows_P, len(self)), self.flat.sids_NL
        if not len(self.changes):
            return known[rows]
        place, changed = self.changes.place(rows)
        sids = np.empty((len(rows), self.levels), dtype=np.int32)
        sids[~changed], sids[changed] = known[rows[~changed]], self.changes.sids_ML[place[changed]]
        return sids

    def node_mask(self, item_mask_N: ArrayLike) -> list[BoolArray]:
        """Which nodes have an available item below: L + 1 bool arrays, entry d for the nodes at depth d."""
        available = np.asarray(item_mask_N, dtype=np.bool_)
        if available.shape != (len(self),):
            raise InvalidValue("item mask's shape", available.shape, str((len(self),)), "pass one flag a row")
        return self.node_mask_of(np.flatnonzero(available))

    def node_mask_of(self, rows_P: ArrayLike) -> list[BoolArray]:
        """As `node_mask`, for the rows that are available; few rows touch little memory, however large the trie."""
        masks = [np.zeros(self.nodes(depth), dtype=np.bool_) for depth in range(self.levels + 1)]
        leaves = self.leaf_of(rows_P)
        on = leaves[leaves >= 0]
        masks[-1][on] = True
        for level in reversed(range(self.levels)):
            on = self._climb(level, on, masks[level + 1], masks[level])
        return masks

    def _nodes(self, depth: int, nodes_P: ArrayLike) -> IntArray:
        return within(f"node at depth {depth}", nodes_P, self.nodes(depth))

    def _climb(self, level: int, on: IntArray, below: BoolArray, above: BoolArray) -> IntArray:
        """Mark in ``above`` the parents of the nodes that are ``on`` in ``below``; returns them."""
        base = self.flat.nodes(level + 1)
        if not base or len(on) < _FEW * base:
            parents = np.unique(self.parents(level, on))
            above[parents] = True
            return parents
        above[: self.flat.nodes(level)] = np.logical_or.reduceat(below[:base], self.flat.starts[level][:-1])
        above[self.parents(level, base + np.flatnonzero(below[base:]))] = True
        return np.flatnonzero(above)
