"""A trie as flat arrays: what is built once, never changed, and may lie in a mapped file.

The nodes at depth d are the distinct prefixes of length d, numbered 0.. in lexicographic order; depth 0 holds the root
alone and depth L the leaves. So the children of a node are a contiguous range of the next depth, and parents need no array
of their own. ``level`` l (0..L-1) is the token that leads from depth l to depth l + 1. Letters: N items, L levels, P prefixes,
K the level's codebook size.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.sids import pack

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Codes = NDArray[Any]  #: uint8, int16 or int32, whatever holds the level's codes

#: An item whose identifier is this in every level is known but not in the trie.
ABSENT = -1


@dataclass(frozen=True, eq=False)
class Flat:
    """Immutable. Numbers of rows and nodes are int32, half the memory of int64."""

    level_sizes: tuple[int, ...]
    leaf_N: NDArray[np.int32]  #: leaf of every row, -1 where the row is absent
    starts: tuple[NDArray[np.int32], ...]  #: per level: [nodes + 1]; children of p are start[p]:start[p + 1]
    codes: tuple[Codes, ...]  #: per level: token of every node at depth l + 1
    item_start: NDArray[np.int32]  #: [leaves + 1]; items of leaf p are item_rows[start[p]:start[p + 1]]
    item_rows: NDArray[np.int32]
    crowded: tuple[NDArray[np.int32], ...]  #: per level: nodes with so many children that a bitmap is smaller, ascending
    bitmaps: tuple[NDArray[np.uint8], ...]  #: per level: [crowded, bytes] their children, first code in the lowest bit

    @classmethod
    def build(cls, sids_NL: ArrayLike, level_sizes: Sequence[int]) -> Flat:
        """Of N identifiers; a row that is `ABSENT` in every level is left out.

        Raises:
            InvalidValue: as `identifiers`, a code outside its level, or sizes whose product does not fit 63 bits.
        """
        sizes = tuple(int(size) for size in level_sizes)
        sids = identifiers(sids_NL, len(sizes))
        rows = np.flatnonzero(_check(sids, sizes)).astype(np.int32)
        keys = pack(sids, sizes)[rows]
        order = np.argsort(keys, kind="stable")  # stable: items of a leaf stay in row order
        return cls.of_sorted(keys[order], rows[order], len(sids), sizes)

    @classmethod
    def of_sorted(cls, keys: IntArray, rows: NDArray[np.int32], count: int, sizes: tuple[int, ...]) -> Flat:
        """Of identifiers packed by `trainers.identifiers.sids.pack` that ascend, and the rows that have them, of ``count``."""
        # A node is the first row of its run of equal prefixes; a prefix is the key without its last levels' digits.
        # From the leaves up: the keys lose a level's digits at a time, and with them the rows that begin no node.
        first, _ = runs(keys)
        item_start = np.append(first, len(rows)).astype(np.int32)
        leaf = np.full(count, -1, dtype=np.int32)
        leaf[rows] = np.repeat(np.arange(len(first), dtype=np.int32), np.diff(item_start))
        nodes: IntArray = keys[first]
        starts, codes = list[NDArray[np.int32]](), list[Codes]()
        for size in reversed(sizes):
            above = nodes // size
            code = nodes - above * size  # numpy's divmod takes several times as long
            codes.append(code.astype(_code_type(size)))
            first, nodes = runs(above)
            starts.append(np.append(first, len(code)).astype(np.int32))
        if not len(rows):
            starts[-1] = np.zeros(2, dtype=np.int32)  # the root is there, without children
        starts, codes = starts[::-1], codes[::-1]
        plain = cls(sizes, leaf, tuple(starts), tuple(codes), item_start, rows, (), ())
        maps = [plain._bitmaps(level) for level in range(len(sizes))]
        return replace(plain, crowded=tuple(nodes for nodes, _ in maps), bitmaps=tuple(bits for _, bits in maps))

    def nodes(self, depth: int) -> int:
        """How many distinct prefixes of this length there are."""
        return 1 if depth == 0 else len(self.codes[depth - 1])

    def is_crowded(self, level: int, count_P: ArrayLike) -> BoolArray:
        """Whether nodes with so many children have a bitmap: their list of codes would be longer."""
        crowded: BoolArray = np.asarray(count_P) * (8 * self.codes[level].itemsize) > self.level_sizes[level]
        return crowded

    def find(self, level: int, nodes_P: IntArray, codes_P: IntArray) -> tuple[IntArray, BoolArray]:
        """(node at depth ``level`` + 1, found) of P children, by bisection within each node's range."""
        start, codes = self.starts[level], self.codes[level]
        if not len(codes):
            return np.zeros(len(nodes_P), dtype=np.int64), np.zeros(len(nodes_P), dtype=np.bool_)
        low, end = start[nodes_P].astype(np.int64), start[nodes_P + 1].astype(np.int64)
        high = end
        for _ in range(int((end - low).max(initial=0)).bit_length()):
            middle = (low + high) >> 1
            right = (low < high) & (codes[np.minimum(middle, len(codes) - 1)] < codes_P)
            low, high = np.where(right, middle + 1, low), np.where(right, high, middle)
        at = np.minimum(low, len(codes) - 1)
        return at, (low < end) & (codes[at] == codes_P)

    def parent(self, depth: int, nodes_P: ArrayLike) -> IntArray:
        """The nodes at depth ``depth`` - 1 above P nodes at ``depth``."""
        # In the array's own type: otherwise numpy would make a wider copy of the whole array first.
        nodes = np.asarray(nodes_P).astype(np.int32)
        return np.searchsorted(self.starts[depth - 1], nodes, side="right") - 1

    def item_keys(self) -> IntArray:
        """The packed identifier of every entry of ``item_rows``, ascending."""
        keys = np.zeros(1, dtype=np.int64)
        for start, codes, size in zip(self.starts, self.codes, self.level_sizes, strict=True):
            keys = np.repeat(keys * size, np.diff(start))
            keys += codes
        return np.repeat(keys, np.diff(self.item_start))

    @cached_property
    def sids_NL(self) -> NDArray[np.int32]:
        """Identifiers of all rows; `ABSENT` in every level of a row that is not in the trie. Made when first asked for."""
        sids = np.full((len(self.leaf_N), len(self.codes)), ABSENT, dtype=np.int32)
        rows = np.flatnonzero(self.leaf_N >= 0)
        sids[rows] = self.leaf_sids()[self.leaf_N[rows]]
        return sids

    def leaf_sids(self) -> NDArray[np.int32]:
        """Identifiers [leaves, L] of all leaves, in order."""
        sids = np.empty((self.nodes(len(self.codes)), len(self.codes)), dtype=np.int32)
        spread = np.arange(len(sids) + 1)  # first leaf of every node at the depth at hand
        for level in reversed(range(len(self.codes))):
            sids[:, level] = np.repeat(self.codes[level], np.diff(spread))
            spread = spread[self.starts[level]]
        return sids

    def _bitmaps(self, level: int) -> tuple[NDArray[np.int32], NDArray[np.uint8]]:
        """The crowded nodes at depth ``level`` and their children as bits."""
        start, size = self.starts[level], self.level_sizes[level]
        crowded = np.flatnonzero(self.is_crowded(level, np.diff(start)))
        bits = np.zeros((len(crowded), -(-size // 8)), dtype=np.uint8)
        block = max(1, (1 << 24) // size)  # 16 MiB of flags at a time
        for begin in range(0, len(crowded), block):
            part = crowded[begin : begin + block]
            flags = np.zeros((len(part), size), dtype=np.bool_)
            owner, at = ranges(start, part)
            flags[owner, self.codes[level][at]] = True
            bits[begin : begin + block] = np.packbits(flags, axis=1, bitorder="little")
        return crowded.astype(np.int32), bits

    @property
    def nbytes(self) -> int:
        """Bytes of all arrays."""
        parts = (self.leaf_N, self.item_start, self.item_rows, *self.starts, *self.codes, *self.crowded, *self.bitmaps)
        return sum(part.nbytes for part in parts)


def identifiers(sids_NL: ArrayLike, levels: int) -> NDArray[Any]:
    """N identifiers as whole numbers [N, L]; one alone may be flat, and of none the shape does not matter.

    Raises:
        InvalidValue: codes that are no whole numbers, or another number of them.
    """
    sids = np.asarray(sids_NL)
    if not sids.size:
        return np.zeros((0, levels), dtype=np.int64)
    if sids.shape == (levels,):
        sids = sids[None]
    if sids.ndim != 2 or sids.shape[1] != levels or sids.dtype.kind not in "iu":
        bound = f"whole numbers of shape (N, {levels}), a code for each level"
        raise InvalidValue("identifiers", f"{sids.dtype} of shape {sids.shape}", bound, "pass one row an identifier")
    return sids


def within(what: str, numbers_P: ArrayLike, count: int) -> IntArray:
    """Numbers of nodes, leaves or rows, int64 [P].

    Raises:
        InvalidValue: one that is negative, or not below ``count``: numpy would count it from the end, or find others' children.
    """
    numbers = np.asarray(numbers_P, dtype=np.int64)
    if len(numbers) and not (numbers.min() >= 0 and numbers.max() < count):
        wrong = numbers[(numbers < 0) | (numbers >= count)][0]
        raise InvalidValue(what, int(wrong), f"0 to {count - 1}", "use numbers of this very trie")
    return numbers


def ranges(start: NDArray[Any], nodes: IntArray) -> tuple[IntArray, IntArray]:
    """The ranges start[n]:start[n + 1] of P nodes, flat, with the index of each entry's owner."""
    low = start[nodes].astype(np.int64)
    return spans(low, start[nodes + 1] - low)


def spans(low_P: IntArray, count_P: IntArray) -> tuple[IntArray, IntArray]:
    """The ranges low:low + count, flat: (index of the owner, entry)."""
    owner = np.repeat(np.arange(len(low_P)), count_P)
    return owner, np.arange(len(owner)) + np.repeat(low_P - (np.cumsum(count_P) - count_P), count_P)


def _check(sids: NDArray[Any], sizes: tuple[int, ...]) -> BoolArray:
    """Which rows are present; raises on codes out of range."""
    product = 1
    for size in sizes:
        product *= size
    if not sizes or min(sizes) < 1 or product >= 2**63:
        raise InvalidValue("level sizes", sizes, "at least 1 each, with a product below 2**63", "use smaller codebooks")
    present, wrong = np.zeros(len(sids), dtype=np.bool_), np.zeros(len(sids), dtype=np.bool_)
    for level, size in enumerate(sizes):  # by column: flags of all levels at once are five times the memory
        present |= sids[:, level] != ABSENT
        wrong |= (sids[:, level] < 0) | (sids[:, level] >= size)
    if (present & wrong).any():
        row = int(np.flatnonzero(present & wrong)[0])
        raise InvalidValue(f"identifier of row {row}", sids[row].tolist(), f"codes below {sizes}", "check the codebook")
    return present


def runs(ascending: IntArray) -> tuple[IntArray, IntArray]:
    """Where each run of equal values begins, and its value."""
    begins = np.ones(len(ascending), dtype=np.bool_)
    np.not_equal(ascending[1:], ascending[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    return first, ascending[first]


def _code_type(size: int) -> type[np.uint8] | type[np.int16] | type[np.int32]:
    return np.uint8 if size <= 2**8 else np.int16 if size <= 2**15 else np.int32
