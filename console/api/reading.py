"""The bytes of a request's body as plain data; a number that JSON does not have is told by its field."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import jiter
import msgspec

from schemas.errors import InvalidRequest, InvalidWeight

#: What is shown of a body that is no JSON (bytes).
SHOWN: Final = 80


class _Endless(str):
    """A number as it was written, which no float holds: NaN, Infinity, 1e999."""

    __slots__ = ()


def plain(raw: bytes) -> Any:
    """JSON as plain data.

    Raises:
        InvalidWeight: a number that is not finite; with its field.
        InvalidRequest: not JSON, a key twice in an object, or the character zero in a text.
    """
    try:
        fields = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _check_numbers(raw)
        raise InvalidRequest("the body", _shown(raw), f"JSON: {error}", "correct it") from error
    try:
        jiter.from_json(raw, catch_duplicate_keys=True)
    except ValueError as error:
        raise InvalidRequest(
            "the body", _shown(raw), f"JSON whose keys are unique: {error}", "leave one of them out"
        ) from error
    if "\\u0000" in json.dumps(fields):
        raise InvalidRequest("the body", "a text with the character zero", "text without it", "take it out")
    return fields


def _shown(raw: bytes) -> str:
    """Its beginning as text."""
    return raw[:SHOWN].decode("utf-8", "replace")


def _check_numbers(raw: bytes) -> None:
    """JSON has no NaN and no infinity, yet some clients write them, or numbers as large.

    Raises:
        InvalidWeight: one of them is there, in what would be JSON otherwise.
    """
    found = None
    with suppress(json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        fields = json.loads(raw, parse_constant=_Endless, parse_float=_number, parse_int=_number)
        found = next(_endless(fields), None)
    if found is not None:
        where, said = found
        raise InvalidWeight(where or "the whole", str(said), "a finite number", "choose one within its bounds")


def _number(said: str) -> float | _Endless:
    value = float(said)
    return value if math.isfinite(value) else _Endless(said)


def _endless(fields: Any, where: str = "") -> Iterator[tuple[str, _Endless]]:
    """Places and numbers, in the order of the body."""
    if isinstance(fields, _Endless):
        yield where, fields
    elif isinstance(fields, dict):
        for name, value in fields.items():
            yield from _endless(value, f"{where}.{name}".removeprefix("."))
    elif isinstance(fields, list):
        for n, value in enumerate(fields):
            yield from _endless(value, f"{where}[{n}]")
