"""The life of identifiers after the build: items come, are described otherwise, and go; every change is one record.

Nobody else's identifier ever changes. The codebook stays as it is; `trainers.identifiers.drift` says when it no longer
fits. There is one writer: it knows every identifier in use, because it has seen every record.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.descriptions import Description, shortest
from schemas.errors import Incompatible, InvalidValue
from schemas.events import ItemAdded
from trainers.identifiers.build import Identifiers
from trainers.identifiers.sids import Sid


class Life:
    """The present identifier and description of every item: those of the artefact, and what became of them since."""

    def __init__(self, identifiers: Identifiers, catalogue: Catalogue) -> None:
        """Raises Incompatible when the catalogue has another number of items than the identifiers."""
        if len(catalogue) != len(identifiers.sids_NL):
            raise Incompatible(
                "items of the identifiers",
                len(catalogue),
                len(identifiers.sids_NL),
                "name the catalogue they were built for",
            )
        self.identifiers, self._catalogue = identifiers, catalogue
        self._assigner = identifiers.assigner(catalogue)
        self._now: dict[str, tuple[Sid, Description]] = {}  # items that changed: identifier (empty: gone) and description

    def sid_of(self, item: str) -> Sid:
        """The item's identifier; empty if it has none."""
        if item in self._now:
            return self._now[item][0]
        row = self._catalogue.row.get(item)
        return () if row is None else tuple(self.identifiers.sids_NL[row].tolist())

    def title_of(self, item: str) -> str:
        """The item's title; empty if it is not known."""
        said = self.description_of(item)
        return said.title if said else ""

    def description_of(self, item: str) -> Description | None:
        """What is known of the item; None: nothing."""
        return self._now[item][1] if item in self._now else self._catalogue.description(item)

    def changed(self) -> dict[str, Sid]:
        """Items that came, moved or went since the build, with their present identifiers (empty: gone)."""
        return {item: sid for item, (sid, _) in self._now.items()}

    def present(self) -> tuple[NDArray[np.int32], list[str]]:
        """Identifiers [N, L] and titles of all items that have one now."""
        items = self.below(())
        sids_NL = np.array([self.sid_of(item) for item in items], dtype=np.int32)
        return sids_NL.reshape(len(items), len(self.identifiers.level_sizes)), [self.title_of(item) for item in items]

    def below(self, prefix: Sid) -> list[str]:
        """Items whose present identifier begins so; for an empty prefix all that have one."""
        items = dict.fromkeys([*self._catalogue.items, *self._now])
        return [item for item in items if (sid := self.sid_of(item)) and sid[: len(prefix)] == prefix]

    def put(self, item: str, said: Description, emb_D: NDArray[np.float32] | None, ts: int) -> ItemAdded | None:
        """A new item, or a known one that is described so: the record to publish; None if nothing changes.

        The title decides the identifier: with the same one an item keeps what it has.

        Args:
            emb_D: the title's unit embedding; it may be missing where the item has this title already.
            ts: event time, ms.

        Raises:
            InvalidValue: no identifier is free below the nearest first two codes, or the embedding is missing.
        """
        old, before = self.sid_of(item), self.description_of(item)
        now = before.then(said) if before else said
        if old and before == now:
            return None
        sid = old if old and self.title_of(item) == now.title else self._assigned(item, now.title, emb_D)
        self._now[item] = (sid, now)
        freed, price = old if old != sid else (), shortest(said.price)
        return ItemAdded(ts, item, now.title, sid, self.identifiers.version, freed, said.category, said.brand, price)

    def remove(self, item: str, ts: int) -> ItemAdded | None:
        """The item is gone and its identifier free: the record to publish; None if it has none."""
        old, said = self.sid_of(item), self.description_of(item)
        if not old or said is None:
            return None
        self._assigner.release(old)
        self._now[item] = ((), said)
        return ItemAdded(ts, item, said.title, (), self.identifiers.version, old)

    def replay(self, records: Iterable[ItemAdded]) -> None:
        """Take in what was published before, in its order. A record that repeats what is known changes nothing.

        Raises:
            Incompatible: a record of another codebook.
        """
        for record in records:
            if record.codebook_version != self.identifiers.version:
                raise Incompatible(
                    f"codebook of item {record.item}", self.identifiers.version, record.codebook_version,
                    "assign it again under these identifiers",
                )  # fmt: skip
            self._take(record)

    def _take(self, record: ItemAdded) -> None:
        old, before = self.sid_of(record.item), self.description_of(record.item)
        said = Description.of(record)
        now = said if before is None else before.then(said) if record.sid else before
        if (old, before) == (record.sid, now):
            return
        if (old, self.title_of(record.item)) != (record.sid, now.title):
            # Under another title too: it is the text that decides who may share the identifier.
            if old:
                self._assigner.release(old)
            if record.sid:
                self._assigner.claim(record.sid, normalise(now.title))
        self._now[record.item] = (record.sid, now)

    def _assigned(self, item: str, title: str, emb_D: NDArray[np.float32] | None) -> Sid:
        """The identifier of an item under this title; what it had is free, unless there is none for it."""
        if emb_D is None:
            raise InvalidValue("embedding", "none", f"that of the title {title}", "embed the title")
        old = self.sid_of(item)
        if old:
            self._assigner.release(old)
        try:
            return self.identifiers.assign_new(self._assigner, title, emb_D)
        except InvalidValue:
            if old:
                self._assigner.claim(old, normalise(self.title_of(item)))  # it keeps what it had
            raise
