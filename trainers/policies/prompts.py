"""From what a request knows to a `PromptBatch`; one builder serves the learner, the server and the evaluation.

A prompt reads: dense slot, the query's own identifier, the query's pieces, the recent items as identifiers, the recent
queries' pieces, each after a separator, end. What a query alone decides is remembered, because queries come back.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from schemas.errors import InvalidValue
from trainers.policies.base import PromptBatch, PromptContext
from trainers.policies.settings import PromptSettings
from trainers.policies.tokenizer import PromptTokenizer

T = TypeVar("T")

#: Identifiers of queries: (texts, emb_ND) -> codes [N, L].
QuerySids = Callable[[Sequence[str], NDArray[np.float32]], ArrayLike]
#: The identifier of an item, or None where the item has none (unknown, or removed): such an item is left out.
SidOf = Callable[[str], Sequence[int] | None]


class Encoder(Protocol):
    """What is needed of `reward.encoder.SentenceEncoder`."""

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit rows [N, E]."""


@dataclass(frozen=True)
class QueryPieces:
    """What a query alone decides."""

    tokens: tuple[int, ...]  #: its text
    sid: tuple[int, ...]  #: its identifier, as tokens
    dense_E: NDArray[np.float32]


class PromptBuilder:
    """Builds prompts; not to be shared between threads."""

    def __init__(
        self, tokenizer: PromptTokenizer, query_sids: QuerySids, encoder: Encoder, sid_of: SidOf, settings: PromptSettings
    ) -> None:
        self.tokenizer, self.encoder, self.settings = tokenizer, encoder, settings
        self._query_sids, self._sid_of = query_sids, sid_of
        self._known: OrderedDict[str, QueryPieces] = OrderedDict()
        self._recent: OrderedDict[str, tuple[int, ...]] = OrderedDict()

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
        return PromptBatch(torch.from_numpy(tokens_BS), torch.from_numpy(mask_BS), torch.from_numpy(dense_BE))

    def pieces(self, queries: Sequence[str]) -> list[QueryPieces]:
        """What each query alone decides; unknown ones are encoded together."""
        made = {query: self._known[query] for query in queries if query in self._known}
        fresh = [query for query in dict.fromkeys(queries) if query not in made]
        if fresh:
            emb_NE = np.asarray(self.encoder.encode(fresh), dtype=np.float32)
            codes_NL = np.asarray(self._query_sids(fresh, emb_NE))
            for query, dense_E, codes_L in zip(fresh, emb_NE, codes_NL, strict=True):
                tokens = self.tokenizer.text(query, self.settings.query_tokens)
                made[query] = QueryPieces(tuple(tokens), tuple(self.tokenizer.sid(codes_L.tolist())), dense_E.copy())
        for query in queries:
            _remember(self._known, query, made[query], self.settings.cache)
        return [made[query] for query in queries]

    def _tokens(self, context: PromptContext, piece: QueryPieces) -> list[int]:
        tokens = [self.tokenizer.dense, *piece.sid, *piece.tokens]
        for item in context.recent_items[: self.settings.recent_items]:
            codes = self._sid_of(item)
            if codes is not None:
                tokens += self.tokenizer.sid(codes)
        for query in context.recent_queries[: self.settings.recent_queries]:
            tokens += [self.tokenizer.sep, *self._recent_pieces(query)]
        tokens.append(self.tokenizer.eos)
        return tokens

    def _recent_pieces(self, query: str) -> tuple[int, ...]:
        found = self._recent.get(query)
        if found is None:
            found = tuple(self.tokenizer.text(query, self.settings.recent_query_tokens))
        _remember(self._recent, query, found, self.settings.cache)
        return found


def _remember(cache: OrderedDict[str, T], key: str, value: T, limit: int) -> None:
    cache[key] = value
    cache.move_to_end(key)
    if len(cache) > limit:
        cache.popitem(last=False)
