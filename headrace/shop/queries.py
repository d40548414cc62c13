"""What people type: types, attributes, brands, synonyms, misspellings; and how well each item answers it.

A query is made from an item that exists, so something always matches it fully. Relevance is by construction:

- 3 the type and every asked attribute match,
- 2 the type matches and one asked attribute is missing,
- 1 the type matches with more missing, or another type of the same category,
- 0 anything else.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from headrace.shop.catalogue import ASKED, TYPE_CATEGORY, TYPES, Columns, words
from headrace.shop.draws import stream
from schemas.errors import InvalidSetting

#: Kinds of queries and how often each is made: (kind, share, asked attributes).
KINDS = (
    ("type", 0.28, 0),
    ("synonym", 0.14, 0),
    ("attribute", 0.24, 1),
    ("brand", 0.12, 1),
    ("two attributes", 0.08, 2),
    ("typo", 0.14, 0),
)

#: Draws after which the shop is said to have too few distinct queries.
MOST_TRIES = 200


class Query(NamedTuple):
    """``wants``: (attribute, value) pairs."""

    text: str
    kind: str
    type_: int
    wants: tuple[tuple[str, int], ...]

    @property
    def category(self) -> int:
        """Number of the type's category."""
        return int(TYPE_CATEGORY[self.type_])


def build_queries(count: int, columns: Columns, seed: int) -> tuple[Query, ...]:
    """Make ``count`` queries with distinct texts, most popular first.

    Raises:
        InvalidSetting: the catalogue does not have so many distinct queries in it.
    """
    rng = stream(seed, "queries")
    shares = np.array([share for _, share, _ in KINDS])
    made: dict[str, Query] = {}
    tries = 0
    while len(made) < count:
        tries += 1
        if tries > MOST_TRIES * count:
            raise InvalidSetting("queries", count, f"at most about {len(made)} for this catalogue", "ask for fewer queries")
        kind, _, asked = KINDS[int(rng.choice(len(KINDS), p=shares))]
        query = _query(kind, asked, int(rng.integers(len(columns.type_N))), columns, rng)
        made.setdefault(query.text, query)
    return tuple(made.values())


def tier_of(query: Query, columns: Columns, rows_N: NDArray[np.int64]) -> NDArray[np.int8]:
    """Relevance tiers [N] of the items at ``rows_N``."""
    types_N = columns.type_N[rows_N]
    missing_N = np.zeros(len(rows_N), dtype=np.int8)
    for attribute, value in query.wants:
        missing_N += columns.asked(attribute)[rows_N] != value
    related_N = (TYPE_CATEGORY[types_N] == query.category).astype(np.int8)
    return np.where(types_N == query.type_, np.maximum(3 - missing_N, 1), related_N).astype(np.int8)


def _query(kind: str, asked: int, row: int, columns: Columns, rng: np.random.Generator) -> Query:
    type_ = int(columns.type_N[row])
    names = TYPES[type_][1].names
    name = names[0]
    if kind == "synonym":
        name = names[int(rng.integers(1, len(names)))]
    elif kind in ("attribute", "two attributes") and rng.random() < 0.25:
        name = names[int(rng.integers(len(names)))]
    elif kind == "typo":
        name = misspell(names[int(rng.integers(len(names)))], rng)
    wants = tuple((attribute, int(columns.asked(attribute)[row])) for attribute in _attributes(kind, asked, type_, rng))
    values = [words(type_, attribute)[value].lower() for attribute, value in wants]
    after = kind == "attribute" and rng.random() < 0.2  # some people put the attribute behind
    text = " ".join([name, *values] if after else [*values, name])
    return Query(text, kind, type_, wants)


def _attributes(kind: str, asked: int, type_: int, rng: np.random.Generator) -> list[str]:
    if kind == "brand":
        return ["brand"]
    named = [attribute for attribute in ASKED[1:] if words(type_, attribute) != ("",)]
    return [str(name) for name in rng.choice(named, asked, replace=False)]


def misspell(text: str, rng: np.random.Generator) -> str:
    """Swap, drop or double one letter of the longest word, never its first."""
    parts = text.split(" ")
    longest = max(range(len(parts)), key=lambda n: len(parts[n]))
    word = parts[longest]
    at = int(rng.integers(1, max(2, len(word) - 1)))
    way = int(rng.integers(3))
    if way == 0 and at + 1 < len(word) and word[at] != word[at + 1]:
        word = word[:at] + word[at + 1] + word[at] + word[at + 2 :]
    elif way == 1:
        word = word[:at] + word[at + 1 :]
    else:
        word = word[: at + 1] + word[at:]
    return " ".join([*parts[:longest], word, *parts[longest + 1 :]])
