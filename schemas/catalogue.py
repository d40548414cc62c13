"""The catalogue artefact: items with their text, in a fixed order; a row number names an item inside a process."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from schemas.descriptions import Description
from schemas.errors import Corrupt
from schemas.store import Store

#: Columns of ``items.parquet``. ``available_from`` is event time in ms, 0 for always.
#: Columns ``margin`` and ``in_stock`` may come on top.
COLUMNS = ("item_id", "title", "category", "brand", "price", "available_from")
T = TypeVar("T")
_REMEDY = "restore the file, or build anew what it belongs to"


@dataclass(frozen=True)
class Catalogue:
    """N items, column by column.

    Shapes: every tuple has N entries; ``prices_N`` and ``available_from_N`` are [N]; ``attributes`` maps an attribute
    type (brand, colour, size) to its value, per item.
    """

    items: tuple[str, ...]
    titles: tuple[str, ...]
    categories: tuple[str, ...]
    brands: tuple[str, ...]
    prices_N: NDArray[np.float32]
    available_from_N: NDArray[np.int64]
    attributes: tuple[dict[str, str], ...] = field(repr=False)
    margins_N: NDArray[np.float32] | None = None  #: part of the price, 0 to 1; NaN: not known of this item; None: of none
    in_stock_N: NDArray[np.bool_] | None = None  #: None: the catalogue does not say

    def __len__(self) -> int:
        return len(self.items)

    @cached_property
    def row(self) -> dict[str, int]:
        """Item id -> row."""
        return {item: n for n, item in enumerate(self.items)}

    def description(self, item: str) -> Description | None:
        """What is known of an item; None: it is not here."""
        row = self.row.get(item)
        if row is None:
            return None
        return Description(self.titles[row], self.categories[row], self.brands[row], float(self.prices_N[row]))

    def told(self, said: Iterable[tuple[str, Description]]) -> dict[str, Description]:
        """Of what is said of items, one after the other: those that are described otherwise than here, and new ones in the order
        in which they came.
        """
        known: dict[str, Description | None] = {}
        now: dict[str, Description] = {}
        for item, one in said:
            if item not in known:
                known[item] = before = self.description(item)
            else:
                before = now[item]
            now[item] = before.then(one) if before else one
        return {item: one for item, one in now.items() if one != known[item]}

    def described(self, items: Mapping[str, Description], since: Mapping[str, int]) -> Catalogue:
        """With these items as they are described here. New ones come behind, in their order: in stock, without attributes, and
        available from ``since`` on (event time, ms).
        """
        if not items:
            return self
        known = {self.row[item]: said for item, said in items.items() if item in self.row}
        new = {item: said for item, said in items.items() if item not in self.row}
        prices_N = np.append(self.prices_N, np.array([said.price for said in new.values()], np.float32))
        prices_N[list(known)] = [said.price for said in known.values()]
        return Catalogue(
            items=self.items + tuple(new),
            titles=_column(self.titles, known, new, "title"),
            categories=_column(self.categories, known, new, "category"),
            brands=_column(self.brands, known, new, "brand"),
            prices_N=prices_N,
            available_from_N=np.append(self.available_from_N, np.array([since[item] for item in new], np.int64)),
            attributes=self.attributes + ({},) * len(new),
            margins_N=None if self.margins_N is None else np.append(self.margins_N, [np.float32("nan")] * len(new)),
            in_stock_N=None if self.in_stock_N is None else np.append(self.in_stock_N, np.ones(len(new), np.bool_)),
        )

    def known_by(self, ts: int) -> Catalogue:
        """With the items that are available at an event time (ms), in their order."""
        rows = np.flatnonzero(self.available_from_N <= ts)
        if len(rows) == len(self):
            return self
        return Catalogue(
            items=_picked(self.items, rows),
            titles=_picked(self.titles, rows),
            categories=_picked(self.categories, rows),
            brands=_picked(self.brands, rows),
            prices_N=self.prices_N[rows],
            available_from_N=self.available_from_N[rows],
            attributes=_picked(self.attributes, rows),
            margins_N=None if self.margins_N is None else self.margins_N[rows],
            in_stock_N=None if self.in_stock_N is None else self.in_stock_N[rows],
        )

    def save(self, store: Store, path: str = "catalogue/items.parquet") -> str:
        """Write as parquet; returns the sha256."""
        columns: dict[str, Any] = {
            "item_id": list(self.items),
            "title": list(self.titles),
            "category": list(self.categories),
            "brand": list(self.brands),
            "price": self.prices_N,
            "available_from": self.available_from_N,
            "attributes": pa.array([list(a.items()) for a in self.attributes], type=pa.map_(pa.string(), pa.string())),
        }
        if self.margins_N is not None:
            columns["margin"] = self.margins_N
        if self.in_stock_N is not None:
            columns["in_stock"] = self.in_stock_N
        table = pa.table(columns)
        buffer = io.BytesIO()
        pq.write_table(table, buffer, compression="zstd")
        return store.write(path, buffer.getvalue())

    @classmethod
    def load(cls, store: Store, path: str = "catalogue/items.parquet", *, attributes: bool = True) -> Catalogue:
        """Read what `save` wrote. Without ``attributes``, which take the longest, every item's are empty.

        Raises:
            Unavailable: there is no such file.
            Corrupt: it is no parquet file, not whole, or lacks a column.
        """
        data = store.read(path)
        try:
            file = pq.ParquetFile(io.BytesIO(data))
            table = file.read([name for name in file.schema_arrow.names if attributes or name != "attributes"])
        except (pa.ArrowException, OSError) as error:
            raise Corrupt(f"{store.url}/{path}", str(error), _REMEDY) from error
        for name in (*COLUMNS, *["attributes"] * attributes):
            if name not in table.column_names:
                raise Corrupt(f"{store.url}/{path}", f"it lacks the column {name}", _REMEDY)
        column = {name: table.column(name).to_pylist() for name in ("item_id", "title", "category", "brand")}
        pairs_N = table.column("attributes").to_pylist() if attributes else [()] * len(table)
        return cls(
            items=tuple(column["item_id"]),
            titles=tuple(column["title"]),
            categories=tuple(column["category"]),
            brands=tuple(column["brand"]),
            prices_N=table.column("price").to_numpy().astype(np.float32),
            available_from_N=table.column("available_from").to_numpy().astype(np.int64),
            attributes=tuple(dict(pairs or ()) for pairs in pairs_N),
            margins_N=table.column("margin").to_numpy().astype(np.float32) if "margin" in table.column_names else None,
            in_stock_N=table.column("in_stock").to_numpy().astype(np.bool_) if "in_stock" in table.column_names else None,
        )


def _picked(values: Sequence[T], rows: NDArray[np.int64]) -> tuple[T, ...]:
    return tuple(values[row] for row in rows.tolist())


def _column(
    values: tuple[str, ...], known: Mapping[int, Description], new: Mapping[str, Description], name: str
) -> tuple[str, ...]:
    """A column with what is said of some rows, and of new items behind them; the same tuple where nothing differs."""
    changed = {row: getattr(said, name) for row, said in known.items() if getattr(said, name) != values[row]}
    here = tuple(changed.get(row, value) for row, value in enumerate(values)) if changed else values
    return here + tuple(getattr(said, name) for said in new.values())
