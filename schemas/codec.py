"""JSON on the wire: encode a struct, decode raw bytes with the version rule, name what is wrong.

A reader of version n accepts n and n - 1 (`schemas.versions`), and ignores fields it does not know. Every struct that
travels has ``v``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import jiter
import msgspec

from schemas.errors import InvalidEvent
from schemas.quarantine import Reason
from schemas.versions import FIRST, members, oldest, version_of

#: Larger records are refused before they are parsed (bytes).
MAX_RECORD_BYTES = 1_000_000

#: What the decoder raises: not JSON, text that is not UTF-8, nested too deeply.
UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_encoder = msgspec.json.Encoder()


class Versioned(Protocol):
    """A struct that travels: it has a schema version."""

    v: int


S = TypeVar("S", bound=Versioned)


def encode(record: msgspec.Struct) -> bytes:
    """The record as JSON bytes."""
    return _encoder.encode(record)


def decode(kind: type[S] | Any, raw: bytes, *, limit: int = MAX_RECORD_BYTES) -> Any:
    """Decode ``raw`` as ``kind`` (a struct or a tagged union of structs).

    Raises:
        InvalidEvent: too large, not JSON, not of this form, or a version that this reader does not take;
            its ``reason`` is the quarantine code.
    """
    if len(raw) > limit:
        raise InvalidEvent(Reason.TOO_LARGE, "record size", len(raw), f"at most {limit} bytes")
    try:
        record = _decoder(kind).decode(raw)
    except msgspec.ValidationError as error:
        _check_version(kind, raw)  # a form of the future is an unknown version, not an invalid record
        raise InvalidEvent(Reason.INVALID, "record", str(error), "of the documented form") from error
    except UNREADABLE as error:
        raise InvalidEvent(Reason.UNREADABLE, "record", str(error), "valid JSON") from error
    version, ending = _today(record.__class__)
    if record.v != version or (ending and not raw.endswith(ending)):
        _check_version(kind, raw)
    return record


def event_decoder(kind: Any, limit: int) -> Callable[[bytes], tuple[Any, bool]]:
    """A function as `decode` is for ``kind``, for what outsiders write: a key that stands twice in an object is refused
    too, as every reader of such a record might take another of its values (`InvalidEvent`, unreadable).

    With the event it says whether the record is canonical: byte for byte what `encode` makes of the event.
    """
    fast, encode_again = _decoder(kind).decode, _encoder.encode
    today = {member: version_of(member) for member in members(kind)}

    def decode_event(raw: bytes) -> tuple[Any, bool]:
        try:
            event = fast(raw) if len(raw) <= limit else None
        except UNREADABLE:
            event = None
        # What is canonical has no key twice; anything else is looked at key by key.
        if event is not None and encode_again(event) == raw and event.v == today[event.__class__]:
            return event, True
        event = decode(kind, raw, limit=limit)
        try:
            jiter.from_json(raw, catch_duplicate_keys=True)
        except ValueError as error:
            raise InvalidEvent(Reason.UNREADABLE, "record", str(error), "JSON whose keys are unique") from error
        return event, False

    return decode_event


class _Head(msgspec.Struct):
    type: str = ""
    v: int = FIRST


def _check_version(kind: Any, raw: bytes) -> None:
    try:
        head = _decoder(_Head).decode(raw)
    except UNREADABLE:
        return
    versions = _versions(kind)
    newest = versions.get(head.type, max(versions.values()))
    if not oldest(newest) <= head.v <= newest:
        raise InvalidEvent(Reason.UNKNOWN_VERSION, "schema version", head.v, f"{oldest(newest)} to {newest}")


@lru_cache(maxsize=64)
def _today(record: type[msgspec.Struct]) -> tuple[int, bytes]:
    """The version, and how `encode` ends such a record. One that lacks ``v`` decodes as of today but ends otherwise."""
    version = version_of(record)
    return version, b"" if version == FIRST else b',"v":%d}' % version


@lru_cache(maxsize=64)
def _versions(kind: Any) -> dict[object, int]:
    return {member.__struct_config__.tag: version_of(member) for member in members(kind)}


@lru_cache(maxsize=64)
def _decoder(kind: Any) -> msgspec.json.Decoder[Any]:
    return msgspec.json.Decoder(kind)
