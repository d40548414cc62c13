"""A file of sorted tables that is searched where it lies: opened by memory map, checked block by block as it is touched.

Layout: fixed start (magic, sizes, digest of the head), head as JSON, digests of the body's blocks, body. A table is a
directory over the leading bits of its keys, and rows sorted by key: a look-up touches two blocks, whatever the file's size.
Opening reads the head alone. The sha256 of the head names the file: with the digests in it, it pins every byte.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Mapping
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.keys import Keys
from schemas.errors import Corrupt, Incompatible
from schemas.store import sha256

MAGIC: Final = b"HRPOST02"
#: Bytes that share a digest, and bytes of a digest.
BLOCK: Final = 16_384
DIGEST: Final = 8
#: Magic, bytes of the head's JSON, number of blocks, digest of JSON and digests.
_START: Final = len(MAGIC) + 8 + 8 + 16
#: Rows of a table that share an entry of its directory, about.
_CROWD: Final = 8
REMEDY: Final = "use the one before it, or write it again: `headrace replay --topic posteriors.snapshots --into NAME`"

ROW: Final = np.dtype([("key", "<u8"), ("mean", "<f4"), ("n", "<f4")])

Data = bytes | mmap.mmap
Ints = NDArray[np.int64]


class Place(msgspec.Struct, frozen=True):
    """Where a table lies in the body: its rows, bits of its directory, and the two offsets."""

    rows: int
    bits: int
    directory: int
    start: int


class Head(msgspec.Struct, frozen=True):
    """What the file says of itself; ``about`` is its user's."""

    body: int
    tables: dict[str, Place]
    about: msgspec.Raw


def pack(about: msgspec.Struct, tables: Mapping[str, NDArray[np.void]]) -> bytes:
    """The file of ``tables``, arrays of `ROW` sorted by key."""
    body, places = bytearray(), dict[str, Place]()

    def put(array: NDArray[Any]) -> int:
        at = len(body)
        body.extend(array.tobytes())
        body.extend(bytes(-len(body) % 8))
        return at

    for name, rows in tables.items():
        bits = max(0, int(len(rows) / _CROWD).bit_length())
        edges = np.arange((1 << bits) + 1, dtype=np.uint64)
        starts = np.searchsorted(_bucket(rows["key"], bits), edges).astype("<u4")
        places[name] = Place(len(rows), bits, put(starts), put(rows))
    head = msgspec.json.encode(Head(len(body), places, msgspec.Raw(msgspec.json.encode(about))))
    head += b" " * (-len(head) % 8)
    blocks = range(0, len(body), BLOCK)
    digests = b"".join(_digest(bytes(body[at : at + BLOCK])) for at in blocks)
    sizes = len(head).to_bytes(8, "little") + len(blocks).to_bytes(8, "little")
    return MAGIC + sizes + _digest(head + digests, 16) + head + digests + bytes(body)


