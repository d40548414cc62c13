"""What may be shown: catalogue and trie side by side, which items are there at a time, and the life of new ones.

Immutable: adding an item makes a new shelf that shares what did not change. Letters: N items, L levels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from reward.campaigns.facts import ItemFacts
from schemas.catalogue import Catalogue
from schemas.errors import Incompatible
from schemas.events import ItemAdded
from serving.exploration import KeyArray, item_keys
from trainers.identifiers.trie import Trie

BoolArray = NDArray[np.bool_]
#: Node masks kept: time moves on, so few are asked for again.
MASKS = 8


@dataclass(frozen=True, eq=False)
class Shelf:
    """N items in catalogue order; row numbers are the trie's. ``codebook_version`` is that of the identifiers."""

    catalogue: Catalogue
    trie: Trie
    codebook_version: str
    keys_N: KeyArray  #: 64-bit key of every item, for the exploration noise
    _masks: OrderedDict[int, list[BoolArray]] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def of(cls, catalogue: Catalogue, trie: Trie, codebook_version: str) -> Shelf:
        """Put a catalogue beside its trie.

        Raises:
            Incompatible: they do not have the same number of items.
        """
        if len(catalogue) != len(trie):
            raise Incompatible("items of trie and catalogue", len(catalogue), len(trie), "rebuild the identifiers")
        return cls(catalogue, trie, codebook_version, item_keys(catalogue.items))

    def sid_of(self, item: str) -> Sequence[int] | None:
        """The identifier of an item, None if it is unknown or not in the trie."""
        row = self.catalogue.row.get(item)
        if row is None or self.trie.leaf_of_item_N[row] < 0:
            return None
        codes: list[int] = self.trie.sids_NL[row].tolist()
        return codes

    def here(self, rows: NDArray[np.int64], ts: int) -> BoolArray:
        """Which of these rows can be shown at event time ``ts``."""
        mask: BoolArray = (self.catalogue.available_from_N[rows] <= ts) & (self.trie.leaf_of_item_N[rows] >= 0)
        return mask

    def nodes_at(self, ts: int) -> list[BoolArray] | None:
        """The trie's node mask of all items there at ``ts``; None when every item is."""
        count = int(np.searchsorted(self._arrivals, ts, side="right"))
        if count == len(self._arrivals):
            return None
        if count not in self._masks:
            self._masks[count] = self.trie.node_mask(self.catalogue.available_from_N <= ts)
            if len(self._masks) > MASKS:
                self._masks.popitem(last=False)
        return self._masks[count]

    def nodes_of(self, rows: NDArray[np.int64]) -> list[BoolArray]:
        """The trie's node mask of some rows."""
        mask_N = np.zeros(len(self.catalogue), dtype=np.bool_)
        mask_N[rows] = True
        return self.trie.node_mask(mask_N)

    def with_items(self, added: Sequence[ItemAdded]) -> Shelf:
        """The shelf after these events; what it knows already with the same identifier changes nothing.

        An unknown item is appended, available from its event's time. A known one takes the event's identifier.

        Raises:
            Incompatible: an event's identifier belongs to another codebook.
        """
        for event in added:
            if event.codebook_version != self.codebook_version:
                raise Incompatible(
                    f"codebook of new item {event.item}", self.codebook_version, event.codebook_version,
                    "assign it again under the run's identifiers",
                )  # fmt: skip
        changed = {e.item: e for e in added if (row := self._row(e.item)) is None or not self._same(row, e)}
        if not changed:
            return self
        fresh = [event for item, event in changed.items() if item not in self.catalogue.row]
        sids_NL = self.trie.sids_NL.copy()
        for item, event in changed.items():
            if (row := self._row(item)) is not None:
                sids_NL[row] = event.sid
        more_ML = np.array([event.sid for event in fresh], dtype=np.int32).reshape(len(fresh), self.trie.levels)
        return replace(
            self,
            catalogue=_appended(self.catalogue, fresh),
            trie=Trie.build(np.concatenate([sids_NL, more_ML]), self.trie.level_sizes),
            keys_N=np.concatenate([self.keys_N, item_keys([event.item for event in fresh])]),
            _masks=OrderedDict(),
        )

    @cached_property
    def facts(self) -> ItemFacts:
        """What campaigns ask of the items."""
        return ItemFacts.of(self.catalogue)

    @cached_property
    def _arrivals(self) -> NDArray[np.int64]:
        """Times at which items in the trie appear, sorted."""
        return np.sort(self.catalogue.available_from_N)

    def _row(self, item: str) -> int | None:
        return self.catalogue.row.get(item)

    def _same(self, row: int, event: ItemAdded) -> bool:
        return tuple(self.trie.sids_NL[row].tolist()) == tuple(event.sid)


def _appended(catalogue: Catalogue, added: Sequence[ItemAdded]) -> Catalogue:
    if not added:
        return catalogue
    blank = ("",) * len(added)
    return Catalogue(
        items=catalogue.items + tuple(event.item for event in added),
        titles=catalogue.titles + tuple(event.title for event in added),
        categories=catalogue.categories + blank,
        brands=catalogue.brands + blank,
        prices_N=np.concatenate([catalogue.prices_N, np.zeros(len(added), dtype=np.float32)]),
        available_from_N=np.concatenate([catalogue.available_from_N, np.array([e.ts for e in added], dtype=np.int64)]),
        attributes=catalogue.attributes + ({},) * len(added),
        margins_N=None if catalogue.margins_N is None else np.append(catalogue.margins_N, [np.float32("nan")] * len(added)),
    )
