"""The words of items as integer arrays, and a query's words against them: overlap without touching strings.

Every item's title, brand, category and attribute values are padded rows of word numbers, made once. A query's words
are looked up once (a misspelt one through the speller) and then compared with any number of rows at a time.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from reward.lexicon import STOP_WORDS
from reward.speller import Speller
from reward.text import stems
from schemas.catalogue import Catalogue

#: Words kept of a title, a brand, a category, and all attribute values together.
WIDTHS: Final = {"title": 32, "brand": 4, "category": 8, "attributes": 24}

#: Words of a query that are looked at: bounds the memory of a batch.
QUERY_WORDS: Final = 24

#: Okapi BM25's saturation and length normalisation.
K1, B = 1.2, 0.75

#: Weight of a word that only the speller found.
CORRECTED: Final = 0.8

Ints = NDArray[np.int32]
Floats = NDArray[np.float64]
Scalar = TypeVar("Scalar", bound=np.generic)


class QueryWords(NamedTuple):
    """Q words of a query: vocabulary number (-1 unknown), idf, trust (below 1 if corrected), attribute type (-1: none)."""

    id_Q: Ints
    idf_Q: Floats
    trust_Q: Floats
    type_Q: Ints
    number_Q: NDArray[np.bool_]
    brand_Q: NDArray[np.bool_]
    best_cover: float  #: highest share of idf that any title of the catalogue covers
    best_bm25: float  #: the same, each title's share times its saturation
    spelt: str  #: all words of the query, the misspelt ones corrected


class WordIndex:
    """Arrays over N items; ``title_NW`` and its fellows hold word numbers, padded with -2."""

    def __init__(self, catalogue: Catalogue) -> None:
        fields = _words(catalogue, range(len(catalogue)))
        present = Counter(word for row in zip(*fields.values(), strict=True) for word in {w for f in row for w in f})
        self._id = {word: n for n, word in enumerate(sorted(present))}
        self._speller = Speller(present)
        df_V = np.array([present[word] for word in self._id], np.float64)
        self._count = max(1, len(catalogue))
        self._idf_V = np.log1p((self._count - df_V + 0.5) / (df_V + 0.5))
        # The rarest word's idf would let a word that nothing has outweigh all that something has.
        self._unknown_idf = float(np.median(self._idf_V)) if len(df_V) else 1.0
        self.title_NW, self.brand_NW, self.category_NW, self.attributes_NW = (
            self._padded(fields[name], width) for name, width in WIDTHS.items()
        )
        self.length_N = np.maximum(1, (self.title_NW >= 0).sum(axis=1)).astype(np.float64)
        self._mean_length = float(self.length_N.mean()) if len(catalogue) else 1.0
        self.saturation_N = self._saturation(self.length_N)
        self._postings()
        self._brands = {word for words in fields["brand"] for word in words}
        self.types = tuple(sorted({name for a in catalogue.attributes for name in a}))
        self.has_type_NT = self._has_type(catalogue, range(len(catalogue)))
        self._type_V = self._types_of_words(catalogue)

    def over(self, catalogue: Catalogue, rows: Ints | Sequence[int]) -> WordIndex:
        """An index over what this one's catalogue has become: these rows are read anew, those behind the last one are new.

        How rare a word is, how long titles are and what the speller knows stay as they are, so that nothing changes for the
        other rows. A word that was in no item counts as one that is in one item.
        """
        other = copy.copy(self)
        fields = _words(catalogue, rows)
        fresh = sorted({word for texts in fields.values() for words in texts for word in words if word not in self._id})
        other._id = self._id | {word: len(self._id) + n for n, word in enumerate(fresh)}
        other._idf_V = np.append(self._idf_V, [np.log1p((self._count - 0.5) / 1.5)] * len(fresh))
        other._type_V = np.append(self._type_V, np.full(len(fresh), -1, np.int32))
        known = {
            "title": self.title_NW,
            "brand": self.brand_NW,
            "category": self.category_NW,
            "attributes": self.attributes_NW,
        }
        other.title_NW, other.brand_NW, other.category_NW, other.attributes_NW = (
            replaced(known[name], rows, other._padded(fields[name], width), -2) for name, width in WIDTHS.items()
        )
        other.length_N = np.maximum(1, (other.title_NW >= 0).sum(axis=1)).astype(np.float64)
        other.saturation_N = other._saturation(other.length_N)
        other.has_type_NT = replaced(self.has_type_NT, rows, self._has_type(catalogue, rows), False)
        other._postings()
        return other

    def __len__(self) -> int:
        return len(self._id)

    def query(self, text: str) -> QueryWords:
        """The words of a query. One that no item has is spelled right if a known word is near, else unknown.

        Words that say nothing ("for", "in") are left out, unless the query has no others.
        """
        said = stems(text)[:QUERY_WORDS]
        corrected = {word: word if word in self._id else self._speller.correct(word) for word in said}
        words = [word for word in said if word not in STOP_WORDS] or said
        known = [corrected[word] for word in words]
        spelt = " ".join(corrected[word] or word for word in said)
        id_Q = np.array([-1 if word is None else self._id[word] for word in known], np.int32)
        trust_Q = np.array([1.0 if corrected[word] == word else CORRECTED for word in words])
        found_Q = id_Q >= 0
        if not len(self._id):
            nothing = np.full(len(words), -1, np.int32)
            return QueryWords(nothing, np.ones(len(words)), np.ones(len(words)), nothing, found_Q, found_Q, 0.0, 0.0, spelt)
        idf_Q = np.where(found_Q, self._idf_V[id_Q], self._unknown_idf)
        return QueryWords(
            id_Q,
            idf_Q,
            trust_Q,
            np.where(found_Q, self._type_V[id_Q], -1).astype(np.int32),
            np.array([any(letter.isdigit() for letter in word) for word in words], bool),
            np.array([word in self._brands for word in words], bool),
            *self._best(id_Q, idf_Q, trust_Q),
            spelt,
        )

    def _saturation(self, length_N: Floats) -> Floats:
        return (K1 + 1) / (1 + K1 * (1 - B + B * length_N / self._mean_length))

    def _has_type(self, catalogue: Catalogue, rows: Iterable[int]) -> NDArray[np.bool_]:
        has = [[name in catalogue.attributes[row] for name in self.types] for row in rows]
        return np.array(has, bool).reshape(len(has), len(self.types))

    def _postings(self) -> None:
        """For each word the items whose title holds it: ``item_P`` from ``start_V[word]`` to the next word's start."""
        item_P, place_P = np.nonzero(self.title_NW >= 0)
        pair_P = np.unique(self.title_NW[item_P, place_P].astype(np.int64) * len(self.title_NW) + item_P)
        word_P, self._item_P = np.divmod(pair_P, max(1, len(self.title_NW)))
        self._item_P = self._item_P.astype(np.int32)
        self._start_V = np.searchsorted(word_P, np.arange(len(self._id) + 1))

    def _best(self, id_Q: Ints, idf_Q: Floats, trust_Q: Floats) -> tuple[float, float]:
        """The best title's share of the query's idf, without and with saturation: what a match can be measured by."""
        cover_N = np.zeros(len(self.title_NW))
        for word, weight in zip(id_Q.tolist(), (idf_Q * trust_Q).tolist(), strict=True):
            if word >= 0:
                cover_N[self._item_P[self._start_V[word] : self._start_V[word + 1]]] += weight
        if not len(id_Q) or not len(cover_N):
            return 0.0, 0.0
        total = float(idf_Q.sum())
        return float(cover_N.max()) / total, float((cover_N * self.saturation_N).max()) / total

    def _padded(self, rows: Sequence[Sequence[str]], width: int) -> Ints:
        width = max(1, min(width, max(map(len, rows), default=1)))
        padded_NW = np.full((len(rows), width), -2, np.int32)
        for n, words in enumerate(rows):
            ids = [self._id[word] for word in words[:width]]
            padded_NW[n, : len(ids)] = ids
        return padded_NW

    def _types_of_words(self, catalogue: Catalogue) -> Ints:
        """The attribute type that most of a word's uses as a value belong to; -1 for a word that is no value."""
        uses: dict[str, Counter[int]] = {}
        number = {name: n for n, name in enumerate(self.types)}
        for name, word in _values(catalogue.attributes):
            uses.setdefault(word, Counter())[number[name]] += 1
        type_V = np.full(len(self._id), -1, np.int32)
        for word, counter in uses.items():
            kind, most = min(counter.items(), key=lambda entry: (-entry[1], entry[0]))
            if most * 2 > sum(counter.values()):
                type_V[self._id[word]] = kind
        return type_V


