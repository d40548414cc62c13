"""Features of (query, item): closeness of meaning, overlap of words, agreement of brand, category and attributes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from reward.relevance_words import QueryWords, WordIndex
from schemas.catalogue import Catalogue

#: The features in their order, before the projected interactions.
NAMES: Final = (
    "cosine", "cosine_z", "category_cosine", "category_gap", "covered_title", "covered_any", "share_any", "bm25_share",
    "bm25", "brand_match", "brand_conflict", "category_words", "attribute_match", "attribute_conflict", "last_word",
    "first_word", "rarest_word", "numbers", "has_numbers", "neighbours", "precision", "query_words", "unknown",
)  # fmt: skip

K1, B = 1.2, 0.75

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Encoder(Protocol):
    """What is needed of `reward.encoder.SentenceEncoder`."""

    def encode(self, texts: list[str]) -> NDArray[np.float32]:
        """Unit rows."""


@dataclass(frozen=True)
class Geometry:
    """Where the catalogue's embeddings lie: ``mean_D``, ``covariance_DD``, and their first K axes ``axes_DK``."""

    mean_D: NDArray[np.float32]
    covariance_DD: NDArray[np.float32]
    axes_DK: NDArray[np.float32]

    @classmethod
    def fit(cls, emb_ND: NDArray[np.float32], axes: int, sample: int = 20_000) -> Geometry:
        """From every n-th item, at most ``sample`` of them."""
        emb_MD = emb_ND[:: max(1, len(emb_ND) // sample)].astype(np.float64)
        mean_D = emb_MD.mean(axis=0)
        covariance_DD = np.cov(emb_MD - mean_D, rowvar=False, bias=True).reshape(len(mean_D), len(mean_D))
        _, vectors_DD = np.linalg.eigh(covariance_DD)
        axes_DK = vectors_DD[:, ::-1][:, :axes]
        return cls(mean_D.astype(np.float32), covariance_DD.astype(np.float32), axes_DK.astype(np.float32))


@dataclass(frozen=True)
class _Query:
    words: QueryWords
    emb_D: NDArray[np.float32]
    mean: float
    spread: float
    category_C: NDArray[np.float32]
    axes_K: NDArray[np.float32]


class Features:
    """Features of any query against rows of one catalogue. Queries are remembered, the last ``cached`` of them."""

    def __init__(
        self, catalogue: Catalogue, emb_ND: NDArray[np.float32], encoder: Encoder, geometry: Geometry, cached: int
    ) -> None:
        self.words = WordIndex(catalogue)
        self._emb_ND, self._encoder, self._geometry, self._cached = emb_ND, encoder, geometry, cached
        self._axes_NK = emb_ND @ geometry.axes_DK
        names = sorted(set(catalogue.categories))
        number = {name: n for n, name in enumerate(names)}
        self._category_N = np.array([number[name] for name in catalogue.categories], np.int64)
        self._centre_CD = np.zeros((len(names), emb_ND.shape[1]), np.float32)
        for n in range(len(names)):
            centre_D = emb_ND[self._category_N == n].mean(axis=0)
            self._centre_CD[n] = centre_D / max(1e-9, float(np.linalg.norm(centre_D)))
        self._queries: OrderedDict[str, _Query] = OrderedDict()

    @property
    def width(self) -> int:
        """Number of features."""
        return len(NAMES) + int(self._geometry.axes_DK.shape[1])

    def of(self, query: str, rows_N: Ints) -> NDArray[np.float32]:
        """x_NF of a query (normalised) and catalogue rows."""
        q = self._query(query)
        x_NF = np.empty((len(rows_N), self.width), np.float32)
        cosine_N = self._emb_ND[rows_N] @ q.emb_D
        category_N = q.category_C[self._category_N[rows_N]]
        x_NF[:, 0] = cosine_N
        x_NF[:, 1] = (cosine_N - q.mean) / q.spread
        x_NF[:, 2] = category_N
        x_NF[:, 3] = category_N - q.category_C.max()
        self._overlap(q.words, rows_N, x_NF)
        x_NF[:, len(NAMES) :] = self._axes_NK[rows_N] * q.axes_K
        return x_NF

    def _query(self, text: str) -> _Query:
        found = self._queries.get(text)
        if found is not None:
            self._queries.move_to_end(text)
            return found
        emb_D = self._encoder.encode([text])[0]
        g = self._geometry
        spread = float(np.sqrt(max(1e-9, float(emb_D @ g.covariance_DD @ emb_D))))
        made = _Query(
            self.words.query(text), emb_D, float(emb_D @ g.mean_D), spread, self._centre_CD @ emb_D, emb_D @ g.axes_DK
        )
        self._queries[text] = made
        if len(self._queries) > self._cached:
            self._queries.popitem(last=False)
        return made

    def _overlap(self, q: QueryWords, rows_N: Ints, x_NF: NDArray[np.float32]) -> None:
        """Columns 4 to 22."""
        x_NF[:, 4 : len(NAMES)] = 0.0
        if not len(q.id_Q):
            return
        index = self.words
        title_NW = index.title_NW[rows_N]
        where_NWQ = title_NW[:, :, None] == q.id_Q
        title_NQ = where_NWQ.any(axis=1) * q.trust_Q
        brand_NQ = (index.brand_NW[rows_N][:, :, None] == q.id_Q).any(axis=1) * q.trust_Q
        category_NQ = (index.category_NW[rows_N][:, :, None] == q.id_Q).any(axis=1) * q.trust_Q
        value_NQ = (index.attributes_NW[rows_N][:, :, None] == q.id_Q).any(axis=1) * q.trust_Q
        any_NQ = np.maximum(np.maximum(title_NQ, brand_NQ), np.maximum(category_NQ, value_NQ))
        share_Q = q.idf_Q / q.idf_Q.sum()
        length_N = index.length_N[rows_N]
        saturation_N = (K1 + 1) / (1 + K1 * (1 - B + B * length_N / index.mean_length))
        x_NF[:, 4] = title_NQ @ share_Q
        x_NF[:, 5] = any_NQ @ share_Q
        x_NF[:, 6] = any_NQ.mean(axis=1)
        x_NF[:, 7] = x_NF[:, 4] * saturation_N
        x_NF[:, 8] = np.log1p((title_NQ @ q.idf_Q) * saturation_N)
        x_NF[:, 9] = brand_NQ.max(axis=1)
        x_NF[:, 10] = (q.brand_Q & (any_NQ == 0)).any(axis=1)
        x_NF[:, 11] = category_NQ @ share_Q
        x_NF[:, 12] = value_NQ @ share_Q
        x_NF[:, 13] = self._conflict(q, rows_N, any_NQ) @ share_Q
        x_NF[:, 14] = any_NQ[:, -1]
        x_NF[:, 15] = any_NQ[:, 0]
        x_NF[:, 16] = any_NQ[:, int(np.argmax(q.idf_Q))]
        if q.number_Q.any():
            x_NF[:, 17] = any_NQ[:, q.number_Q].mean(axis=1)
            x_NF[:, 18] = 1.0
        if len(q.id_Q) > 1:
            x_NF[:, 19] = (where_NWQ[:, :-1, :-1] & where_NWQ[:, 1:, 1:]).any(axis=1).mean(axis=1)
        x_NF[:, 20] = where_NWQ.any(axis=2).sum(axis=1) / length_N
        x_NF[:, 21] = np.log(len(q.id_Q))
        x_NF[:, 22] = (q.id_Q < 0).mean()

    def _conflict(self, q: QueryWords, rows_N: Ints, any_NQ: Floats) -> NDArray[np.bool_]:
        """Words that are values of a type for which the item has another value: red asked, and the item is blue."""
        if not self.words.types:
            return np.zeros(any_NQ.shape, bool)
        has_NQ = self.words.has_type_NT[rows_N][:, q.type_Q]
        conflict_NQ: NDArray[np.bool_] = has_NQ & (q.type_Q >= 0) & (any_NQ == 0)
        return conflict_NQ
