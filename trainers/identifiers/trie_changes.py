"""Items that came, went or moved since a flat trie was built: a small overlay beside it, never inside it.

An overlay is a value: it is worked out whole from the changed rows, and a reader holds one or the other. That costs time
in proportion to the changes since the last rebuild, whatever the size of the trie. Nodes that the flat trie lacks are numbered
behind its own; nodes that lost their last item are listed. Letters: M changed rows, L levels, K the level's codebook size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from schemas.errors import InvalidValue
from trainers.identifiers.trie_flat import ABSENT, BoolArray, Flat, IntArray


@dataclass(frozen=True, eq=False)
class Changes:
    """Immutable; empty for a trie as it was built."""

    rows_M: IntArray  #: ascending
    sids_ML: IntArray  #: their identifiers now; `ABSENT` in every level: none
    path_ML: IntArray  #: what of them the flat trie has: its node at depth l + 1, -1 where it ends
    left_ML: IntArray  #: the flat trie's nodes above and at the leaf that the row had there, -1 for none
    crowd_ML: IntArray  #: what those nodes hold there: children, at the last level items
    leaf_M: IntArray  #: their leaf now, -1 for none
    keys: tuple[IntArray, ...]  #: per level: parent * K + code of every further node at depth l + 1, ascending
    dead: tuple[IntArray, ...]  #: per level: nodes of the flat trie at depth l + 1 below which no item is left, ascending
    leaf_order_M: IntArray  #: changed rows that have a leaf, as places in ``rows_M``, by leaf and row

    @classmethod
    def none(cls, levels: int) -> Changes:
        """No change."""
        empty, none = np.zeros(0, dtype=np.int64), np.zeros((0, levels), dtype=np.int64)
        return cls(empty, none, none, none, none, empty, (empty,) * levels, (empty,) * levels, empty)

    def __len__(self) -> int:
        return len(self.rows_M)

    def and_then(self, flat: Flat, rows_M: IntArray, sids_ML: IntArray) -> Changes:
        """These changes and more of them; of a row that changed before, the later change counts.

        Raises:
            InvalidValue: a row twice, or a code outside its level.
        """
        if len(np.unique(rows_M)) != len(rows_M):
            raise InvalidValue("rows to change", rows_M.tolist(), "each row once", "send the last change of a row alone")
        keep = ~sorted_place(np.sort(rows_M), self.rows_M)[1]
        before = self.rows_M, self.sids_ML, self.path_ML, self.left_ML, self.crowd_ML
        more = rows_M, sids_ML, _path(flat, rows_M, sids_ML), *_left(flat, rows_M)
        columns = [np.concatenate([old[keep], new]) for old, new in zip(before, more, strict=True)]
        order = np.argsort(columns[0])
        return _settled(flat, *(column[order] for column in columns))

    def place(self, rows_P: IntArray) -> tuple[IntArray, BoolArray]:
        """(place in ``rows_M``, whether the row is changed) of P rows."""
        return sorted_place(self.rows_M, rows_P)


def sorted_place(ascending: IntArray, wanted_P: IntArray) -> tuple[IntArray, BoolArray]:
    """(place, found) of P values; the place of what is not found means nothing."""
    if not len(ascending):
        return np.zeros(wanted_P.shape, dtype=np.int64), np.zeros(wanted_P.shape, dtype=np.bool_)
    at = np.minimum(np.searchsorted(ascending, wanted_P), len(ascending) - 1)
    return at, ascending[at] == wanted_P


def _path(flat: Flat, rows_M: IntArray, sids_ML: IntArray) -> IntArray:
    present_M = (sids_ML != ABSENT).any(axis=1)
    wrong_M = present_M & ((sids_ML < 0) | (sids_ML >= np.asarray(flat.level_sizes))).any(axis=1)
    if wrong_M.any():
        at = int(np.flatnonzero(wrong_M)[0])
        raise InvalidValue(
            f"identifier of row {rows_M[at]}", sids_ML[at].tolist(), f"codes below {flat.level_sizes}", "check the codebook"
        )
    path_ML = np.full(sids_ML.shape, -1, dtype=np.int64)
    alive, node = np.flatnonzero(present_M), np.zeros(int(present_M.sum()), dtype=np.int64)
    for level in range(sids_ML.shape[1]):
        node, found = flat.find(level, node, sids_ML[alive, level])
        alive, node = alive[found], node[found]
        path_ML[alive, level] = node
    return path_ML


def _left(flat: Flat, rows_M: IntArray) -> tuple[IntArray, IntArray]:
    """(nodes, what they hold) [M, L] at and above the leaves that rows have in the flat trie."""
    levels = len(flat.level_sizes)
    left_ML, crowd_ML = (np.full((len(rows_M), levels), -1, dtype=np.int64) for _ in range(2))
    had = np.flatnonzero(rows_M < len(flat.leaf_N))
    had = had[flat.leaf_N[rows_M[had]] >= 0]
    node, start = flat.leaf_N[rows_M[had]].astype(np.int64), flat.item_start
    for level in reversed(range(levels)):
        left_ML[had, level], crowd_ML[had, level] = node, start[node + 1] - start[node]
        start = flat.starts[level]
        node = flat.parent(level + 1, node)
    return left_ML, crowd_ML


def _settled(
    flat: Flat, rows_M: IntArray, sids_ML: IntArray, path_ML: IntArray, left_ML: IntArray, crowd_ML: IntArray
) -> Changes:
    """Number the further nodes from the root down, and find the dead ones from the leaves up."""
    present = np.flatnonzero(sids_ML[:, 0] != ABSENT)
    nodes, keys = [np.zeros(len(present), dtype=np.int64)], []
    for level, size in enumerate(flat.level_sizes):
        node = path_ML[present, level]
        missing = np.flatnonzero(node < 0)
        key = nodes[-1][missing] * size + sids_ML[present[missing], level]
        more = np.unique(key)
        node[missing] = flat.nodes(level + 1) + np.searchsorted(more, key)
        nodes.append(node)
        keys.append(more)
    leaf_M = np.full(len(rows_M), -1, dtype=np.int64)
    leaf_M[present] = nodes[-1]
    order = present[np.argsort(nodes[-1], kind="stable")]
    dead = _dead(left_ML, crowd_ML, nodes[1:])
    return Changes(rows_M, sids_ML, path_ML, left_ML, crowd_ML, leaf_M, tuple(keys), dead, order)


def _dead(left_ML: IntArray, crowd_ML: IntArray, lived_in: list[IntArray]) -> tuple[IntArray, ...]:
    """Per level the flat trie's nodes that lost everything: all items of a leaf, then all children of a node."""
    gone, dead = np.flatnonzero(left_ML[:, -1] >= 0), list[IntArray]()
    for level in reversed(range(left_ML.shape[1])):
        node, at, lost = np.unique(left_ML[gone, level], return_index=True, return_counts=True)
        at = gone[at]
        # A node in which a changed row lives now is alive, whatever it lost.
        empty = (lost == crowd_ML[at, level]) & ~sorted_place(np.sort(lived_in[level]), node)[1]
        dead.append(node[empty])
        gone = at[empty]  # one row stands for each dead node
    return tuple(reversed(dead))
