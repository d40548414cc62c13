"""A trie in a file that is searched where it lies: processes that map it share its pages.

Layout: magic, version, bytes of the head, digest of the head; the head as JSON, with the digest of the body; the arrays of
`Flat`, each on a boundary of 64 bytes. Opening reads the body once, to check it; it is never decoded.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.errors import Corrupt, Incompatible, Unavailable
from schemas.store import Store
from trainers.identifiers.trie import Trie
from trainers.identifiers.trie_flat import Flat

MAGIC: Final = b"HRTRIE"
VERSION: Final = 1
REMEDY: Final = "delete it and build it again from the identifiers"
_START: Final = len(MAGIC) + 2 + 8 + 16
_ALIGN: Final = 64
_SLICE: Final = 1 << 24


class Place(msgspec.Struct, frozen=True):
    """An array of the body."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int


class Head(msgspec.Struct, frozen=True):
    """What the file says of itself; ``source`` is the version of the identifiers, if its writer gave one."""

    level_sizes: tuple[int, ...]
    source: str
    body: int
    digest: str
    places: tuple[Place, ...]


def shared(store: Store, version: str, make: Callable[[], Trie]) -> Trie:
    """The mapped trie of the identifiers of this version, made and written by whoever asks first.

    Raises:
        Corrupt, Incompatible: the file in the store is altered, or of other identifiers.
    """
    path = f"identifiers/{version}/items.trie"
    if not store.exists(path):
        if store.local is not None:
            save(make(), store.local / path, version)
        else:
            with tempfile.TemporaryDirectory() as folder:
                save(make(), Path(folder) / "items.trie", version)
                store.write(path, (Path(folder) / "items.trie").read_bytes())
    return open_trie(store.local_file(path), version)


def save(trie: Trie, path: Path, source: str = "") -> None:
    """Write the file, whole or not at all; changes since the trie was built are merged into it."""
    arrays = _arrays(trie.merged().flat)
    places, at, digest = list[Place](), 0, hashlib.blake2b(digest_size=16)
    for name, array in arrays:
        places.append(Place(name, array.dtype.newbyteorder("<").str, array.shape, at))
        at += array.nbytes + -array.nbytes % _ALIGN
        digest.update(_padded(array))
    head = msgspec.json.encode(Head(trie.level_sizes, source, at, digest.hexdigest(), tuple(places)))
    head += b" " * (-(_START + len(head)) % _ALIGN)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with scratch.open("wb") as file:
        file.write(MAGIC + VERSION.to_bytes(2, "little") + len(head).to_bytes(8, "little") + _digest(head) + head)
        for _, array in arrays:
            file.write(_padded(array))
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(path)


def open_trie(path: Path, source: str = "") -> Trie:
    """Map the file. What is written into the arrays stays this process's own and never reaches the file.

    Raises:
        Unavailable: there is no such file.
        Corrupt: it is cut short or altered; the message names the part.
        Incompatible: another version of Headrace wrote it, or it is of other identifiers than ``source``.
    """
    try:
        with path.open("rb") as file:
            # Private rather than read-only: torch takes writable memory alone, and untouched pages are shared all the same.
            data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if os.fstat(file.fileno()).st_size else b""
    except FileNotFoundError as error:
        raise Unavailable(str(path), "no such file", "build the trie and save it") from error
    head, body = _head(data, str(path))
    if source and head.source != source:
        raise Incompatible(f"identifiers of {path}", source, head.source, REMEDY)
    arrays: dict[str, NDArray[Any]] = {}
    for place in head.places:
        count = int(np.prod(place.shape, dtype=np.int64))
        arrays[place.name] = np.frombuffer(data, place.dtype, count, body + place.offset).reshape(place.shape)
    levels = range(len(head.level_sizes))
    starts, codes, crowded, bitmaps = (
        tuple(arrays[f"{name}{level}"] for level in levels) for name in ("starts", "codes", "crowded", "bitmaps")
    )
    whole = arrays["leaf_N"], arrays["item_start"], arrays["item_rows"]
    return Trie.of(Flat(head.level_sizes, whole[0], starts, codes, *whole[1:], crowded, bitmaps))


def _head(data: mmap.mmap | bytes, name: str) -> tuple[Head, int]:
    """The checked head, and where the checked body begins."""
    start = data[:_START]
    if start[: len(MAGIC)] != MAGIC or len(start) < _START:
        raise Corrupt(name, f"it begins with {start[: len(MAGIC)]!r}, but must begin with {MAGIC!r}", REMEDY)
    version = int.from_bytes(start[len(MAGIC) : len(MAGIC) + 2], "little")
    if version != VERSION:
        raise Incompatible(f"format of {name}", VERSION, version, REMEDY)
    body = _START + int.from_bytes(start[len(MAGIC) + 2 : len(MAGIC) + 10], "little")
    written = data[_START:body]
    if _digest(written) != start[-16:]:
        raise Corrupt(name, "the head's digest is not the one it was written with", REMEDY)
    head = msgspec.json.decode(written, type=Head)
    if len(data) != body + head.body:
        raise Corrupt(name, f"{len(data)} bytes, but must be {body + head.body}", REMEDY)
    digest = hashlib.blake2b(digest_size=16)
    for at in range(body, len(data), _SLICE):
        digest.update(data[at : at + _SLICE])
    if digest.hexdigest() != head.digest:
        raise Corrupt(name, "the body's digest is not the one it was written with", REMEDY)
    return head, body


def _arrays(flat: Flat) -> list[tuple[str, NDArray[Any]]]:
    named: list[tuple[str, NDArray[Any]]] = [
        ("leaf_N", flat.leaf_N),
        ("item_start", flat.item_start),
        ("item_rows", flat.item_rows),
    ]
    for name in ("starts", "codes", "crowded", "bitmaps"):
        named += [(f"{name}{level}", array) for level, array in enumerate(getattr(flat, name))]
    return named


def _padded(array: NDArray[Any]) -> bytes:
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes() + bytes(-array.nbytes % _ALIGN)


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
