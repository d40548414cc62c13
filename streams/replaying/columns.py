"""The rows of a parquet file as events: a column `value` with JSON, or a column for each field of an event.

Arrow's own conversion makes a Python object for every cell by way of a scalar; here a column is turned as a whole.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise, repeat
from pathlib import Path
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import InvalidData
from schemas.events import Click, Impression, ItemAdded, Order, Return, Tick
from streams.replaying.lines import Progress, ignore

#: Rows converted at a time, and the unpacked bytes that one row group may have: they bound the memory.
ROWS, GROUP_BYTES = 8_192, 1 << 30

FIELDS: dict[str, tuple[str, ...]] = {
    kind.__struct_config__.tag: tuple(field.name for field in msgspec.structs.fields(kind))  # type: ignore[misc]
    for kind in (Impression, Click, Order, Return, ItemAdded, Tick)
}
_encode = msgspec.json.Encoder().encode
KNOWN = {"type", *(name for names in FIELDS.values() for name in names)}


def blocks_of_rows(path: Path, on_progress: Progress = ignore) -> Iterator[list[bytes]]:
    """Each row as the JSON of its event, in blocks. ``on_progress(done, total)`` is told rows.

    Raises:
        InvalidData: not parquet, columns that no event has, a type that is none, or a row group past `GROUP_BYTES`.
    """
    try:
        file = pq.ParquetFile(path, pre_buffer=False)
    except pa.ArrowInvalid as error:
        raise InvalidData(str(path), None, "file", str(error), "a parquet file") from error
    with file:
        typed = _is_typed(path, file.schema_arrow)
        for n in range(file.num_row_groups):
            size = file.metadata.row_group(n).total_byte_size
            if size > GROUP_BYTES:
                raise InvalidData(str(path), None, "row group", size, f"at most {GROUP_BYTES} unpacked bytes")
        row = 0
        for batch in file.iter_batches(ROWS, columns=None if typed else ["value"]):
            yield _events(path, row, batch) if typed else _values(batch.column(0))
            row += batch.num_rows
            on_progress(row, file.metadata.num_rows)


def _is_typed(path: Path, schema: pa.Schema) -> bool:
    """Whether fields have columns of their own; else `value` holds the whole event. Orders have a number by that name."""
    if "type" not in schema.names:
        kind = schema.field("value").type if "value" in schema.names else None
        if kind is None or not any(is_kind(kind) for is_kind in _TEXT):
            raise InvalidData(
                str(path),
                None,
                "columns",
                schema.names,
                "`value` with one event as JSON a row, or `type`, `ts`, `user`, ...",
            )
        return False
    unknown = sorted(set(schema.names) - KNOWN)
    if unknown:
        raise InvalidData(str(path), None, unknown[0], "a column", f"one of {', '.join(sorted(KNOWN))}")
    return True


def _values(column: pa.Array) -> list[bytes]:
    return [v if isinstance(v, bytes) else (v or "").encode() for v in column.to_numpy(zero_copy_only=False).tolist()]


def _events(path: Path, first: int, batch: pa.RecordBatch) -> list[bytes]:
    """Empty cells are left out of the event, so that its own defaults hold."""
    columns = {name: _cells(batch.column(name)) for name in batch.schema.names}
    rows_of: dict[str, list[int]] = {}
    for n, kind in enumerate(columns["type"]):
        rows_of.setdefault(kind, []).append(n)
    events = [b""] * batch.num_rows
    for kind, rows in rows_of.items():
        if kind not in FIELDS:
            raise InvalidData(str(path), first + rows[0] + 1, "type", kind, f"one of {', '.join(FIELDS)}")
        names = tuple(name for name in FIELDS[kind] if name in columns)
        cells = ([columns[name][n] for n in rows] for name in names)
        made = map(_row(kind, names), *cells) if names else repeat(_row(kind, ())(), len(rows))
        for n, event in zip(rows, map(_encode, made), strict=True):
            events[n] = event
    return events


@lru_cache
def _row(kind: str, names: tuple[str, ...]) -> type[msgspec.Struct]:
    """An event with these fields; made and encoded in half the time of a dictionary."""
    return msgspec.defstruct(
        "Event", [(name, Any, None) for name in names], tag_field="type", tag=kind, omit_defaults=True, gc=False
    )


def _cells(array: pa.Array) -> list[Any]:
    """The column as Python objects, None where it is empty; times become ms since 1970."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return _cells(array.cast(kind.value_type))
    if pa.types.is_timestamp(kind):
        return _cells(array.cast(pa.timestamp("ms", kind.tz), safe=False).cast(pa.int64()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        values, ends = _cells(array.values), array.offsets.tolist()
        lists = [values[begin:end] for begin, end in pairwise(ends)]
        return _with_gaps(array, lists)
    if pa.types.is_struct(kind):
        names = {f"f{n}": field.name for n, field in enumerate(kind)}  # a column's name need not be one in Python
        row = msgspec.defstruct("Row", [(name, Any) for name in names], rename=names, gc=False)  # faster than dictionaries
        return _with_gaps(array, list(map(row, *(_cells(part) for part in array.flatten()))))
    if array.null_count and not any(is_kind(kind) for is_kind in _TEXT):
        return list(array.to_pylist())  # numpy has no empty number
    return list(array.to_numpy(zero_copy_only=False).tolist())


def _with_gaps(array: pa.Array, cells: list[Any]) -> list[Any]:
    if not array.null_count:
        return cells
    return [cell if there else None for cell, there in zip(cells, array.is_valid().to_pylist(), strict=True)]


_TEXT = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
