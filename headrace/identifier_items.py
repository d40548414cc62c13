"""The work behind `headrace identifiers items`: what is known of items now, the changes since the build taken in."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from schemas.descriptions import shortest
from schemas.errors import InvalidRequest
from trainers.identifiers.life import Life
from trainers.identifiers.sids import Sid


class Item(msgspec.Struct, frozen=True):
    """An item as it is now."""

    item: str
    sid: Sid  #: empty: it has none, because it was removed
    title: str
    category: str
    brand: str
    price: float  #: 0: not known


def items_of(life: Life, names: Sequence[str], below: Sid | None) -> list[Item]:
    """Those named, in that order, then all whose identifier begins with ``below``, in its order; each once.

    Raises:
        InvalidRequest: nobody knows a named item.
    """
    found = [*names, *(sorted(life.below(below), key=life.sid_of) if below is not None else [])]
    return [_item(life, name) for name in dict.fromkeys(found)]


def prefix(text: str, level_sizes: Sequence[int]) -> Sid:
    """The codes of ``3-17``: as many as there are levels, or fewer.

    Raises:
        InvalidRequest: it is not such a text, or a code is none of its level.
    """
    codes = [int(code) if code.isascii() and code.isdecimal() else -1 for code in text.split("-")]
    if len(codes) > len(level_sizes) or any(not 0 <= code < size for code, size in zip(codes, level_sizes, strict=False)):
        sizes = "/".join(map(str, level_sizes))
        raise InvalidRequest(
            "--below", text, f"one to {len(level_sizes)} codes, as 3-17, each below its level's size ({sizes})", "correct it"
        )
    return tuple(codes)


def _item(life: Life, name: str) -> Item:
    said = life.description_of(name)
    if said is None:
        raise InvalidRequest("item", name, "an item of the identifiers, or given one since", "correct its id")
    return Item(name, life.sid_of(name), said.title, said.category, said.brand, shortest(said.price))
