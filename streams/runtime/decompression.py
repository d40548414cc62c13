"""Compressed batches are unpacked within a bound, whatever they expand to.

A batch of a few kilobytes can hold gigabytes. One that stays below the bound is unpacked as ever. Of one that does not, each
record is read past what it may be: a value over the record limit keeps one byte more than that limit, so that whoever
decodes it refuses it for its size. If it is over the bound even so, it is refused as a whole: a valid record cut short would
be refused here, but not by a recovery, whose client reads it whole. Snappy cannot be read in pieces, but expands no more than 22 times.

What a zstd frame says of its size is not believed, since others may follow it.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any, Final, Protocol

import cramjam
import lz4.frame
import zstandard

from schemas.codec import MAX_RECORD_BYTES
from schemas.errors import Corrupt

#: Bytes that one batch may take up once it is unpacked.
MAX_BATCH_BYTES: Final = 64 * 2**20
#: Records of a batch over that bound: each is read in Python, so more would hold up the worker for longer than its group waits.
MAX_BATCH_RECORDS: Final = 100_000
#: What is kept of a key in a batch over that bound: no agent looks at keys.
KEY_BYTES: Final = 64

#: Window of a zstd frame: level 22 has this one, and Java's clients read no larger (bytes).
MAX_WINDOW_BYTES: Final = 2**27

_STEP: Final = 2**16
#: What the decoders raise of bytes that are not of their format.
_BROKEN: Final = (zlib.error, EOFError, RuntimeError, zstandard.ZstdError, struct.error, cramjam.DecompressionError)


class Stream(Protocol):
    """Anything that is read piece by piece."""

    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""


def unpack(stream: Stream, bound: int = MAX_BATCH_BYTES) -> bytes:
    """The records section of a batch, cut so that it takes about ``bound`` bytes at most.

    Raises:
        Corrupt, and the batch is passed over as a whole (`streams.runtime.overfull`): over the bound with its longest values cut, or
            with more than `MAX_BATCH_RECORDS` records, or a section that ends in a record.
    """
    whole = stream.read(bound + 1)
    while len(whole) <= bound and (more := stream.read(bound + 1 - len(whole))):
        whole += more
    if len(whole) <= bound:
        return whole
    parts: list[bytes] = []
    rest, room = _Bytes(whole, stream), bound
    while (record := _record(rest)) is not None:
        parts.append(record)
        room -= len(record)
        if room < 0 or len(parts) > MAX_BATCH_RECORDS:
            found = f"over {bound} bytes" + (f" and {MAX_BATCH_RECORDS} records" if room >= 0 else "") + " in it"
            raise Corrupt("a compressed batch", found, "let its producer make smaller batches, and send these records again")
    return b"".join(parts)


class _Bytes:
    """Reads on from what has been read: exactly so many bytes, or past them."""

    def __init__(self, begun: bytes, rest: Stream) -> None:
        self._begun, self._rest = io.BytesIO(begun), rest

    def some(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        return self._begun.read(size) or self._rest.read(size)

    def read(self, size: int, keep: int) -> bytes:
        """The first ``keep`` of the next ``size`` bytes; the others are passed over."""
        kept = bytearray()
        while size:
            piece = self.some(min(size, _STEP))
            if not piece:
                raise Corrupt("a compressed batch", "it ends in a record", "find its producer")
            size -= len(piece)
            kept += piece[: max(0, keep - len(kept))]
        return bytes(kept)

    def varint(self) -> int | None:
        """Kafka's zigzag number, or None at the end."""
        value = shift = 0
        while piece := self.some(1):
            value |= (piece[0] & 0x7F) << shift
            if piece[0] < 0x80:
                return (value >> 1) ^ -(value & 1)
            shift += 7
        return None


def _record(stream: _Bytes) -> bytes | None:
    """The next record of a section, without headers and with its value cut past the record limit; None at the end."""
    if stream.varint() is None:  # its length, which changes when it is cut
        return None
    body = stream.read(1, 1) + _varint(stream.varint() or 0) + _varint(stream.varint() or 0)
    body += _field(stream, KEY_BYTES) + _field(stream, MAX_RECORD_BYTES + 1)
    for _ in range(2 * (stream.varint() or 0)):
        stream.read(max(0, stream.varint() or 0), 0)
    body += _varint(0)
    return _varint(len(body)) + body


def _field(stream: _Bytes, keep: int) -> bytes:
    size = stream.varint()
    if size is None or size < 0:
        return _varint(-1)
    kept = stream.read(size, keep)
    return _varint(len(kept)) + kept


def _varint(number: int) -> bytes:
    value = (number << 1) ^ (number >> 63)
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


class _Frame(io.RawIOBase):
    """The one frame that a section of gzip or lz4 is, as a stream."""

    def __init__(self, data: bytes, decoder: Any) -> None:
        self._packed, self._decoder, self._left = io.BytesIO(data), decoder, b""

    def readable(self) -> bool:
        """Yes: who buffers it asks."""
        return True

    def readinto(self, into: Any) -> int:
        """See `io.RawIOBase.readinto`.

        Raises:
            Corrupt: something follows the frame. A recovery's client would leave it out, and say nothing.
        """
        piece = self._some(min(len(into), 16 * _STEP))
        into[: len(piece)] = piece
        return len(piece)

    def _some(self, size: int) -> bytes:
        """Up to ``size`` bytes; none at the end. A little is handed over at a time: a decoder copies what it does not take."""
        while not self._decoder.eof:
            given = self._left or self._packed.read(_STEP)
            piece: bytes = self._decoder.decompress(given, size)
            self._left = getattr(self._decoder, "unconsumed_tail", b"")
            if piece or not given:
                return piece
        if self._decoder.unused_data or self._packed.read(1):
            raise Corrupt(
                "a compressed batch", "it goes on behind its frame", "find its producer: one frame a batch is read"
            )
        return b""


def _section(read: Callable[[], Stream]) -> bytes:
    """`unpack`; what the decoder does not understand is `Corrupt` as well."""
    try:
        return unpack(read())
    except _BROKEN as error:
        raise Corrupt("a compressed batch", str(error) or type(error).__name__, "find its producer") from error


def gzip(data: bytes) -> bytes:
    """As the client's function of the format, within the bound; of one frame alone (`_Frame`)."""
    return _section(lambda: io.BufferedReader(_Frame(data, zlib.decompressobj(wbits=31))))


def lz4_(data: bytes) -> bytes:
    """See `gzip`."""
    return _section(lambda: io.BufferedReader(_Frame(data, lz4.frame.LZ4FrameDecompressor())))


def zstd(data: bytes) -> bytes:
    """As the client's function, within the bound, over all frames. The decoder holds the frame's window meanwhile, `MAX_WINDOW_BYTES` at most."""
    decoder = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    with decoder.stream_reader(data, read_across_frames=True) as stream:
        return _section(lambda: stream)


def snappy(data: bytes, plain: Callable[[bytes], bytes]) -> bytes:
    """As ``plain``, the client's own function, then cut to the bound."""
    return _section(lambda: io.BytesIO(plain(data)))