def replaced(
    before_NW: NDArray[Scalar], rows: Sequence[int] | Ints, after_MW: NDArray[Scalar], fill: float
) -> NDArray[Scalar]:
    """A copy with these rows in place of its own, behind the last one too, as wide as the wider of the two needs."""
    size = max([len(before_NW), *(int(row) + 1 for row in rows)])
    made = np.full((size, max(before_NW.shape[1], after_MW.shape[1])), fill, before_NW.dtype)
    made[: len(before_NW), : before_NW.shape[1]] = before_NW
    made[rows] = fill
    made[rows, : after_MW.shape[1]] = after_MW
    return made


def _words(catalogue: Catalogue, rows: Iterable[int]) -> dict[str, list[list[str]]]:
    """Per field the words of these rows."""
    rows = list(rows)
    return {
        "title": [stems(catalogue.titles[row]) for row in rows],
        "brand": [stems(catalogue.brands[row]) for row in rows],
        "category": [stems(catalogue.categories[row]) for row in rows],
        "attributes": [[word for value in catalogue.attributes[row].values() for word in stems(value)] for row in rows],
    }


def _values(attributes: Iterable[dict[str, str]]) -> Iterable[tuple[str, str]]:
    return ((name, word) for a in attributes for name, value in a.items() for word in stems(value))
