"""Features of (query, item): closeness of meaning, overlap of words and letters, agreement of brand, category, attributes."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from reward.relevance_letters import LetterIndex, QueryLetters
from reward.relevance_words import QueryWords, WordIndex, replaced
from schemas.catalogue import Catalogue

#: The features in their order.
NAMES: Final = (
    "cosine", "cosine_z", "category_cosine", "category_gap", "covered_title", "covered_any", "share_any", "bm25_share",
    "bm25", "brand_match", "brand_conflict", "category_words", "attribute_match", "attribute_conflict", "last_word",
    "first_word", "rarest_word", "numbers", "has_numbers", "neighbours", "precision", "query_words", "unknown",
    "cover_gap", "bm25_gap", "best_cover", "letters", "letters_precision",
)  # fmt: skip
_COLUMN: Final = {name: n for n, name in enumerate(NAMES)}

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


class Encoder(Protocol):
    """What is needed of `reward.encoder.SentenceEncoder`."""

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit rows."""


@dataclass(frozen=True)
class Geometry:
    """Where the catalogue's embeddings lie: ``mean_D``, ``covariance_DD``."""

    mean_D: NDArray[np.float32]
    covariance_DD: NDArray[np.float32]

    @classmethod
    def fit(cls, emb_ND: NDArray[np.float32], sample: int = 20_000) -> Geometry:
        """From every n-th item, at most about ``sample`` of them."""
        emb_MD = emb_ND[:: max(1, len(emb_ND) // sample)].astype(np.float64)
        mean_D = emb_MD.mean(axis=0)
        covariance_DD = np.cov(emb_MD - mean_D, rowvar=False, bias=True).reshape(len(mean_D), len(mean_D))
        return cls(mean_D.astype(np.float32), covariance_DD.astype(np.float32))


@dataclass(frozen=True)
class _Query:
    words: QueryWords
    letters: QueryLetters
    emb_D: NDArray[np.float32]
    mean: float
    spread: float
    category_C: NDArray[np.float32]


class Features:
    """Features of any queries against rows of one catalogue. Queries are remembered, the last ``cached`` of them."""

    def __init__(
        self, catalogue: Catalogue, emb_ND: NDArray[np.float32], encoder: Encoder, geometry: Geometry, cached: int
    ) -> None:
        self.words, self._letters = WordIndex(catalogue), LetterIndex(catalogue)
        self._emb_ND, self._encoder, self._geometry, self._cached = emb_ND, encoder, geometry, cached
        names = sorted(set(catalogue.categories))
        self._categories = {name: n for n, name in enumerate(names)}
        self._category_N = np.array([self._categories[name] for name in catalogue.categories], np.int64)
        self._centre_CD = np.zeros((len(names), emb_ND.shape[1]), np.float32)
        for n in range(len(names)):
            centre_D = emb_ND[self._category_N == n].mean(axis=0)
            self._centre_CD[n] = centre_D / max(1e-9, float(np.linalg.norm(centre_D)))
        self._queries: OrderedDict[str, _Query] = OrderedDict()
        self._embedded: OrderedDict[str, NDArray[np.float32]] = OrderedDict()  # of queries, whatever the catalogue

    def over(self, catalogue: Catalogue, rows: Sequence[int], emb_MD: NDArray[np.float32]) -> Features:
        """The features of what this one's catalogue has become: M rows are read anew, those behind the last one are new.

        Where titles lie and how rare words are stays as it is, so the features of other rows do too, but for what is held
        against the best title. An item without a known category counts to the one whose middle is nearest.
        """
        other = copy.copy(self)
        other.words, other._letters = self.words.over(catalogue, rows), self._letters.over(catalogue, rows)
        nearest_M = (emb_MD @ self._centre_CD.T).argmax(axis=1).tolist()
        category_M = [
            self._categories.get(catalogue.categories[row], near) for row, near in zip(rows, nearest_M, strict=True)
        ]
        other._emb_ND = replaced(self._emb_ND, rows, emb_MD, 0.0)
        other._category_N = np.resize(self._category_N, len(catalogue))
        other._category_N[rows] = category_M
        other._queries = OrderedDict()
        return other

    @property
    def width(self) -> int:
        """Number of features."""
        return len(NAMES)

    def of(self, queries: Sequence[str], which_P: Ints, rows_P: Ints) -> NDArray[np.float32]:
        """x_PF of the pairs (queries[which_P[p]], rows_P[p]); queries are normalised."""
        x_PF = np.zeros((len(rows_P), self.width), np.float32)
        if not len(rows_P):
            return x_PF
        asked = [self._query(text) for text in queries]
        self._meaning(asked, which_P, rows_P, x_PF)
        self._overlap([q.words for q in asked], which_P, rows_P, x_PF)
        self._spelling([q.letters for q in asked], which_P, rows_P, x_PF)
        return x_PF

    def _query(self, text: str) -> _Query:
        found = self._queries.get(text)
        if found is not None:
            self._queries.move_to_end(text)
            return found
        emb_D = self._embedding(text)
        g = self._geometry
        spread = float(np.sqrt(max(1e-9, float(emb_D @ g.covariance_DD @ emb_D))))
        words = self.words.query(text)
        made = _Query(
            words, self._letters.query(words.spelt), emb_D, float(emb_D @ g.mean_D), spread, self._centre_CD @ emb_D
        )
        self._queries[text] = made
        if len(self._queries) > self._cached:
            self._queries.popitem(last=False)
        return made

    def _embedding(self, text: str) -> NDArray[np.float32]:
        if text not in self._embedded:
            self._embedded[text] = self._encoder.encode([text])[0]
            if len(self._embedded) > self._cached:
                self._embedded.popitem(last=False)
        return self._embedded[text]

    def _meaning(self, asked: list[_Query], which_P: Ints, rows_P: Ints, x_PF: NDArray[np.float32]) -> None:
        """Columns of the sentence embeddings."""
        emb_UD, category_UC = np.stack([q.emb_D for q in asked]), np.stack([q.category_C for q in asked])
        mean_U, spread_U = np.array([q.mean for q in asked]), np.array([q.spread for q in asked])
        cosine_P = np.einsum("pd,pd->p", self._emb_ND[rows_P], emb_UD[which_P])
        category_P = category_UC[which_P, self._category_N[rows_P]]
        x_PF[:, 0] = cosine_P
        x_PF[:, 1] = (cosine_P - mean_U[which_P]) / spread_U[which_P]
        x_PF[:, 2] = category_P
        x_PF[:, 3] = category_P - category_UC.max(axis=1)[which_P]

    def _overlap(self, asked: list[QueryWords], which_P: Ints, rows_P: Ints, x_PF: NDArray[np.float32]) -> None:
        """Columns of the words. Queries are padded to the longest with words that nothing has and that weigh nothing."""
        index, length_U = self.words, np.array([len(q.id_Q) for q in asked])
        if not length_U.any():
            return
        id_PQ = padded([q.id_Q for q in asked], -1)[which_P]
        idf_UQ = padded([q.idf_Q for q in asked], 0.0)
        share_PQ = (idf_UQ / np.maximum(1e-12, idf_UQ.sum(axis=1, keepdims=True)))[which_P]
        trust_PQ, word_PQ = (
            padded([q.trust_Q for q in asked], 0.0)[which_P],
            padded([q.id_Q for q in asked], -3)[which_P] > -3,
        )
        count_P, every_P = length_U[which_P], np.arange(len(rows_P))

        def found(words_NW: NDArray[np.int32]) -> Floats:
            hit_PQ: Floats = (words_NW[rows_P][:, :, None] == id_PQ[:, None, :]).any(axis=1) * trust_PQ
            return hit_PQ

        def weighed(hit_PQ: NDArray[np.floating] | NDArray[np.bool_]) -> Floats:
            total_P: Floats = np.einsum("pq,pq->p", hit_PQ, share_PQ)
            return total_P

        where_PWQ = index.title_NW[rows_P][:, :, None] == id_PQ[:, None, :]
        title_PQ = where_PWQ.any(axis=1) * trust_PQ
        brand_PQ, category_PQ, value_PQ = found(index.brand_NW), found(index.category_NW), found(index.attributes_NW)
        any_PQ = np.maximum(np.maximum(title_PQ, brand_PQ), np.maximum(category_PQ, value_PQ))
        missing_PQ = word_PQ & (any_PQ == 0)
        saturation_P = index.saturation_N[rows_P]
        number_PQ, rarest_U = padded([q.number_Q for q in asked], False)[which_P], idf_UQ.argmax(axis=1)
        numbers_P = number_PQ.sum(axis=1)
        column = {
            "covered_title": (cover_P := weighed(title_PQ)),
            "covered_any": weighed(any_PQ),
            "share_any": any_PQ.sum(axis=1) / np.maximum(1, count_P),
            "bm25_share": cover_P * saturation_P,
            "bm25": np.log1p(cover_P * idf_UQ.sum(axis=1)[which_P] * saturation_P),
            "brand_match": brand_PQ.max(axis=1),
            "brand_conflict": (padded([q.brand_Q for q in asked], False)[which_P] & missing_PQ).any(axis=1),
            "category_words": weighed(category_PQ),
            "attribute_match": weighed(value_PQ),
            "attribute_conflict": weighed(self._conflict(asked, which_P, rows_P, missing_PQ)),
            "last_word": any_PQ[every_P, np.maximum(0, count_P - 1)],
            "first_word": any_PQ[:, 0],
            "rarest_word": any_PQ[every_P, rarest_U[which_P]],
            "numbers": (any_PQ * number_PQ).sum(axis=1) / np.maximum(1, numbers_P),
            "has_numbers": numbers_P > 0,
            "neighbours": (where_PWQ[:, :-1, :-1] & where_PWQ[:, 1:, 1:]).any(axis=1).sum(axis=1)
            / np.maximum(1, count_P - 1),
            "precision": where_PWQ.any(axis=2).sum(axis=1) / index.length_N[rows_P],
            "query_words": np.log(np.maximum(1, count_P)),
            "unknown": (word_PQ & (id_PQ < 0)).sum(axis=1) / np.maximum(1, count_P),
            "cover_gap": cover_P - np.array([q.best_cover for q in asked])[which_P],
            "bm25_gap": cover_P * saturation_P - np.array([q.best_bm25 for q in asked])[which_P],
            "best_cover": np.array([q.best_cover for q in asked])[which_P],
        }
        for name, value_P in column.items():
            x_PF[:, _COLUMN[name]] = value_P

    def _conflict(
        self, asked: list[QueryWords], which_P: Ints, rows_P: Ints, missing_PQ: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Words that are values of a type for which the item has another value: red asked, and the item is blue."""
        if not self.words.types:
            return np.zeros(missing_PQ.shape, bool)
        type_PQ = padded([q.type_Q for q in asked], -1)[which_P]
        conflict_PQ: NDArray[np.bool_] = self.words.has_type_NT[rows_P[:, None], type_PQ] & (type_PQ >= 0) & missing_PQ
        return conflict_PQ

    def _spelling(self, asked: list[QueryLetters], which_P: Ints, rows_P: Ints, x_PF: NDArray[np.float32]) -> None:
        """Columns of the letters."""
        id_PG, idf_UG = padded([q.id_G for q in asked], -1)[which_P], padded([q.idf_G for q in asked], 0.0)
        hit_PG = (self._letters.piece_NW[rows_P][:, :, None] == id_PG[:, None, :]).any(axis=1)
        share_PG = (idf_UG / np.maximum(1e-12, idf_UG.sum(axis=1, keepdims=True)))[which_P]
        x_PF[:, _COLUMN["letters"]] = np.einsum("pg,pg->p", hit_PG, share_PG)
        x_PF[:, _COLUMN["letters_precision"]] = hit_PG.sum(axis=1) / self._letters.count_N[rows_P]


def padded(rows: Sequence[NDArray[Scalar]], fill: float) -> NDArray[Scalar]:
    """The rows below each other, filled up at their ends; at least one column."""
    table = np.full((len(rows), max(1, *map(len, rows))), fill, rows[0].dtype)
    for n, row in enumerate(rows):
        table[n, : len(row)] = row
    return table
