"""What may be shown: catalogue and trie side by side, which items are there at a time, and the life of new ones.

Immutable: adding an item makes a new shelf that shares what did not change. Letters: N items, L levels.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from reward.campaigns.facts import ItemFacts
from reward.facets import Facets
from schemas.catalogue import Catalogue
from schemas.errors import Incompatible
from schemas.events import ItemAdded
from serving.exploration import KeyArray, item_keys
from trainers.identifiers.assortment import Assortment
from trainers.identifiers.trie import Trie

BoolArray = NDArray[np.bool_]
Made = TypeVar("Made")
#: Masks kept, of a time or of a filter; at 10 million items one is 40 MB.
KEPT = 16


@dataclass(frozen=True, eq=False)
class Shelf:
    """N items in catalogue order; row numbers are the trie's. ``codebook_version`` is that of the identifiers."""

    catalogue: Catalogue
    trie: Trie
    codebook_version: str
    keys_N: KeyArray  #: 64-bit key of every item, for the exploration noise
    _kept: OrderedDict[Hashable, Any] = field(default_factory=OrderedDict, repr=False)

    @classmethod
    def of(cls, catalogue: Catalogue, trie: Trie, codebook_version: str) -> Shelf:
        """Put a catalogue beside its trie.

        Raises:
            Incompatible: they do not have the same number of items.
        """
        if len(catalogue) != len(trie):
            raise Incompatible("items of trie and catalogue", len(catalogue), len(trie), "rebuild the identifiers")
        return cls(catalogue, trie, codebook_version, item_keys(catalogue.items))

    @property
    def assortment(self) -> Assortment:
        """Catalogue and trie alone."""
        return Assortment(self.catalogue, self.trie)

    def sid_of(self, item: str) -> Sequence[int] | None:
        """The identifier of an item, None if it is unknown or not in the trie."""
        return self.assortment.sid_of(item)

    def here(self, rows: NDArray[np.int64], ts: int) -> BoolArray:
        """Which of these rows can be shown at event time ``ts``."""
        mask: BoolArray = (self.catalogue.available_from_N[rows] <= ts) & (self.trie.leaf_of(rows) >= 0)
        return mask

    def arrived(self, ts: int) -> int:
        """How many items have come by ``ts``: while it stays, so does what can be shown."""
        return int(np.searchsorted(self._arrivals, ts, side="right"))

    def nodes_at(self, ts: int) -> list[BoolArray] | None:
        """The trie's node mask of all items there at ``ts``; None when every item is."""
        count = self.arrived(ts)
        if count == len(self._arrivals):
            return None
        return self.kept(count, lambda: self.trie.node_mask(self.catalogue.available_from_N <= ts))

    def kept(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made of this shelf under this key, one of the last few."""
        if key not in self._kept:
            self._kept[key] = make()
            if len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        made: Made = self._kept[key]
        return made

    def with_items(self, added: Sequence[ItemAdded]) -> Shelf:
        """The shelf after these events, as `Assortment.after` has it; itself where they say nothing new.

        Raises:
            Incompatible: an event's identifier belongs to another codebook.
        """
        for event in added:
            if event.codebook_version != self.codebook_version:
                raise Incompatible(
                    f"codebook of new item {event.item}", self.codebook_version, event.codebook_version,
                    "assign it again under the run's identifiers",
                )  # fmt: skip
        before = self.assortment
        now = before.after(added)
        if now is before:
            return self
        return replace(
            self,
            catalogue=now.catalogue,
            trie=now.trie.tidied(),
            keys_N=np.concatenate([self.keys_N, item_keys(now.catalogue.items[len(self.catalogue) :])]),
            _kept=OrderedDict(),
        )

    @cached_property
    def facets(self) -> Facets:
        """What filters ask of the items."""
        return Facets(self.catalogue)

    @cached_property
    def facts(self) -> ItemFacts:
        """What campaigns ask of the items."""
        return ItemFacts.of(self.catalogue)

    @cached_property
    def _arrivals(self) -> NDArray[np.int64]:
        """Times at which items in the trie appear, sorted."""
        return np.sort(self.catalogue.available_from_N)
