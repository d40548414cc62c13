"""The search engine as a library: requests in, drawn pages out. No web, no Kafka, no clock.

Beam search over the catalogue's trie finds the pool; what is in it is ordered by the serving score (policy log-probability
plus the active reward weights and campaigns on tier and posterior CTR, less what the policy has taken up of them) and drawn with the exploration noise of the request. The server
and the offline evaluation use the same engine, so two checkpoints can meet the same requests, pools of time and draws.
Letters: B requests, W beam width, C candidates of a request, N items, L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from reward.composite import serving_terms
from reward.settings import ServingScoreSettings
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.checkpoints import Absorbed
from schemas.errors import Incompatible
from schemas.events import ItemAdded
from schemas.weights import RewardWeights
from serving.exploration import draw, gumbel
from serving.ordering import Ordering
from serving.pools import PoolSink, pool_of
from serving.requests import AnsweredItem, Scores, SearchAnswer, SearchRequest
from serving.settings import EngineSettings
from serving.shelf import Shelf
from trainers.beam import Beams, NodeMask, beam_search
from trainers.identifiers.build import Identifiers
from trainers.identifiers.trie import Trie
from trainers.policies.base import Policy, PromptBatch, PromptContext
from trainers.policies.prompts import Encoder, PromptBuilder

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Relevance(Protocol):
    """What is needed of `reward.relevance.RelevanceScorer`."""

    def tiers(self, query: str, rows: IntArray) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """Tier and confidence [C] of catalogue rows."""


@dataclass(frozen=True)
class Limits:
    """What one request may be shown. ``nodes`` None: everything; ``reason`` set: nothing, and why."""

    nodes: list[NDArray[np.bool_]] | None = None
    rows: IntArray | None = None  #: the filter's known items
    reason: str = ""
    notes: tuple[str, ...] = ()


class Page(NamedTuple):
    """What was drawn for one request, the log-probability of the whole list, the campaigns that applied, and its support."""

    items: tuple[AnsweredItem, ...] = ()
    logp: float = 0.0
    campaigns: tuple[str, ...] = ()
    support: int = 0


class SearchEngine:
    """One policy over one shelf. Not to be shared between threads (it remembers queries)."""

    def __init__(
        self,
        policy: Policy,
        trie: Trie,
        catalogue: Catalogue,
        identifiers: Identifiers,
        relevance: Relevance,
        encoder: Encoder,
        settings: EngineSettings,
        score: ServingScoreSettings | None = None,
        *,
        checkpoint: str = "",
        absorbed: Sequence[Absorbed] = (),
        shelf: Shelf | None = None,
    ) -> None:
        """``absorbed``: the checkpoint's; ``shelf`` spares the work of making one from trie and catalogue.

        Raises:
            Incompatible: the policy was trained with other identifiers.
        """
        if policy.codebook_version != identifiers.version:
            raise Incompatible(
                "identifiers of the policy", identifiers.version, policy.codebook_version,
                "serve a checkpoint of this run, or warm-start again on these identifiers",
            )  # fmt: skip
        self.policy, self.checkpoint, self.settings = policy, checkpoint, settings
        self.absorbed = tuple(absorbed)
        self.shelf = shelf or Shelf.of(catalogue, trie, identifiers.version)
        self.score = score or ServingScoreSettings()
        self._identifiers, self._relevance, self._encoder = identifiers, relevance, encoder
        self._prompts = PromptBuilder(
            policy.tokenizer, identifiers.query_sids, encoder, self.shelf.sid_of, policy.settings.prompt
        )

    def with_policy(self, policy: Policy, checkpoint: str, absorbed: Sequence[Absorbed] = ()) -> SearchEngine:
        """The same shelf under another checkpoint; big arrays are shared.

        Raises:
            Incompatible: the policy was trained with other identifiers.
        """
        return self._remade(policy, checkpoint, absorbed, self.shelf, self._relevance)

    def with_items(
        self, added: Sequence[ItemAdded], relevance: Callable[[Catalogue], Relevance] | None = None
    ) -> SearchEngine:
        """The same checkpoint with new items; itself when it knows them all.

        ``relevance`` makes the scorer of the grown catalogue; without it the present one must know the new rows.

        Raises:
            Incompatible: an identifier of another codebook.
        """
        shelf = self.shelf.with_items(added)
        if shelf is self.shelf:
            return self
        scorer = self._relevance if relevance is None else relevance(shelf.catalogue)
        return self._remade(self.policy, self.checkpoint, self.absorbed, shelf, scorer)

    def ordering(self, book: RewardWeights, control_share: float = 0.0) -> Ordering:
        """The book compiled over this shelf and checkpoint, for `answer`."""
        return Ordering(book, self.absorbed, self.shelf.facts, control_share)

    def prompts(self, contexts: Sequence[PromptContext]) -> PromptBatch:
        """The policy's view of these requests."""
        return self._prompts.build(contexts)

    def answer(
        self,
        batch: Sequence[SearchRequest],
        weights: RewardWeights | Ordering,
        snapshot: PosteriorSnapshot,
        snapshot_version: int = 0,
        pools: PoolSink | None = None,
    ) -> list[SearchAnswer]:
        """One answer a request, in order. The same request gets the same answer in any batch, up to float rounding.

        ``weights``: a book, or what `ordering` of this engine made of one, which spares the work. ``pools`` is left what each
        page was drawn from.
        """
        ordering = weights if isinstance(weights, Ordering) else self.ordering(weights)
        limits = [self._limits(request) for request in batch]
        asked = [n for n, limit in enumerate(limits) if not limit.reason]
        beams = self._search([batch[n] for n in asked], [limits[n].nodes for n in asked]) if asked else None
        answers = []
        for n, (request, limit) in enumerate(zip(batch, limits, strict=True)):
            page = Page()
            if beams is not None and not limit.reason:
                rows_C, logp_C = self._pool(beams, asked.index(n), request, limit)
                page = self._page(request, rows_C, logp_C, ordering, snapshot, pools)
            answers.append(
                SearchAnswer(
                    request_id=request.request_id,
                    query=request.query,
                    checkpoint=self.checkpoint,
                    weights_version=ordering.version(request),
                    snapshot_version=snapshot_version,
                    items=page.items,
                    list_propensity_log=page.logp,
                    support=page.support,
                    reason=limit.reason,
                    notes=limit.notes,
                    campaigns=page.campaigns,
                )
            )
        return answers

    def _remade(
        self, policy: Policy, checkpoint: str, absorbed: Sequence[Absorbed], shelf: Shelf, relevance: Relevance
    ) -> SearchEngine:
        return SearchEngine(
            policy, shelf.trie, shelf.catalogue, self._identifiers, relevance, self._encoder,
            self.settings, self.score, checkpoint=checkpoint, absorbed=absorbed, shelf=shelf,
        )  # fmt: skip

    def _limits(self, request: SearchRequest) -> Limits:
        """Availability at the request's time and its filter, as a mask over the trie's nodes."""
        if not request.items:
            nodes = self.shelf.nodes_at(request.ts)
            if nodes is not None and not nodes[0].any():
                return Limits(reason="no item of the catalogue is available at the request's time")
            return Limits(nodes)
        row = self.shelf.catalogue.row
        known = np.array(sorted({row[item] for item in request.items if item in row}), dtype=np.int64)
        unknown = sum(item not in row for item in request.items)
        notes = (f"{unknown} of {len(request.items)} items in the filter are not in the catalogue",) if unknown else ()
        rows = known[self.shelf.here(known, request.ts)]
        if not len(rows):
            why = "is in the catalogue" if not len(known) else "is available at the request's time"
            return Limits(reason=f"none of the {len(request.items)} items in the filter {why}", notes=notes)
        return Limits(self.shelf.nodes_of(rows), rows, notes=notes)

    def _search(self, requests: Sequence[SearchRequest], masks: Sequence[NodeMask]) -> Beams:
        contexts = [PromptContext(r.query, r.recent_queries, r.recent_items) for r in requests]
        width = max(self.settings.beam, *(request.k for request in requests))
        available = None if all(mask is None for mask in masks) else masks
        return beam_search(self.policy, self.prompts(contexts), self.shelf.trie, width, available, self.settings.temperature)

    def _pool(self, beams: Beams, at: int, request: SearchRequest, limits: Limits) -> tuple[IntArray, FloatArray]:
        """Rows [C] and log-probabilities [C] of the items at the found leaves that may be shown.

        A beam that was widened for another request of the batch is cut, so that a request's pool is its own.
        """
        width = max(self.settings.beam, request.k)
        valid_W = beams.valid_BW[at, :width].numpy()
        leaf_W = beams.leaf_BW[at, :width].numpy()[valid_W]
        logp_W = beams.score_BW[at, :width].numpy()[valid_W].astype(np.float64)
        owner_C, rows_C = self.shelf.trie.items_of(leaf_W)
        keep_C = self.shelf.here(rows_C, request.ts)
        if limits.rows is not None:
            keep_C &= np.isin(rows_C, limits.rows)
        return rows_C[keep_C], logp_W[owner_C[keep_C]]

    def _page(
        self,
        request: SearchRequest,
        rows_C: IntArray,
        logp_C: FloatArray,
        ordering: Ordering,
        snapshot: PosteriorSnapshot,
        pools: PoolSink | None,
    ) -> Page:
        """The drawn page."""
        shelf = self.shelf
        items = [shelf.catalogue.items[row] for row in rows_C]
        tier_C, _ = self._relevance.tiers(request.query, rows_C)
        ctr_C = snapshot.ctr(normalise(request.query), items).mean_N
        (wished, excess), campaigns = ordering.of(request, rows_C)
        terms_C5 = serving_terms(logp_C, tier_C, ctr_C, wished, self.score, excess)
        total_C = terms_C5.sum(axis=-1)
        noise_C = gumbel(self.settings.seed, request.request_id, shelf.keys_N[rows_C])
        drawn = draw(total_C, request.k, self.settings.exploration, noise_C)
        if pools is not None and pools.wants(request.request_id):
            about = self.settings.exploration, self.checkpoint, ordering.version(request)
            pools.keep(request.user, pool_of(request, items, (logp_C, tier_C, ctr_C), excess, *about))
        page = tuple(
            AnsweredItem(
                item=items[c],
                sid=tuple(shelf.trie.sids_NL[rows_C[c]].tolist()),
                title=shelf.catalogue.titles[rows_C[c]],
                position=position,
                scores=_scores(terms_C5[c].tolist(), int(tier_C[c]), float(ctr_C[c])),
                propensity=float(np.exp(logp)),
            )
            for position, (c, logp) in enumerate(zip(drawn.order_k, drawn.logp_k, strict=True), start=1)
        )
        return Page(page, float(drawn.logp_k.sum()), campaigns, drawn.support)


def _scores(terms: list[float], tier: int, ctr: float) -> Scores:
    """``terms`` in the order of `reward.composite.SERVING_TERMS`."""
    policy, relevance, attraction, multiplier, taken_up = terms
    return Scores(policy, relevance, attraction, multiplier, taken_up, tier, ctr, sum(terms))
