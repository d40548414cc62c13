"""Words of queries and titles: one way to cut them, used for query keys, word overlap and keywords alike."""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache
from typing import Final

#: Numbers with inner points or slashes stay whole ("3/4", "1.5"); ideographs are words of their own.
_IDEOGRAPHS: Final = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
_LETTERS: Final = rf"[^\W_{_IDEOGRAPHS}]"


def _marks() -> str:
    """Vowel signs and accents that stand behind a letter, for a character class; not what only chooses a glyph.

    Python counts no mark to a word. Left out they part words, and make one of Hindi's "day" and "donation".
    """
    marks = (chr(c) for c in range(0x300, 0x20000) if unicodedata.category(chr(c)) in ("Mn", "Mc"))
    return "".join(m for m in marks if not re.match(f"[{_IDEOGRAPHS}]", m) and "VARIATION" not in unicodedata.name(m))


_WORD: Final = re.compile(rf"\d+(?:[./]\d+)+|[{_IDEOGRAPHS}]|{_LETTERS}+")
#: The same with marks; it takes three times as long.
_MARKED_WORD: Final = re.compile(rf"{_WORD.pattern}(?:[{_marks()}]{_LETTERS}*)*")

#: Words that end in s and are no plurals.
_WHOLE: Final = frozenset({"gas", "glass", "brass", "bus", "lens", "plus", "canvas", "christmas", "this", "is", "as", "us"})


def tokens(text: str) -> list[str]:
    """Lower-case words of ``text``, in order; punctuation is dropped."""
    # Folding case can undo the normal form, so it is made twice.
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return (_WORD if folded.isascii() else _MARKED_WORD).findall(folded)


@lru_cache(maxsize=65_536)
def normalise(query: str) -> str:
    """The key of a query: its words joined by single spaces. Idempotent; empty for a query without words."""
    return " ".join(tokens(query))


@lru_cache(maxsize=262_144)
def stem(word: str) -> str:
    """The word without its plural ending. Words of up to three letters stay."""
    if len(word) <= 3 or word in _WHOLE or word.endswith(("ss", "us", "is")) or not word.endswith("s"):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("ches", "shes", "xes", "sses", "zes")):
        return word[:-2]
    return word[:-1]


def stems(text: str) -> list[str]:
    """`tokens`, each reduced by `stem`."""
    return [stem(word) for word in tokens(text)]
