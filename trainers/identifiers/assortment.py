"""The items there are: catalogue and trie side by side, and what both become when records of `catalogue.items` come in.

A value. Rows keep their numbers: a new item gets the next one at its first record with an identifier, a removed one keeps its
row, to which no identifier leads. Letters: N items, L levels.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from schemas.catalogue import Catalogue
from schemas.descriptions import said_by
from schemas.events import ItemAdded
from trainers.identifiers.sids import Sid
from trainers.identifiers.trie import ABSENT, Trie


@dataclass(frozen=True, eq=False)
class Assortment:
    """Row numbers of catalogue and trie are the same."""

    catalogue: Catalogue
    trie: Trie

    def sid_of(self, item: str) -> Sequence[int] | None:
        """The identifier of an item, None if it is unknown or has none."""
        row = self.catalogue.row.get(item)
        return None if row is None else self._sid(row) or None

    def after(self, records: Iterable[ItemAdded]) -> Assortment:
        """What these records make of it, in their order; itself where they say nothing new.

        A new item is available from the time of its first record with an identifier. A known one takes the identifier of its last
        record, and is described by those that have one. So records in one go and one by one come to the same. That they are of
        this trie's codebook is for the caller to see to.
        """
        known, last, since = self.catalogue.row, dict[str, ItemAdded](), dict[str, int]()
        for record in (records := list(records)):
            last[record.item] = record
            if record.sid and record.item not in known:
                since.setdefault(record.item, record.ts)
        number = {item: len(self.catalogue) + n for n, item in enumerate(since)}
        sids = {known.get(item, number.get(item, -1)): tuple(record.sid) for item, record in last.items()}
        moved = {row: sid for row, sid in sids.items() if row >= len(self.catalogue) or (row >= 0 and sid != self._sid(row))}
        told = self.catalogue.told(said_by(records))
        if not moved and not told:
            return self
        gone = (ABSENT,) * self.trie.levels
        trie = self.trie.changed(list(moved), [sid or gone for sid in moved.values()]) if moved else self.trie
        return Assortment(self.catalogue.described(told, since), trie)

    def moves(self, before: Assortment) -> dict[Sid, Sid | None]:
        """Identifiers of ``before`` that no item of it has any more -> what its first owner has now, None: nothing."""
        had_NL, has_NL = before.trie.sids_NL, self.trie.sids_NL[: len(before.trie)]
        changed_N = (had_NL != has_NL).any(axis=1)
        found: dict[Sid, Sid | None] = {}
        for row in np.flatnonzero(changed_N & (before.trie.leaf_of_item_N >= 0)).tolist():
            if changed_N[before.trie.items(int(before.trie.leaf_of_item_N[row]))].all():
                now = tuple(has_NL[row].tolist()) if self.trie.leaf_of([row])[0] >= 0 else None
                found.setdefault(tuple(had_NL[row].tolist()), now)
        return found

    def _sid(self, row: int) -> Sid:
        """Empty: none."""
        codes: list[int] = self.trie.sids_of([row])[0].tolist()
        return () if codes[0] == ABSENT else tuple(codes)
