"""The search engine as a library: requests in, drawn pages out. No web, no Kafka, no clock.

Beam search over the catalogue's trie finds the pool; what is in it is ordered by the serving score (policy log-probability
plus the active reward weights and campaigns on tier and posterior CTR, less what the policy has taken up of them) and drawn with the exploration noise of the request. The server
and the offline evaluation use the same engine, so two checkpoints can meet the same requests, pools of time and draws.
Letters: B requests, W beam width, C candidates of a request, N items, L levels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
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
from serving.exploration import Draw, draw, gumbel
from serving.limits import Limits, limits_of
from serving.ordering import Ordering
from serving.pools import PoolSink, pool_of
from serving.requests import AnsweredItem, Scores, SearchAnswer, SearchRequest
from serving.settings import EngineSettings
from serving.shelf import Shelf
from serving.tiers import KnownTiers, Relevance
from trainers.beam import Beams, NodeMask, beam_search
from trainers.identifiers.build import Identifiers
from trainers.identifiers.trie import Trie
from trainers.policies.base import Policy, PromptBatch, PromptContext, context_of
from trainers.policies.lexical import LexicalIndex
from trainers.policies.prompts import Encoder, PromptBuilder
from trainers.policies.restricted import TrieTables

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


class Pool(NamedTuple):
    """What a page is drawn from: C items and their log-probabilities, the first ``pinned`` of them as an operator put them."""

    rows_C: IntArray
    logp_C: FloatArray
    pinned: int = 0


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
        relevance: Relevance | KnownTiers,
        encoder: Encoder,
        settings: EngineSettings,
        score: ServingScoreSettings | None = None,
        *,
        checkpoint: str = "",
        absorbed: Sequence[Absorbed] = (),
        shelf: Shelf | None = None,
        lexical: LexicalIndex | None = None,
    ) -> None:
        """``catalogue``: the one that the run was prepared with; ``absorbed``: the checkpoint's; ``shelf``: what there is now, where
        that differs; ``lexical``: the index over it, made here when the prompt needs it.

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
        self._identifiers, self._encoder, self._prepared = identifiers, encoder, catalogue
        self._tiers = relevance if isinstance(relevance, KnownTiers) else KnownTiers(relevance)
        if policy.settings.prompt.lexical_items and lexical is None:
            lexical = LexicalIndex.of(catalogue).over(self.shelf.assortment, self.shelf.catalogue.items)
        self._prompts = PromptBuilder.of(
            policy.tokenizer, policy.settings.prompt, identifiers, encoder, self.shelf.sid_of, catalogue, lexical
        )

    def with_policy(self, policy: Policy, checkpoint: str, absorbed: Sequence[Absorbed] = ()) -> SearchEngine:
        """The same shelf under another checkpoint; big arrays are shared.

        Raises:
            Incompatible: the policy was trained with other identifiers.
        """
        return self._remade(policy, checkpoint, absorbed, self.shelf, self._tiers, self._prompts.lexical)

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
        scorer = self._tiers if relevance is None else relevance(shelf.catalogue)
        lexical = self._prompts.lexical
        if lexical is not None:
            lexical = lexical.over(shelf.assortment, [event.item for event in added])
        return self._remade(self.policy, self.checkpoint, self.absorbed, shelf, scorer, lexical)

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
        limits = [limits_of(self.shelf, request) for request in batch]
        asked = [n for n, limit in enumerate(limits) if not limit.reason]
        found = dict(zip(asked, self._search([batch[n] for n in asked], [limits[n].nodes for n in asked]), strict=True))
        answers = []
        for n, (request, limit) in enumerate(zip(batch, limits, strict=True)):
            page, cut = Page(), False
            if n in found:
                cut = self._prompts.cuts(request.query)
                pool = self._pool(*found[n], request, limit)
                page = self._page(request, pool, ordering, snapshot, pools)
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
                    query_truncated=cut,
                )
            )
        return answers

    def _remade(
        self, policy: Policy, checkpoint: str, absorbed: Sequence[Absorbed], shelf: Shelf,
        relevance: Relevance | KnownTiers, lexical: LexicalIndex | None,
    ) -> SearchEngine:  # fmt: skip
        made = SearchEngine(
            policy, shelf.trie, self._prepared, self._identifiers, relevance, self._encoder,
            self.settings, self.score, checkpoint=checkpoint, absorbed=absorbed, shelf=shelf, lexical=lexical,
        )  # fmt: skip
        # Otherwise every query that is asked again after a swap would be embedded again, all of them at once.
        made._prompts.inherit(self._prompts)
        return made

    def _search(self, requests: Sequence[SearchRequest], masks: Sequence[NodeMask]) -> list[tuple[Beams, int]]:
        """For each request the beams of a search and its row there; a search for each width that is asked for, as the best ones
        of a wide beam are not what a narrow one finds."""
        widths = [max(self.settings.beam, request.k) for request in requests]
        found: dict[int, tuple[Beams, int]] = {}
        for width in sorted(set(widths)):
            rows = [row for row, its in enumerate(widths) if its == width]
            prompts = self.prompts([context_of(requests[row]) for row in rows])
            available = None if all(masks[row] is None for row in rows) else [masks[row] for row in rows]
            # Made before: a learner in this process may have gradients pass through what is kept with the trie.
            TrieTables.of(self.shelf.trie, torch.device("cpu"))
            with torch.inference_mode():  # a tenth less time than without gradient alone
                beams = beam_search(self.policy, prompts, self.shelf.trie, width, available, self.settings.temperature)
            found |= {row: (beams, at) for at, row in enumerate(rows)}
        return [found[row] for row in range(len(requests))]

    def _pool(self, beams: Beams, at: int, request: SearchRequest, limits: Limits) -> Pool:
        """The items at the found leaves that may be shown, behind the pinned ones."""
        valid_W = beams.valid_BW[at].numpy()
        leaf_W = beams.leaf_BW[at].numpy()[valid_W]
        logp_W = beams.score_BW[at].numpy()[valid_W].astype(np.float64)
        owner_C, rows_C = self.shelf.trie.items_of(leaf_W)
        keep_C = self.shelf.here(rows_C, request.ts) if limits.passing_N is None else limits.passing_N[rows_C]
        if not limits.pinned:
            return Pool(rows_C[keep_C], logp_W[owner_C[keep_C]])
        pinned_P = np.array(limits.pinned, dtype=np.int64)
        keep_C &= ~np.isin(rows_C, pinned_P)
        logp_C = np.concatenate([self._logp(request, pinned_P), logp_W[owner_C[keep_C]]])
        return Pool(np.concatenate([pinned_P, rows_C[keep_C]]), logp_C, len(pinned_P))

    @torch.no_grad()
    def _logp(self, request: SearchRequest, rows_P: IntArray) -> FloatArray:
        """Log-probability [P] of items that no beam need have found, scored as the beam scores."""
        sids_1PL = torch.from_numpy(self.shelf.trie.sids_of(rows_P).astype(np.int64))[None]
        prompts = self.prompts([context_of(request)])
        logp_1PL = self.policy.logprobs(prompts, sids_1PL, self.shelf.trie, self.settings.temperature)
        logp_P: FloatArray = logp_1PL[0].sum(dim=-1).numpy().astype(np.float64)
        return logp_P

    def _page(
        self,
        request: SearchRequest,
        pool: Pool,
        ordering: Ordering,
        snapshot: PosteriorSnapshot,
        pools: PoolSink | None,
    ) -> Page:
        """The drawn page."""
        shelf, rows_C, logp_C = self.shelf, pool.rows_C, pool.logp_C
        items = [shelf.catalogue.items[row] for row in rows_C]
        tier_C = self._tiers.of(request.query, rows_C)
        ctr_C = snapshot.ctr(normalise(request.query), items).mean_N
        (wished, excess), campaigns = ordering.of(request, rows_C)
        terms_C5 = serving_terms(logp_C, tier_C, ctr_C, wished, self.score, excess)
        drawn = self._draw(request, pool, terms_C5.sum(axis=-1))
        # Places that nobody drew say nothing about other weights: such a page has no pool.
        if pools is not None and not pool.pinned and pools.wants(request.request_id):
            about = self.settings.exploration, self.checkpoint, ordering.version(request)
            pools.keep(request.user, pool_of(request, items, (logp_C, tier_C, ctr_C), excess, *about))
        sids = shelf.trie.sids_of(rows_C[drawn.order_k]).tolist()
        page = tuple(
            AnsweredItem(
                item=items[c],
                sid=tuple(sid),
                title=shelf.catalogue.titles[rows_C[c]],
                position=position,
                scores=_scores(terms_C5[c].tolist(), int(tier_C[c]), float(ctr_C[c])),
                propensity=float(np.exp(logp)),
            )
            for position, (c, sid, logp) in enumerate(zip(drawn.order_k, sids, drawn.logp_k, strict=True), start=1)
        )
        return Page(page, float(drawn.logp_k.sum()), campaigns, drawn.support)

    def _draw(self, request: SearchRequest, pool: Pool, total_C: FloatArray) -> Draw:
        """The pinned items as they are, certain and without a rival; behind them a draw from the others."""
        pinned, others = np.arange(pool.pinned), slice(pool.pinned, None)
        noise_C = gumbel(self.settings.seed, request.request_id, self.shelf.keys_N[pool.rows_C[others]])
        drawn = draw(total_C[others], request.k - pool.pinned, self.settings.exploration, noise_C)
        return Draw(
            np.concatenate([pinned, pool.pinned + drawn.order_k]),
            np.concatenate([np.zeros(pool.pinned), drawn.logp_k]),
            pool.pinned + drawn.support,
        )


def _scores(terms: list[float], tier: int, ctr: float) -> Scores:
    """``terms`` in the order of `reward.composite.SERVING_TERMS`."""
    policy, relevance, attraction, multiplier, taken_up = terms
    return Scores(policy, relevance, attraction, multiplier, taken_up, tier, ctr, sum(terms))
