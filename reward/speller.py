"""Typos: the known word nearest a misspelt one, by symmetric deletion: a look-up costs the same in any vocabulary."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Final

#: Only so many first letters are indexed: bounds the index for long words.
PREFIX: Final = 8


class Speller:
    """``counts``: known words with their frequency; the more frequent of two equally near words wins."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = dict(counts)

    def correct(self, word: str) -> str | None:
        """The word itself if known, the nearest known word within `reach` of it, or None.

        Distance counts inserted, deleted, replaced and swapped neighbouring letters. Ties: the more frequent word, then
        the alphabet.
        """
        if word in self._counts:
            return word
        most = reach(word)
        if most == 0:
            return None
        candidates = {known for form in _deletes(word[:PREFIX], most) for known in self._index.get(form, ())}
        near = ((distance(word, known), -self._counts[known], known) for known in candidates)
        best = min((entry for entry in near if entry[0] <= min(most, reach(entry[2]))), default=None)
        return best[2] if best else None

    @cached_property
    def _index(self) -> dict[str, list[str]]:
        index: dict[str, list[str]] = {}
        for word in sorted(self._counts):
            # A word one letter from an 8-letter one may itself be looked up with the larger reach.
            for form in _deletes(word[:PREFIX], reach(word + "  ")):
                index.setdefault(form, []).append(word)
        return index


def reach(word: str) -> int:
    """How many edits a word may be away: none below 4 letters or with a digit, 1 below 8 letters, else 2."""
    if len(word) < 4 or any(letter.isdigit() for letter in word):
        return 0
    return 1 if len(word) < 8 else 2


def distance(a: str, b: str) -> int:
    """Edits between two words (optimal string alignment)."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        before, last, row = row, before, [i]
        for j, y in enumerate(b, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1]


def _deletes(word: str, most: int) -> Iterator[str]:
    """The word and everything left of it after deleting up to ``most`` letters."""
    forms = {word}
    for _ in range(most):
        forms |= {form[:n] + form[n + 1 :] for form in forms for n in range(len(form))}
    return iter(sorted(forms))
