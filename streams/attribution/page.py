"""An impression as canonical JSON (`schemas.codec.event_decoder`), taken apart and put together as bytes.

Canonical means that its keys stand once, in the order of the struct, without a space between them. A quote inside a text is
written with a backslash before it, so ``,"query":`` with nothing before its first quote is that key and nothing else; the
first one is the impression's own, as no key of that name stands deeper. What a view takes over from its page is therefore
a stretch of bytes, and never decoded.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from schemas.codec import encode
from schemas.events import Impression
from schemas.views import View

_impression = msgspec.json.Decoder(Impression).decode
_encode = msgspec.json.Encoder().encode

_REQUEST, _USER, _QUERY, _ITEMS, _SESSION, _VERSION = (
    b',"%b":' % name for name in (b"request_id", b"user", b"query", b"items", b"session", b"v")
)
_END = b',"v":%d}' % msgspec.structs.fields(View)[-1].default


class Page(NamedTuple):
    """Stretches of a canonical impression: JSON texts of its names, its items, and all members around them."""

    request_id: bytes
    user: bytes
    query: bytes  #: member and all, from its comma on
    items: bytes
    rest: bytes  #: the members after the items, from their comma on, without ``v``


def canonical(raw: bytes) -> bytes:
    """An impression that was accepted, as canonical JSON."""
    return encode(_impression(raw))


def page(raw: bytes) -> Page:
    """A canonical impression's stretches."""
    request = raw.index(_REQUEST)
    user = raw.index(_USER, request)
    query = raw.index(_QUERY, user)
    items = raw.index(_ITEMS, query)
    rest = raw.index(_SESSION, items)
    return Page(
        raw[request + len(_REQUEST) : user],
        raw[user + len(_USER) : query],
        raw[query:items],
        raw[items + len(_ITEMS) : rest],
        raw[rest : raw.rindex(_VERSION)],
    )


def view(of: Page, status: str, revision: int, ts: int, emitted_at: int, items: bytes) -> bytes:
    """A `schemas.views.View` of that page as `encode` writes it."""
    return (
        b'{"type":"view","view_id":%b:%b:%d","request_id":%b,"status":"%b","revision":%d,"ts":%d,"emitted_at":%d,"user":%b%b,"items":%b%b%b'
        % (
            of.request_id[:-1], status.encode(), revision, of.request_id, status.encode(), revision, ts, emitted_at, of.user,
            of.query, items, of.rest, _END,
        )
    )  # fmt: skip


def shows(raw: bytes, item: str) -> bool:
    """Whether the item is on the page of a canonical impression."""
    return b'{"item":%b,"position":' % _encode(item) in raw
