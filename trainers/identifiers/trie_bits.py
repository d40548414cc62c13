"""Masks of allowed tokens as bits: an eighth of the bytes of flags, and so of the time to write them.

Nodes with many children keep theirs as a bitmap, which is copied; of the others the few codes are set one by one.
Letters: P prefixes, K the level's codebook size.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainers.identifiers.trie_changes import Changes, sorted_place
from trainers.identifiers.trie_flat import Flat, IntArray, spans


def packed_mask(flat: Flat, changes: Changes, level: int, nodes_P: IntArray) -> NDArray[np.uint8]:
    """uint8 [P, ceil(K / 8)]: bit k % 8 of byte k // 8 is set where code k may follow the node."""
    mask = _flat_mask(flat, level, nodes_P)
    size, keys, dead = flat.level_sizes[level], changes.keys[level], changes.dead[level]
    # A further node's code is not there yet and a dead node's is: adding its bit sets it, subtracting it clears it.
    if len(keys):
        owner, at = _below(keys // size, nodes_P)
        _toggle(np.add, mask, owner, keys[at] % size)
    if len(dead):
        owner, at = _below(flat.parent(level + 1, dead), nodes_P)
        _toggle(np.subtract, mask, owner, flat.codes[level][dead[at]].astype(np.int64))
    return mask


def _flat_mask(flat: Flat, level: int, nodes_P: IntArray) -> NDArray[np.uint8]:
    """Of the flat trie alone; nodes beyond it have no bits."""
    start, codes, bitmaps = flat.starts[level], flat.codes[level], flat.bitmaps[level]
    if len(bitmaps) == flat.nodes(level) and not (nodes_P >= len(bitmaps)).any():
        return bitmaps[nodes_P]
    inside = np.minimum(nodes_P, flat.nodes(level))  # the range behind the last node is empty
    low = start[inside].astype(np.int64)
    count = start[np.minimum(inside + 1, flat.nodes(level))] - low
    full = flat.is_crowded(level, count)
    owner, child = spans(low, np.where(full, 0, count))
    code = codes[child].astype(np.int64)
    mask = np.zeros((len(nodes_P), bitmaps.shape[1]), dtype=np.uint8)
    _toggle(np.add, mask, owner, code)
    mask[full] = bitmaps[np.searchsorted(flat.crowded[level], nodes_P[full].astype(np.int32))]
    return mask


def _toggle(change: np.ufunc, mask: NDArray[np.uint8], owner: IntArray, code: IntArray) -> None:
    """Add or subtract the bits of codes; each comes once a prefix. numpy does that many times faster than "or" and "and"."""
    change.at(mask.reshape(-1), owner * mask.shape[1] + (code >> 3), (1 << (code & 7)).astype(np.uint8))


def _below(parents: IntArray, nodes_P: IntArray) -> tuple[IntArray, IntArray]:
    """Entries of an ascending list of parents that are one of P nodes: (index into ``nodes_P``, entry)."""
    low, found = sorted_place(parents, nodes_P)
    hit = np.flatnonzero(found)
    owner, at = spans(low[hit], np.searchsorted(parents, nodes_P[hit], side="right") - low[hit])
    return hit[owner], at
