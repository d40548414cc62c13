"""The lines of a log file, read with bounded buffers: `.jsonl`, or `.jsonl.zst`.

Memory stays below `WINDOW_BYTES` (zstd's window, packed files only) and a few times `BLOCK_BYTES`, whatever the file says. A
line without an end, and a packed file that expands past all measure, are refused by the bound they break.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import zstandard

from schemas.codec import MAX_RECORD_BYTES
from schemas.errors import InvalidData

#: One read (bytes), and the widest window that a packed file may ask for (bytes): that of `zstd --long`.
BLOCK_BYTES = 1 << 20
WINDOW_BYTES = 1 << 27
#: A packed file may expand this many times, beyond the first `FREE_BYTES`. Real logs come to ten or fifty.
MAX_RATIO, FREE_BYTES = 1_000, 64 << 20

Progress = Callable[[int, int], None]


def ignore(done: int, total: int) -> None:
    """The progress that nobody watches."""


def blocks_of_lines(path: Path, on_progress: Progress = ignore) -> Iterator[list[bytes]]:
    """Whole lines without their ends, blank ones included, in blocks of about `BLOCK_BYTES`.

    ``on_progress(done, total)`` is told the file's own bytes, packed or not.

    Raises:
        InvalidData: a line over `MAX_RECORD_BYTES`, a packed file that does not unpack or expands past `MAX_RATIO`.
    """
    total = path.stat().st_size
    with path.open("rb") as file:
        if path.suffix == ".zst":
            source = zstandard.ZstdDecompressor(max_window_size=WINDOW_BYTES).stream_reader(file, read_across_frames=True)
            yield from _lines(path, source, file, total, on_progress)
        else:
            yield from _lines(path, file, file, total, on_progress)


def _lines(
    path: Path, source: IO[bytes] | zstandard.ZstdDecompressionReader, file: io.BufferedReader, total: int, tell: Progress
) -> Iterator[list[bytes]]:
    rest, row, unpacked = b"", 1, 0
    while block := _read(path, source, row):
        unpacked += len(block)
        taken = file.tell()
        if unpacked > FREE_BYTES + MAX_RATIO * taken:
            bound = f"at most {MAX_RATIO} times the {taken} bytes read of the file, plus {FREE_BYTES}"
            raise InvalidData(str(path), row, "unpacked size", unpacked, bound)
        lines = (rest + block).split(b"\n")
        rest = lines.pop()
        if len(rest) > MAX_RECORD_BYTES:
            raise InvalidData(str(path), row + len(lines), "size", len(rest), f"at most {MAX_RECORD_BYTES} bytes a line")
        if lines:
            yield lines
        row += len(lines)
        tell(taken, total)
    if rest:
        yield [rest]


def _read(path: Path, source: IO[bytes] | zstandard.ZstdDecompressionReader, row: int) -> bytes:
    try:
        return source.read(BLOCK_BYTES)
    except zstandard.ZstdError as error:
        raise InvalidData(str(path), row, "packing", str(error), "zstd, with a window of at most 128 MiB") from error