class SnapshotFile:
    """Reads what `pack` made. Thread-safe: at worst a block is checked twice.

    Raises:
        Corrupt: the file is cut short or its head is altered; or later, where a look-up touches a block that is.
        Incompatible: another version of Headrace wrote it.
    """

    def __init__(self, data: Data, name: str = "posterior snapshot") -> None:
        self._data, self._name = data, name
        start = data[:_START]
        if len(start) == _START and start[:6] == MAGIC[:6] and start[:8] != MAGIC:
            raise Incompatible(f"format of {name}", MAGIC.decode(), start[:8].decode("ascii", "replace"), REMEDY)
        if len(start) < _START or start[:8] != MAGIC:
            raise Corrupt(name, f"it begins with {start[:8]!r}, but must begin with {MAGIC!r} and {_START} bytes", REMEDY)
        size, blocks = (int.from_bytes(start[at : at + 8], "little") for at in (8, 16))
        self._body = _START + size + blocks * DIGEST
        if len(data) < self._body:
            raise Corrupt(name, f"{len(data)} bytes, but its head alone has {self._body}", REMEDY)
        if _digest(data[_START : self._body], 16) != start[24:]:
            raise Corrupt(name, "the head's digest is not the one it was written with", REMEDY)
        self.head: Head = msgspec.json.decode(data[_START : _START + size], type=Head)
        whole = self._body + self.head.body
        if len(data) != whole:
            raise Corrupt(name, f"{len(data)} bytes, but must be {whole}", REMEDY)
        self._digests = data[_START + size : self._body]
        self._sound, self._whole = np.zeros(blocks, np.bool_), False

    @property
    def sha256(self) -> str:
        """Names the content: of everything before the body."""
        return sha256(self._data[: self._body])

    def verify(self) -> None:
        """Check every block."""
        self._check(np.arange(len(self._sound)))
        self._whole = True

    def find(self, table: str, key_N: Keys) -> tuple[NDArray[np.void], NDArray[np.bool_]]:
        """Rows [N] of the keys and whether each is there; what is not has a row that means nothing."""
        place = self.head.tables[table]
        if not place.rows or not len(key_N):
            return np.zeros(len(key_N), ROW), np.zeros(len(key_N), np.bool_)
        bucket_N = _bucket(key_N, place.bits).astype(np.int64)
        self._touch(place.directory + 4 * bucket_N, 8)
        directory = self._array(place.directory, (1 << place.bits) + 1, np.dtype("<u4"))
        low_N, high_N = directory[bucket_N].astype(np.int64), directory[bucket_N + 1]
        widest = int((high_N - low_N).max())
        if not widest:
            return np.zeros(len(key_N), ROW), np.zeros(len(key_N), np.bool_)
        self._touch(place.start + ROW.itemsize * low_N, ROW.itemsize * widest, place.start + ROW.itemsize * place.rows)
        rows = self._array(place.start, place.rows, ROW)
        # A bucket holds a few rows: all of them are compared at once. What lies beyond a bucket has other leading bits.
        at_NW = np.minimum(low_N[:, None] + np.arange(widest), place.rows - 1)
        same_NW = rows["key"][at_NW] == key_N[:, None]
        first_N = same_NW.argmax(axis=1)
        line_N = np.arange(len(key_N))
        return rows[at_NW[line_N, first_N]], same_NW[line_N, first_N]

    def rows(self, table: str) -> NDArray[np.void]:
        """All rows of a table, checked."""
        self.verify()
        place = self.head.tables[table]
        return self._array(place.start, place.rows, ROW)

    def _array(self, at: int, count: int, dtype: np.dtype[Any]) -> NDArray[Any]:
        return np.frombuffer(self._data, dtype, count, self._body + at)

    def _touch(self, first_N: Ints, width: int, end: int = 0) -> None:
        """Check the blocks of ``width`` bytes from each offset of the body; a reach past ``end`` is cut off there."""
        if self._whole:
            return
        last_N = first_N + max(width, 1) - 1
        if end:
            first_N, last_N = np.minimum(first_N, end - 1), np.minimum(last_N, end - 1)
        low_N, high_N = first_N // BLOCK, last_N // BLOCK
        if self._sound[low_N].all() and self._sound[high_N].all() and int((high_N - low_N).max()) <= 1:
            return
        for step in range(int((high_N - low_N).max()) + 1):
            self._check(np.unique(np.minimum(low_N + step, high_N)))

    def _check(self, blocks: Ints) -> None:
        for block in blocks[~self._sound[blocks]].tolist():
            at = self._body + block * BLOCK
            written = self._digests[block * DIGEST : (block + 1) * DIGEST]
            found = _digest(self._data[at : min(at + BLOCK, self._body + self.head.body)])
            if found != written:
                told = f"the digest of block {block} (bytes {at} on) is {found.hex()}, but must be {written.hex()}"
                raise Corrupt(self._name, told, REMEDY)
            self._sound[block] = True


def _bucket(key_N: Keys, bits: int) -> Keys:
    """The leading ``bits`` of each key; a shift by all 64 has no meaning."""
    return key_N >> np.uint64(64 - bits) if bits else np.zeros(len(key_N), np.uint64)


def _digest(data: bytes, size: int = DIGEST) -> bytes:
    return hashlib.blake2b(data, digest_size=size).digest()
