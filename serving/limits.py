"""What one search may return: its filter and the time, as a mask over the trie's nodes, or the reason why nothing is left.

Limits decide what may be returned and never how it is scored. The search follows no branch without an item that passes, so
k items come back while k pass. Letters: N items.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reward.facets import BoolArray
from schemas.filters import Filter
from serving.requests import SearchRequest
from serving.shelf import Shelf


@dataclass(frozen=True, eq=False)
class Limits:
    """Immutable. ``reason`` set: nothing may be shown, and why."""

    nodes: Sequence[BoolArray] | None = None  #: `Trie.node_mask` of what passes; None: everything does
    passing_N: BoolArray | None = None  #: which items pass; None: those that are there at the request's time
    pinned: tuple[int, ...] = ()  #: rows that stand first, in this order; they pass
    reason: str = ""
    notes: tuple[str, ...] = ()


def limits_of(shelf: Shelf, request: SearchRequest) -> Limits:
    """Of one request at its time. The same filter over the same shelf is worked out once."""
    if request.items:
        limits = _narrowed(shelf, request)
    elif request.filter.unpinned != Filter():
        key = shelf.arrived(request.ts), request.filter.unpinned
        limits = shelf.kept(key, lambda: _narrowed(shelf, request))
    else:
        nodes = shelf.nodes_at(request.ts)
        nothing = shelf.trie.empty or (nodes is not None and not nodes[0].any())
        limits = Limits(nodes, reason="no item of the catalogue is available at the request's time" if nothing else "")
    return _with_pins(shelf, request, limits) if request.filter.pin and not limits.reason else limits


def _narrowed(shelf: Shelf, request: SearchRequest) -> Limits:
    """One condition after the other; the first that leaves nothing is the reason."""
    row, notes = shelf.catalogue.row, list(shelf.facets.notes(request.filter))
    rows, nobody = np.arange(len(shelf.catalogue)), "no item of the catalogue"
    if request.items:
        rows = np.array([row[item] for item in request.items if item in row], dtype=np.int64)
        unknown, nobody = len(request.items) - len(rows), f"none of the {len(request.items)} items in the filter"
        if unknown:
            notes.insert(0, f"{unknown} of {len(request.items)} items in the filter are not in the catalogue")
    if not len(rows):
        return Limits(reason=f"{nobody} is in the catalogue", notes=tuple(notes))
    rows = rows[shelf.here(rows, request.ts)]
    if not len(rows):
        return Limits(reason=f"{nobody} is available at the request's time", notes=tuple(notes))
    passing_N = np.zeros(len(shelf.catalogue), dtype=np.bool_)
    passing_N[rows] = True
    met = list[str]()
    for told, mask_N in shelf.facets.steps(request.filter):
        passing_N &= mask_N
        met.append(told)
        if not passing_N.any():
            return Limits(reason=f"{nobody} that is available {' and '.join(met)}", notes=tuple(notes))
    return Limits(shelf.trie.node_mask_of(np.flatnonzero(passing_N)), passing_N, notes=tuple(notes))


def _with_pins(shelf: Shelf, request: SearchRequest, limits: Limits) -> Limits:
    """The pinned items that may be shown; a note for each that may not."""
    pinned, notes = list[int](), list(limits.notes)
    for item in request.filter.pin:
        row = shelf.catalogue.row.get(item)
        if row is None:
            notes.append(f"pinned item {item} is not in the catalogue")
        elif not _passes(shelf, request, limits, row):
            notes.append(f"pinned item {item} is not available, or does not pass the filter")
        else:
            pinned.append(row)
    return replace(limits, pinned=tuple(pinned), notes=tuple(notes))


def _passes(shelf: Shelf, request: SearchRequest, limits: Limits, row: int) -> bool:
    if limits.passing_N is None:
        return bool(shelf.here(np.array([row]), request.ts)[0])
    return bool(limits.passing_N[row])
