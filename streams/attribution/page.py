"""An impression as canonical JSON (`schemas.codec.event_decoder`), cut and put together as bytes.

Canonical means that its keys stand once, in the order of the struct, without a space between them. A quote inside a text is
written with a backslash before it, so ``,"query":`` is that key and nothing else; the first one is the impression's own, as
no key of that name stands deeper. What a view takes over from its page is therefore one stretch of bytes, never decoded.
"""

from __future__ import annotations

import msgspec

from schemas.codec import encode
from schemas.events import Impression
from schemas.views import View

_impression = msgspec.json.Decoder(Impression).decode
_encode = msgspec.json.Encoder().encode

_REQUEST, _USER, _QUERY, _VERSION = (b',"%b":' % name for name in (b"request_id", b"user", b"query", b"v"))
_VIEW = b'{"type":"view","view_id":%b:%b:%d"%b,"status":"%b","revision":%d,"ts":%d,"emitted_at":%d%b,"v":%d}'
_V = msgspec.structs.fields(View)[-1].default


def canonical(raw: bytes) -> bytes:
    """An impression that was accepted, as canonical JSON."""
    return encode(_impression(raw))


def view(raw: bytes, status: str, revision: int, ts: int, emitted_at: int) -> bytes:
    """A `schemas.views.View` of a canonical impression, its items as they stand there."""
    request = raw.index(_REQUEST)
    user = raw.index(_USER, request)
    named, said, rest = raw[request:user], status.encode(), raw[user : raw.rindex(_VERSION)]
    request_id = named[len(_REQUEST) : -1]  # without its second quote
    return _VIEW % (request_id, said, revision, named, said, revision, ts, emitted_at, rest, _V)


def shows(raw: bytes, item: str) -> bool:
    """Whether the item is on the page of a canonical impression."""
    return _head(item) in raw


def entry(raw: bytes, item: str) -> tuple[int, int]:
    """Where the item stands first on the page of a canonical impression: the stretch of its JSON object."""
    head = _head(item)
    start = raw.index(head)
    return start, raw.index(b"}", start + len(head)) + 1  # what follows in it are numbers


def _head(item: str) -> bytes:
    return b'{"item":%b,"position":' % _encode(item)
