"""Where two records of one kind differ, value by value, in what they are compared by."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from streams.replaying.fields import REVISION, UNCOMPARED


def changes(a: msgspec.Struct, b: msgspec.Struct) -> dict[str, tuple[Any, Any]]:
    """Path of a value (``items[0] shoe-1.clicks``) -> what each says there; None: it says nothing."""
    one, other = dict(_values(a)), dict(_values(b))
    paths = [*one, *(path for path in other if path not in one)]
    return {path: (one.get(path), other.get(path)) for path in paths if one.get(path) != other.get(path)}


def _values(said: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Depth first, in the order of the fields. An element that has an ``item`` is named by it."""
    if isinstance(said, msgspec.Struct):
        for name in said.__struct_fields__:
            if name not in UNCOMPARED and name != REVISION:
                yield from _values(getattr(said, name), f"{path}.{name}" if path else name)
    elif isinstance(said, tuple):
        for n, element in enumerate(said):
            item = getattr(element, "item", "")
            yield from _values(element, f"{path}[{n}]{' ' * bool(item)}{item}")
    else:
        yield path, said
