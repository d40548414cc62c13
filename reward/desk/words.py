"""Words that people write for others to read: no character in them may be an order to a terminal, or be no text at all."""

from __future__ import annotations

import unicodedata
from typing import Final

from schemas.errors import InvalidRequest

#: Control characters, and halves of a character: what is left of bytes that are no UTF-8.
_UNREADABLE: Final = frozenset({"Cc", "Cs"})


def readable(what: str, text: str, *, lines: bool = False) -> str:
    """Text without blanks around it; ``lines``: it may have more than one.

    Raises:
        InvalidRequest: it holds a character that nobody can read.
    """
    for character in text:
        if unicodedata.category(character) in _UNREADABLE and not (lines and character in "\n\r\t"):
            raise InvalidRequest(
                what, text, "text that can be read: UTF-8, no control characters", f"take out {character!r}"
            )
    return text.strip()
