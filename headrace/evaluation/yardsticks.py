"""Rankings that need no gradient: lexical search, and a memory of clicks. An online learner has to beat them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import bm25s
import numpy as np
from numpy.typing import NDArray

from headrace.world import Outcome, Request
from reward.text import normalise, tokens
from schemas.catalogue import Catalogue


class LexicalSearch:
    """BM25 over titles, with stemmed words; ties go to the lower row."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        corpus = [tokens(title) for title in catalogue.titles]
        self._vocabulary = {word: n for n, word in enumerate(sorted({w for words in corpus for w in words}))}
        self._bm25 = bm25s.BM25()
        ids = [[self._vocabulary[w] for w in words] for words in corpus]
        self._bm25.index(bm25s.tokenization.Tokenized(ids=ids, vocab=self._vocabulary), show_progress=False)
        self._cache: dict[str, NDArray[np.float32]] = {}

    def scores(self, query: str) -> NDArray[np.float32]:
        """BM25 of every item [N] for the query; zeros when no word is known."""
        if query not in self._cache:
            known = [w for w in tokens(query) if w in self._vocabulary]
            n = len(self._catalogue)
            self._cache[query] = self._bm25.get_scores(known) if known else np.zeros(n, dtype=np.float32)
        return self._cache[query]

    def rank(self, request: Request, k: int) -> list[str]:
        """The k best items that the request may show."""
        rows = allowed_rows(self._catalogue, request)
        best = rows[np.argsort(-self.scores(request.query)[rows], kind="stable")[:k]]
        return [self._catalogue.items[row] for row in best]


class ClickMemory:
    """Clicks per (query, item), smoothed by examination; what it has not seen is ordered by BM25.

    It learns from its own pages, at once (no label delay): a favourable reading of what a click table can do.
    """

    def __init__(self, lexical: LexicalSearch, catalogue: Catalogue, position_power: float) -> None:
        self._lexical, self._catalogue, self._power = lexical, catalogue, position_power
        self._clicks: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))
        self._examined: dict[str, dict[int, float]] = defaultdict(lambda: defaultdict(float))

    def learn(self, query: str, shown: Sequence[str], clicked: set[str]) -> None:
        """Take one page's result."""
        key, row = normalise(query), self._catalogue.row
        for n, item in enumerate(shown):
            if item in row:
                self._examined[key][row[item]] += (n + 1.0) ** -self._power
                self._clicks[key][row[item]] += float(item in clicked)

    def observe(self, request: Request, shown: Sequence[str], outcome: Outcome) -> None:
        """Take what a user did with a page."""
        self.learn(request.query, shown, {click.item for click in outcome.clicks})

    def rank(self, request: Request, k: int) -> list[str]:
        """The k best items: smoothed click rate, plus a small share of BM25 that orders what is unknown."""
        key = normalise(request.query)
        rows = allowed_rows(self._catalogue, request)
        lexical = self._lexical.scores(request.query)[rows]
        score = 0.02 * lexical / max(float(lexical.max(initial=0.0)), 1e-6)
        clicks, examined = self._clicks[key], self._examined[key]
        prior_clicks, prior_mass = 0.5, 5.0  # a tenth of the examined items is clicked until the memory knows better
        score = score + np.array(
            [(clicks.get(r, 0.0) + prior_clicks) / (examined.get(r, 0.0) + prior_mass) for r in rows.tolist()]
        )
        best = rows[np.argsort(-score, kind="stable")[:k]]
        return [self._catalogue.items[row] for row in best]


def allowed_rows(catalogue: Catalogue, request: Request) -> NDArray[np.int64]:
    """Rows the request may show: its candidates, or what is available at its time; ascending."""
    if request.candidates:
        return np.array(sorted(catalogue.row[item] for item in request.candidates if item in catalogue.row), dtype=np.int64)
    return np.flatnonzero(catalogue.available_from_N <= request.ts)
