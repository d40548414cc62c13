"""The lexical signal of a prompt: the items whose titles share most words with the query, by BM25 over stemmed words.

Made over the run's catalogue; items that came, got another title or went since are taken in beside it. How rare its words were
and how long its titles, stays as it was, so an item that did not change keeps its scores, and what is found follows from the
first catalogue and the present one, whatever lay between: learner and server write the same prompts. A word that only later
titles have counts as one that a single title has. An item counts from the event time at which it is available.
"""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import bm25s
import numpy as np
from numpy.typing import NDArray

from reward.text import stems
from schemas.catalogue import Catalogue
from trainers.identifiers.assortment import Assortment

#: Candidates kept for a query, of which a prompt takes the first that are available.
SPARE = 4


@dataclass(frozen=True)
class _Title:
    """Of an item that came, or is called otherwise than when the index was made. ``share`` is K1 times its length's part of
    BM25's denominator."""

    item: str
    since: int
    words: Counter[str]
    share: float


class LexicalIndex:
    """Immutable. Letters: N titles that it was made of, H that a query hits, C changed rows."""

    def __init__(self, items: Sequence[str], titles: Sequence[str], available_from_N: NDArray[np.int64]) -> None:
        self._items, self._titles, self._available_from_N = tuple(items), tuple(titles), available_from_N
        corpus = [stems(title) for title in titles]
        self._mean_length = float(np.mean([len(words) for words in corpus]))
        self._vocabulary = {word: n for n, word in enumerate(sorted({w for words in corpus for w in words}))}
        self._bm25 = bm25s.BM25()
        ids = [[self._vocabulary[w] for w in words] for words in corpus]
        self._bm25.index(bm25s.tokenization.Tokenized(ids=ids, vocab=self._vocabulary), show_progress=False)
        self._changed: Mapping[int, _Title | None] = {}  # by row; None: gone
        self._having: Mapping[str, tuple[int, ...]] = {}  # word -> changed rows
        self._replaced_C = np.zeros(0, np.int64)

    @classmethod
    def of(cls, catalogue: Catalogue) -> LexicalIndex:
        """Over the titles of a catalogue."""
        return cls(catalogue.items, catalogue.titles, catalogue.available_from_N)

    def over(self, now: Assortment, items: Iterable[str]) -> Self:
        """The index where these items are as they are ``now``; itself where none of them differs from what it knows.

        It takes time in proportion to the changes since the index was made, not to the catalogue.
        """
        rows = [now.catalogue.row[item] for item in dict.fromkeys(items) if item in now.catalogue.row]
        changed, having = dict(self._changed), dict(self._having)
        for row, leaf in zip(rows, now.trie.leaf_of(rows).tolist(), strict=True):
            if old := changed.pop(row, None):
                for word in old.words:
                    having[word] = tuple(other for other in having[word] if other != row)
            if leaf < 0:
                changed[row] = None
            elif row >= len(self._titles) or now.catalogue.titles[row] != self._titles[row]:
                changed[row] = title = self._title(now.catalogue, row)
                for word in title.words:
                    having[word] = (*having.get(word, ()), row)
        if changed == self._changed:
            return self
        other = copy.copy(self)
        other._changed, other._having = changed, having
        other._replaced_C = np.array([row for row in changed if row < len(self._titles)], np.int64)
        return other

    def best(self, query: str, limit: int) -> tuple[tuple[str, int], ...]:
        """(item, available from) of up to ``limit`` * `SPARE` items, best first, of equal ones the first row; items without a
        common word never count."""
        words, kept = stems(query), limit * SPARE
        found: list[tuple[float, int, str, int]] = []
        if known := [word for word in words if word in self._vocabulary]:
            score_N: NDArray[np.float32] = self._bm25.get_scores(known)
            score_N[self._replaced_C] = 0
            row_H = np.flatnonzero(score_N > 0)
            for row in row_H[np.argsort(-score_N[row_H], kind="stable")[:kept]].tolist():
                found.append((-float(score_N[row]), row, self._items[row], int(self._available_from_N[row])))
        for row in {row for word in words for row in self._having.get(word, ())}:
            if title := self._changed[row]:
                found.append((-self._score(words, title), row, title.item, title.since))
        return tuple((item, since) for _, _, item, since in sorted(found)[:kept])

    def _title(self, catalogue: Catalogue, row: int) -> _Title:
        words, bm25 = stems(catalogue.titles[row]), self._bm25
        share = bm25.k1 * (1 - bm25.b + bm25.b * len(words) / self._mean_length)
        return _Title(catalogue.items[row], int(catalogue.available_from_N[row]), Counter(words), share)

    def _score(self, words: Sequence[str], title: _Title) -> float:
        """As the library scores its own titles, rounded like them: equal titles get equal scores."""
        total = np.float32(0)
        for word in words:
            if times := title.words[word]:
                total += np.float32(float(self._rarity(word)) * (times / (title.share + times)))
        return float(total)

    def _rarity(self, word: str) -> np.float32:
        """The word's idf as it was when the index was made."""
        start_V, place = self._bm25.scores["indptr"], self._vocabulary.get(word)
        titles = 1 if place is None else int(start_V[place + 1] - start_V[place])
        return np.float32(math.log(1 + (len(self._titles) - titles + 0.5) / (titles + 0.5)))
