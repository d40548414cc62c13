"""From what a request knows to a `PromptBatch`; one builder serves the learner, the server and the evaluation.

A prompt reads: slots of the vectors, the query's own identifier, the query's pieces (a teacher's: and its keywords'), the lexical items as identifiers (with
a separator), the recent items as identifiers, the recent queries' pieces, each after a separator, end. Every part has a limit of its own, so the query is never pushed out.
What a query alone decides is remembered, because queries come back. Letters as in `trainers.policies.base`.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from schemas.catalogue import Catalogue
from schemas.errors import InvalidValue
from trainers.identifiers.assortment import Assortment
from trainers.identifiers.build import Identifiers
from trainers.policies.base import PromptBatch, PromptContext
from trainers.policies.lexical import LexicalIndex
from trainers.policies.long_history import LongHistory, SidOf
from trainers.policies.settings import PromptSettings
from trainers.policies.slots import KINDS
from trainers.policies.tokenizer import PromptTokenizer

T = TypeVar("T")

#: Identifiers of queries: (texts, emb_ND) -> codes [N, L].
QuerySids = Callable[[Sequence[str], NDArray[np.float32]], ArrayLike]


class Encoder(Protocol):
    """What is needed of `reward.encoder.SentenceEncoder`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows [N, E]."""


@dataclass(frozen=True)
class QueryPieces:
    """What a query alone decides, whatever items there are."""

    tokens: tuple[int, ...]  #: its text, or the beginning of it
    sid: tuple[int, ...]  #: its identifier, as tokens
    dense_E: NDArray[np.float32]


class PromptBuilder:
    """Builds prompts; not to be shared between threads."""

    def __init__(
        self,
        tokenizer: PromptTokenizer,
        query_sids: QuerySids,
        encoder: Encoder,
        sid_of: SidOf,
        settings: PromptSettings,
        centroids: Sequence[NDArray[np.float32]] | None = None,
        lexical: LexicalIndex | None = None,
    ) -> None:
        """``centroids`` are the codebook's of its residual levels, each [K, E]; they and ``lexical`` are needed where the settings ask for them.

        Raises:
            InvalidValue: the settings ask for the long history or lexical items, and what they need is not there.
        """
        if settings.lexical_items and lexical is None:
            raise InvalidValue("index of the lexical items", None, "one over the catalogue", "pass it to the prompt builder")
        self.tokenizer, self.encoder, self.settings = tokenizer, encoder, settings
        self._query_sids, self._sid_of = query_sids, sid_of
        self.lexical = lexical
        self._history = LongHistory(centroids, sid_of) if settings.long_history else None
        self._known: OrderedDict[str, QueryPieces] = OrderedDict()
        self._recent: OrderedDict[str, tuple[int, ...]] = OrderedDict()
        self._found: OrderedDict[str, tuple[tuple[str, int], ...]] = OrderedDict()  # as `LexicalIndex.best` has them

    @classmethod
    def of(
        cls,
        tokenizer: PromptTokenizer,
        settings: PromptSettings,
        identifiers: Identifiers,
        encoder: Encoder,
        sid_of: SidOf,
        catalogue: Catalogue,
        lexical: LexicalIndex | None = None,
    ) -> PromptBuilder:
        """Over a run's artefacts; ``catalogue`` is the one it was prepared with, unless its index is there already."""
        if settings.lexical_items and lexical is None:
            lexical = LexicalIndex.of(catalogue)
        centroids = identifiers.codebook.residual if settings.long_history else None
        return cls(tokenizer, identifiers.query_sids, encoder, sid_of, settings, centroids, lexical)

    def inherit(self, before: PromptBuilder) -> None:
        """Go on with what an earlier builder over the same identifiers remembers of queries, where it is the same here."""
        if self.settings == before.settings and self.tokenizer.same_as(before.tokenizer):
            self._known, self._recent = before._known, before._recent
            if self.lexical is before.lexical:
                self._found = before._found

    def over(self, now: Assortment, items: Iterable[str]) -> PromptBuilder:
        """The same builder over what there is ``now``; ``items`` are those that may have changed. Both remember what either
        learns of a query."""
        other = copy.copy(self)
        other._sid_of = now.sid_of
        other._history = None if self._history is None else self._history.over(now.sid_of)
        if self.lexical is not None:
            other.lexical = self.lexical.over(now, items)
            other._found = self._found if other.lexical is self.lexical else OrderedDict()
        return other

    def build(self, contexts: Sequence[PromptContext]) -> PromptBatch:
        """B contexts to one padded batch.

        Raises:
            InvalidValue: no context.
        """
        if not contexts:
            raise InvalidValue("number of prompts", 0, "at least 1", "skip the empty batch")
        pieces = self.pieces([context.query for context in contexts])
        rows = [self._tokens(context, piece) for context, piece in zip(contexts, pieces, strict=True)]
        tokens_BS = np.full((len(rows), max(map(len, rows))), self.tokenizer.pad, dtype=np.int64)
        for tokens_S, row in zip(tokens_BS, rows, strict=True):
            tokens_S[: len(row)] = row
        lengths_B = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
        mask_BS = np.arange(tokens_BS.shape[1]) < lengths_B[:, None]
        dense_BE = np.stack([piece.dense_E for piece in pieces])
        history_BJE = None
        if self._history is not None:
            first = [piece.sid[0] - self.tokenizer.level_start[0] for piece in pieces]
            history_BJE = torch.from_numpy(self._history.vectors(contexts, first))
        return PromptBatch(torch.from_numpy(tokens_BS), torch.from_numpy(mask_BS), torch.from_numpy(dense_BE), history_BJE)

    def cuts(self, query: str) -> bool:
        """Whether a prompt holds only the beginning of this query: it has more than ``query_tokens`` pieces."""
        return self.tokenizer.shortened(query, self.settings.query_tokens)[1]

    def pieces(self, queries: Sequence[str]) -> list[QueryPieces]:
        """What each query alone decides; unknown ones are encoded together."""
        made = {query: self._known[query] for query in queries if query in self._known}
        fresh = [query for query in dict.fromkeys(queries) if query not in made]
        if fresh:
            emb_NE = np.asarray(self.encoder.encode(fresh), dtype=np.float32)
            codes_NL = np.asarray(self._query_sids(fresh, emb_NE))
            for query, dense_E, codes_L in zip(fresh, emb_NE, codes_NL, strict=True):
                tokens = self.tokenizer.text(query, self.settings.query_tokens)
                sid = tuple(self.tokenizer.sid(codes_L.tolist()))
                dense_E = dense_E.copy() if self.settings.dense_query else np.zeros_like(dense_E)
                made[query] = QueryPieces(tuple(tokens), sid, dense_E)
        for query in queries:
            _remember(self._known, query, made[query], self.settings.cache)
        return [made[query] for query in queries]

    def _tokens(self, context: PromptContext, piece: QueryPieces) -> list[int]:
        slots = 1 if self._history is None else 1 + len(KINDS)
        tokens = [*[self.tokenizer.dense] * slots, *piece.sid, *piece.tokens, *self._keywords(context, piece)]
        if self.settings.lexical_items:
            there = [item for item, since in self._best(context.query) if context.ts == 0 or since <= context.ts]
            tokens += [*self._sids(there[: self.settings.lexical_items]), self.tokenizer.sep]
        tokens += self._sids(context.recent_items[: self.settings.recent_items])
        for query in context.recent_queries[: self.settings.recent_queries]:
            tokens += [self.tokenizer.sep, *self._recent_pieces(query)]
        tokens.append(self.tokenizer.eos)
        return tokens

    def _keywords(self, context: PromptContext, piece: QueryPieces) -> list[int]:
        """In the room that the query leaves of its own, so a prompt is never longer for them."""
        room = self.settings.query_tokens - len(piece.tokens) - 1
        if not context.keywords or room < 1:
            return []
        return [self.tokenizer.sep, *self.tokenizer.text(" ".join(context.keywords), room)]

    def _sids(self, items: Sequence[str]) -> list[int]:
        known = [codes for item in items if (codes := self._sid_of(item)) is not None]
        return [token for codes in known for token in self.tokenizer.sid(codes)]

    def _best(self, query: str) -> tuple[tuple[str, int], ...]:
        found = self._found.get(query)
        if found is None:
            found = () if self.lexical is None else self.lexical.best(query, self.settings.lexical_items)
        _remember(self._found, query, found, self.settings.cache)
        return found

    def _recent_pieces(self, query: str) -> tuple[int, ...]:
        found = self._recent.get(query)
        if found is None:
            found = tuple(self.tokenizer.text(query, self.settings.recent_query_tokens))
        _remember(self._recent, query, found, self.settings.cache)
        return found


def centroids_of(identifiers: Identifiers) -> list[NDArray[np.float32]]:
    """Of every level, [K, E] in the space of the embeddings."""
    return [identifiers.codebook.centroids(level) for level in range(len(identifiers.level_sizes))]


def _remember(cache: OrderedDict[str, T], key: str, value: T, limit: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > limit:
        cache.popitem(last=False)
