"""Reads tables and lines of a data set, and says which file, row and field is not as documented. Rows count from 1."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from schemas.errors import InvalidData

T = TypeVar("T")

#: An id in a data set; inside Headrace it is text.
RawId = int | str


class Column(NamedTuple):
    """``kind``: id, text, integer, number, flag, or texts (a map from text to text)."""

    kind: str
    required: bool = True


_CHECKS = {
    "id": lambda t: pa.types.is_integer(t) or _is_text(t),
    "text": lambda t: _is_text(t),
    "integer": pa.types.is_integer,
    "number": lambda t: pa.types.is_integer(t) or pa.types.is_floating(t),
    "flag": pa.types.is_boolean,
    "texts": lambda t: pa.types.is_map(t) and _is_text(t.key_type) and _is_text(t.item_type),
}


def read_table(path: Path, columns: Mapping[str, Column]) -> dict[str, list[Any]]:
    """The columns of a parquet file that are there, as lists without nulls.

    Raises:
        InvalidData: the file is missing, not parquet or not whole; a text is not UTF-8; a column is unknown, missing, of a wrong type, or has a null.
    """
    found(path)
    try:
        table = pq.read_table(path)
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise InvalidData(str(path), None, "file", str(error), "a parquet file") from error
    for name in table.column_names:
        if name not in columns:
            raise InvalidData(str(path), None, name, "an unknown column", f"one of {', '.join(columns)}")
    for name, column in columns.items():
        if name not in table.column_names:
            if column.required:
                raise InvalidData(str(path), None, name, "missing", f"a column of kind {column.kind}")
            continue
        kind = table.schema.field(name).type
        if not _CHECKS[column.kind](kind):
            raise InvalidData(str(path), None, name, str(kind), f"a column of kind {column.kind}")
        if table.column(name).null_count:
            row = table.column(name).is_null().to_pylist().index(True) + 1
            raise InvalidData(str(path), row, name, None, f"a value of kind {column.kind}")
    return {name: table.column(name).to_pylist() for name in table.column_names}


def read_lines(path: Path, kind: type[T] | Any) -> Iterator[tuple[int, Any]]:
    """(row, record) of a file of JSON lines, plain or zstd by its name.

    Raises:
        InvalidData: the file is missing, or a line is not a ``kind``.
    """
    decoder = msgspec.json.Decoder(kind)
    with found(path).open("rb") as raw:
        packed = path.suffix == ".zst"
        lines = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(raw)) if packed else raw
        try:
            for row, line in enumerate(lines, start=1):
                if line.strip():
                    yield row, _decoded(decoder, path, row, line)
        except zstandard.ZstdError as error:
            raise InvalidData(str(path), None, "file", str(error), "zstd") from error


def one_of(folder: Path, *names: str) -> Path:
    """The first of these files that is there.

    Raises:
        InvalidData: none is.
    """
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise InvalidData(str(folder), None, "files", "no such file", " or ".join(names))


def found(path: Path) -> Path:
    """The path, if it is a file.

    Raises:
        InvalidData: it is not.
    """
    if not path.is_file():
        raise InvalidData(str(path), None, "file", "missing", "a file of the data set")
    return path


def _decoded(decoder: msgspec.json.Decoder[Any], path: Path, row: int, line: bytes) -> Any:
    try:
        return decoder.decode(line)
    except msgspec.ValidationError as error:
        message = str(error)
        named = re.search(r"field `([^`]+)`", message) or re.search(r"`\$\.?([^`]*)`", message)
        raise InvalidData(str(path), row, named.group(1) if named else "record", message, "as documented") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidData(str(path), row, "record", str(error), "one JSON object a line") from error


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))
