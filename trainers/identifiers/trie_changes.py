"""Items that came, went or moved since a flat trie was built: a small overlay beside it, never inside it.

An overlay is a value: it is worked out whole from the changed rows, and a reader holds one or the other. The rows stand in the
order of their identifiers, so that this takes a few passes and no sorting: time in proportion to the changes since the last
rebuild, some tens of nanoseconds each, whatever the size of the trie. Nodes that the flat trie lacks are numbered behind its own;
nodes that lost their last item are listed. Letters: M changed rows, Q those of them that the flat trie has, L levels, K the
level's codebook size.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from trainers.identifiers.sids import pack
from trainers.identifiers.trie_flat import ABSENT, BoolArray, Flat, IntArray, runs, spans


@dataclass(frozen=True, eq=False)
class Changes:
    """Immutable; empty for a trie as it was built."""

    rows_M: IntArray  #: in the order of their identifiers, those without one first
    key_M: IntArray  #: their identifiers now, packed; `ABSENT`: none
    sids_ML: IntArray
    path_ML: IntArray  #: what of them the flat trie has: its node at depth l + 1, -1 where it ends
    left_QL: IntArray  #: the flat trie's nodes above and at the leaf that a row had there, by leaf
    crowd_QL: IntArray  #: what those nodes hold there: children, at the last level items
    leaf_M: IntArray  #: their leaf now, -1 for none
    keys: tuple[IntArray, ...]  #: per level: parent * K + code of every further node at depth l + 1, ascending
    dead: tuple[IntArray, ...]  #: per level: nodes of the flat trie at depth l + 1 below which no item is left, ascending
    row_order_M: IntArray  #: places in ``rows_M`` by row
    leaf_order_M: IntArray  #: places in ``rows_M`` of those that have a leaf, by leaf

    @classmethod
    def none(cls, levels: int) -> Changes:
        """No change."""
        one, two = np.zeros(0, dtype=np.int64), np.zeros((0, levels), dtype=np.int64)
        return cls(one, one, two, two, two, two, one, (one,) * levels, (one,) * levels, one, one)

    def __len__(self) -> int:
        return len(self.rows_M)

    @property
    def last_row(self) -> int:
        """The largest changed row, -1 without any."""
        return int(self.rows_M[self.row_order_M[-1]]) if len(self) else -1

    def and_then(self, flat: Flat, rows_M: IntArray, sids_ML: IntArray) -> Changes:
        """These changes and more of them; of a row that changed before, the later change counts.

        Raises:
            InvalidValue: a row twice, or a code outside its level.
        """
        again = np.sort(rows_M)
        if (again[1:] == again[:-1]).any():
            raise InvalidValue("rows to change", rows_M.tolist(), "each row once", "send the last change of a row alone")
        key_M = _keys(flat, rows_M, sids_ML)
        order = np.argsort(key_M)
        rows_M, key_M, sids_ML = rows_M[order], key_M[order], sids_ML[order]
        keep = ~sorted_place(again, self.rows_M)[1]
        at = np.searchsorted(self.key_M[keep], key_M)
        columns = (
            (self.rows_M, rows_M), (self.key_M, key_M), (self.sids_ML, sids_ML),
            (self.path_ML, _path(flat, key_M >= 0, sids_ML)),
        )  # fmt: skip
        left_QL, crowd_QL = _left(flat, rows_M[~self.place(rows_M)[1]])
        behind = np.searchsorted(self.left_QL[:, -1], left_QL[:, -1])
        rows_M, key_M, sids_ML, path_ML = (np.insert(old[keep], at, new, axis=0) for old, new in columns)
        left_QL = np.insert(self.left_QL, behind, left_QL, axis=0)
        crowd_QL = np.insert(self.crowd_QL, behind, crowd_QL, axis=0)
        return _settled(flat, rows_M, key_M, sids_ML, path_ML, left_QL, crowd_QL)

    def place(self, rows_P: IntArray) -> tuple[IntArray, BoolArray]:
        """(place in ``rows_M``, whether the row is changed) of P rows."""
        at, found = sorted_place(self.rows_M[self.row_order_M], rows_P)
        return (self.row_order_M[at] if len(self) else at), found

    def merged(self, flat: Flat) -> Flat:
        """The flat trie built anew with these changes in it; what did not change need not be sorted again."""
        changed_N = np.zeros(max(len(flat.leaf_N), self.last_row + 1), dtype=np.bool_)
        changed_N[self.rows_M] = True
        stay = ~changed_N[flat.item_rows]
        keys, rows = flat.item_keys()[stay], flat.item_rows[stay]
        present = np.flatnonzero(self.key_M >= 0)
        present = present[np.lexsort((self.rows_M[present], self.key_M[present]))]
        key_P, row_P = self.key_M[present], self.rows_M[present]
        # Behind the rows of the same identifier that are smaller.
        low = np.searchsorted(keys, key_P)
        owner, at = spans(low, np.searchsorted(keys, key_P, side="right") - low)
        place = low + np.bincount(owner[rows[at] < row_P[owner]], minlength=len(low))
        return Flat.of_sorted(
            np.insert(keys, place, key_P), np.insert(rows, place, row_P.astype(np.int32)), len(changed_N), flat.level_sizes
        )


def sorted_place(ascending: IntArray, wanted_P: IntArray) -> tuple[IntArray, BoolArray]:
    """(place, found) of P values; the place of what is not found means nothing."""
    if not len(ascending):
        return np.zeros(wanted_P.shape, dtype=np.int64), np.zeros(wanted_P.shape, dtype=np.bool_)
    at = np.minimum(np.searchsorted(ascending, wanted_P), len(ascending) - 1)
    return at, ascending[at] == wanted_P


def _keys(flat: Flat, rows_M: IntArray, sids_ML: IntArray) -> IntArray:
    """The packed identifiers, `ABSENT` for none; raises on codes out of range."""
    present_M = (sids_ML != ABSENT).any(axis=1)
    wrong_M = present_M & ((sids_ML < 0) | (sids_ML >= np.asarray(flat.level_sizes))).any(axis=1)
    if wrong_M.any():
        at = int(np.flatnonzero(wrong_M)[0])
        raise InvalidValue(
            f"identifier of row {rows_M[at]}", sids_ML[at].tolist(), f"codes below {flat.level_sizes}", "check the codebook"
        )
    return np.where(present_M, pack(sids_ML, flat.level_sizes), ABSENT)


def _path(flat: Flat, present_M: BoolArray, sids_ML: IntArray) -> IntArray:
    path_ML = np.full(sids_ML.shape, -1, dtype=np.int64)
    alive = np.flatnonzero(present_M)
    node = np.zeros(len(alive), dtype=np.int64)
    for level in range(sids_ML.shape[1]):
        if not len(alive):
            break
        node, found = flat.find(level, node, sids_ML[alive, level])
        alive, node = alive[found], node[found]
        path_ML[alive, level] = node
    return path_ML


def _left(flat: Flat, rows_M: IntArray) -> tuple[IntArray, IntArray]:
    """(nodes, what they hold) [Q, L] at and above the leaves that rows have in the flat trie, by leaf."""
    node = np.sort(flat.leaf_N[rows_M[rows_M < len(flat.leaf_N)]].astype(np.int64))
    node = node[node >= 0]
    left_QL, crowd_QL = (np.empty((len(node), len(flat.level_sizes)), dtype=np.int64) for _ in range(2))
    start: NDArray[np.int32] = flat.item_start
    for level in reversed(range(left_QL.shape[1]) if len(node) else ()):
        left_QL[:, level], crowd_QL[:, level] = node, start[node + 1] - start[node]
        start, node = flat.starts[level], flat.parent(level + 1, node)
    return left_QL, crowd_QL


def _settled(
    flat: Flat,
    rows_M: IntArray,
    key_M: IntArray,
    sids_ML: IntArray,
    path_ML: IntArray,
    left_QL: IntArray,
    crowd_QL: IntArray,
) -> Changes:
    """Number the further nodes from the root down, and find the dead ones from the leaves up."""
    absent = int(np.searchsorted(key_M, 0))
    node_P, keys, lived_in = np.zeros(len(rows_M) - absent, dtype=np.int64), list[IntArray](), list[IntArray]()
    known_P = np.ones(len(node_P), dtype=np.bool_)  # whose prefix so far the flat trie has
    missing = np.zeros(0, dtype=np.int64)  # the others, in the order of their nodes
    for level, size in enumerate(flat.level_sizes):
        path_P = path_ML[absent:, level]
        here_P = path_P >= 0
        # Further nodes are numbered behind the flat trie's, so those below them come behind those that begin here.
        missing = np.concatenate([np.flatnonzero(known_P & ~here_P), missing])
        key = node_P[missing] * size + sids_ML[absent + missing, level]
        first, more = runs(key)
        node_P = path_P.copy()
        node_P[missing] = flat.nodes(level + 1) + np.repeat(np.arange(len(first)), np.diff(first, append=len(key)))
        keys.append(more)
        lived_in.append(path_P[here_P])
        known_P = here_P
    order = absent + np.concatenate([np.flatnonzero(known_P), missing])
    leaf_M = np.concatenate([np.full(absent, -1, dtype=np.int64), node_P])
    dead = _dead(left_QL, crowd_QL, lived_in)
    return Changes(
        rows_M, key_M, sids_ML, path_ML, left_QL, crowd_QL, leaf_M, tuple(keys), dead, np.argsort(rows_M), order
    )  # fmt: skip


def _dead(left_QL: IntArray, crowd_QL: IntArray, lived_in: list[IntArray]) -> tuple[IntArray, ...]:
    """Per level the flat trie's nodes that lost everything: all items of a leaf, then all children of a node."""
    gone, dead = np.arange(len(left_QL)), list[IntArray]()
    for level in reversed(range(left_QL.shape[1])):
        first, node = runs(left_QL[gone, level])
        lost, at = np.diff(first, append=len(gone)), gone[first]
        # A node in which a changed row lives now is alive, whatever it lost.
        empty = (lost == crowd_QL[at, level]) & ~sorted_place(lived_in[level], node)[1]
        dead.append(node[empty])
        gone = at[empty]  # one row stands for each dead node
    return tuple(reversed(dead))
