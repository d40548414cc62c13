"""From old identifiers to new ones: what a rebuild writes, so that whatever was kept under old ones can be carried over."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.catalogue import Catalogue
from schemas.errors import InvalidData
from schemas.store import Store
from trainers.identifiers.build import FOLDER, Identifiers
from trainers.identifiers.sids import Sid


@dataclass(frozen=True)
class Mapping:
    """One row for every item that either side knows; an empty identifier: that side has none for it."""

    old_version: str
    new_version: str
    items: tuple[str, ...]
    old: tuple[Sid, ...]
    new: tuple[Sid, ...]

    @classmethod
    def of(
        cls,
        old_version: str,
        old_items: Sequence[str],
        old_sid: Callable[[str], Sid],
        new: Identifiers,
        catalogue: Catalogue,
    ) -> Mapping:
        """From an old version, whose items and their last identifiers are given, to a new one over ``catalogue``."""
        gone = [item for item in old_items if item not in catalogue.row]
        items = (*catalogue.items, *gone)
        news = [tuple(codes) for codes in new.sids_NL.tolist()] + [()] * len(gone)
        return cls(old_version, new.version, items, tuple(old_sid(item) for item in items), tuple(news))

    @property
    def path(self) -> str:
        """Where it is kept, beside the new version."""
        return f"{FOLDER}/{self.new_version}/from-{self.old_version}.parquet"

    def save(self, store: Store) -> str:
        """Write columns item, old, new as parquet; returns the path."""
        codes = pa.list_(pa.int32())
        columns = {"item": pa.array(self.items), "old": pa.array(map(list, self.old), codes)}
        table = pa.table(columns | {"new": pa.array(map(list, self.new), codes)})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        store.write(self.path, buffer.getvalue())
        return self.path

    @classmethod
    def load(cls, store: Store, old_version: str, new_version: str) -> Mapping:
        """Read what `save` wrote.

        Raises:
            Unavailable: no such mapping.
            InvalidData: a column is missing.
        """
        path = cls(old_version, new_version, (), (), ()).path
        table = pq.read_table(io.BytesIO(store.read(path)))
        for name in ("item", "old", "new"):
            if name not in table.column_names:
                raise InvalidData(path, None, name, "missing", "a column of the file")
        old, new = (tuple(map(tuple, table.column(name).to_pylist())) for name in ("old", "new"))
        return cls(old_version, new_version, tuple(table.column("item").to_pylist()), old, new)

    def lost(self) -> int:
        """Items that had an identifier and have none."""
        return sum(bool(a) and not b for a, b in zip(self.old, self.new, strict=True))

    def moved(self) -> float:
        """Share of the items known to both sides whose identifier differs."""
        both = [(a, b) for a, b in zip(self.old, self.new, strict=True) if a and b]
        return float(np.mean([a != b for a, b in both])) if both else 0.0
