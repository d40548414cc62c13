"""The version of a record that travels: the default of its field ``v``, so that raising it is one edit.

A reader of version n takes n and n - 1. A record without ``v`` is of version 1: whoever writes it knew of no other.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final, get_args

import msgspec

#: What a record without ``v`` is.
FIRST: Final = 1


@cache
def version_of(record: type[msgspec.Struct]) -> int:
    """The version that this code writes, and the newest that it reads.

    Raises:
        TypeError: the struct does not travel: it has no field ``v`` whose default is a whole number from 1, or would
            leave out one above 1 when it is written.
    """
    for field in msgspec.structs.fields(record):
        if field.name == "v" and isinstance(field.default, int) and field.default >= FIRST:
            if record.__struct_config__.omit_defaults and field.default > FIRST:
                raise TypeError(f"{record.__name__} would not write its version {field.default}; take omit_defaults off")
            return field.default
    raise TypeError(f"{record.__name__} has no version; give it a field `v: int = {FIRST}`")


def oldest(version: int) -> int:
    """The oldest version that a reader of ``version`` takes."""
    return max(FIRST, version - 1)


def members(kind: Any) -> tuple[type[msgspec.Struct], ...]:
    """The structs of a union in their order, or the one struct that ``kind`` is."""
    return get_args(kind) or (kind,)
