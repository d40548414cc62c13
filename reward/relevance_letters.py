"""Titles and queries as sets of three letters in a row, spaces left out: "sheet rock" and "sheetrock" meet there."""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from reward.relevance_words import replaced
from reward.text import tokens
from schemas.catalogue import Catalogue

#: Letters in a row, and how many such pieces of a title and of a query are kept, the first ones.
PIECE: Final = 3
TITLE_PIECES: Final = 80
QUERY_PIECES: Final = 64


class QueryLetters(NamedTuple):
    """G pieces of a query: vocabulary number (-1: no title has it) and idf."""

    id_G: NDArray[np.int32]
    idf_G: NDArray[np.float64]


class LetterIndex:
    """``piece_NW`` holds the numbers of the titles' pieces, padded with -2; ``count_N`` how many each has."""

    def __init__(self, catalogue: Catalogue) -> None:
        titles = [pieces(title, TITLE_PIECES) for title in catalogue.titles]
        titles_with = Counter(piece for title in titles for piece in title)
        self._id = {piece: n for n, piece in enumerate(titles_with)}
        df_V = np.array(list(titles_with.values()), np.float64)
        self._titles = len(titles)
        self._idf_V = np.log1p((self._titles - df_V + 0.5) / (df_V + 0.5))
        self._unknown_idf = float(np.median(self._idf_V)) if len(df_V) else 1.0
        self.piece_NW = self._numbers(titles)
        self.count_N = _counts(self.piece_NW)

    def over(self, catalogue: Catalogue, rows: Sequence[int]) -> LetterIndex:
        """An index over what this one's catalogue has become: as `reward.relevance_words.WordIndex.over`."""
        other = copy.copy(self)
        titles = [pieces(catalogue.titles[row], TITLE_PIECES) for row in rows]
        fresh = sorted({piece for title in titles for piece in title if piece not in self._id})
        other._id = self._id | {piece: len(self._id) + n for n, piece in enumerate(fresh)}
        other._idf_V = np.append(self._idf_V, [np.log1p((self._titles - 0.5) / 1.5)] * len(fresh))
        other.piece_NW = replaced(self.piece_NW, rows, other._numbers(titles), -2)
        other.count_N = _counts(other.piece_NW)
        return other

    def query(self, text: str) -> QueryLetters:
        """The pieces of a query, best with its misspelt words corrected."""
        ids = [self._id.get(piece, -1) for piece in pieces(text, QUERY_PIECES)]
        idf = [self._idf_V[n] if n >= 0 else self._unknown_idf for n in ids]
        return QueryLetters(np.array(ids, np.int32), np.array(idf, np.float64))

    def _numbers(self, titles: Sequence[Sequence[str]]) -> NDArray[np.int32]:
        piece_NW = np.full((len(titles), max(1, max(map(len, titles), default=1))), -2, np.int32)
        for n, title in enumerate(titles):
            piece_NW[n, : len(title)] = [self._id[piece] for piece in title]
        return piece_NW


def _counts(piece_NW: NDArray[np.int32]) -> NDArray[np.float64]:
    count_N: NDArray[np.float64] = np.maximum(1, (piece_NW >= 0).sum(axis=1)).astype(np.float64)
    return count_N


def pieces(text: str, most: int) -> list[str]:
    """Distinct pieces in their order, at most ``most``; the whole of a text that is shorter than a piece."""
    joined = "".join(tokens(text))
    if len(joined) <= PIECE:
        return [joined] if joined else []
    return list(dict.fromkeys(joined[n : n + PIECE] for n in range(len(joined) - PIECE + 1)))[:most]
