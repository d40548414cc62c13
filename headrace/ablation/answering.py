"""Who answers the searches of an arm: the policy through the server's engine, or a yardstick without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.ablation.lab import Lab
from headrace.ablation.plane import Plane
from headrace.evaluation.yardsticks import ClickMemory, LexicalSearch, allowed_rows
from headrace.settings import Settings
from headrace.world import Outcome, Request, World
from reward.composite import serving_score
from reward.relevance import RelevanceScorer
from reward.settings import ServingScoreSettings
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.checkpoints import Absorbed
from schemas.events import Click, Impression, ShownItem
from schemas.weights import RewardWeights
from serving.engine import SearchEngine
from serving.requests import SearchRequest, impression
from trainers.policies.base import Policy


class Tiers:
    """A relevance scorer that is asked once for each (query, item); answers belong to it, so each arm has its own."""

    def __init__(self, scorer: RelevanceScorer, version: str) -> None:
        self._scorer, self.version = scorer, version
        self._known: dict[str, dict[int, tuple[int, float]]] = {}

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """(tier_N, confidence_N) of catalogue rows."""
        known = self._known.setdefault(query, {})
        wanted: list[int] = np.asarray(rows).tolist()
        if fresh := sorted({row for row in wanted if row not in known}):
            tier_M, confidence_M = self._scorer.tiers(query, np.array(fresh, np.int64))
            known.update(zip(fresh, zip(tier_M.tolist(), confidence_M.tolist(), strict=True), strict=True))
        found = [known[row] for row in wanted]
        return np.array([tier for tier, _ in found], np.int8), np.array([sure for _, sure in found], np.float32)

    def over(self, catalogue: Catalogue, encode: Callable[[list[str]], NDArray[np.float32]]) -> Tiers:
        """See `RelevanceScorer.over`."""
        return Tiers(self._scorer.over(catalogue, encode), self.version)


class TrueTiers:
    """The world's own tiers in the scorer's place, each certain."""

    def __init__(self, world: World, catalogue: Catalogue) -> None:
        self._world, self._catalogue = world, catalogue

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        """(tier_N, confidence_N) of catalogue rows."""
        items = [self._catalogue.items[row] for row in np.asarray(rows).tolist()]
        return self._world.tiers(query, items), np.ones(len(items), np.float32)

    def over(self, catalogue: Catalogue, encode: Callable[[list[str]], NDArray[np.float32]]) -> TrueTiers:
        """The same world over another catalogue."""
        return TrueTiers(self._world, catalogue)


class Answerer(Protocol):
    """Answers a batch of searches, none of which hangs on another."""

    #: Whether the posterior of what was shown is asked for; else nobody keeps count.
    counts: bool
    #: Whether a page may hang on the page before it, of whatever user.
    at_once: bool

    def answer(self, requests: Sequence[Request], asked: Sequence[SearchRequest]) -> list[Impression | None]:
        """The page of each, None where nothing could be shown."""

    def observe(self, request: Request, shown: Sequence[str], outcome: Outcome) -> None:
        """What became of a page."""


class PolicyAnswers:
    """The server's engine over what is served; `swap` puts another policy in its place."""

    counts, at_once = True, False

    def __init__(self, lab: Lab, settings: Settings, tiers: Tiers | TrueTiers, plane: Plane, frozen: Policy) -> None:
        parts, identifiers = lab.parts, lab.parts.identifiers
        self._plane = plane
        self.engine = SearchEngine(
            frozen, parts.trie, parts.catalogue, identifiers, tiers, parts.encoder,
            settings.serving.engine, settings.reward.serving, checkpoint=lab.artefacts.frozen,
        )  # fmt: skip
        self._ordering = self.engine.ordering(RewardWeights())

    def swap(self, policy: Policy, checkpoint: str, absorbed: Sequence[Absorbed]) -> None:
        """Serve another policy from now on."""
        self.engine = self.engine.with_policy(policy, checkpoint, absorbed)
        self._ordering = self.engine.ordering(RewardWeights())

    def answer(self, requests: Sequence[Request], asked: Sequence[SearchRequest]) -> list[Impression | None]:
        """See `Answerer.answer`."""
        pointer = self._plane.pointer
        version = pointer.version if pointer else 0
        answers = self.engine.answer(asked, self._ordering, self._plane.rates(pointer), version)
        return [impression(one, answer) if answer.items else None for one, answer in zip(asked, answers, strict=True)]

    def observe(self, request: Request, shown: Sequence[str], outcome: Outcome) -> None:
        """The plane tells it, in its time."""


class TableAnswers:
    """Tier and posterior CTR of all items by the server's own formula, the policy left out of it; no exploration."""

    counts, at_once = True, False

    def __init__(self, lab: Lab, score: ServingScoreSettings, tiers: Tiers | TrueTiers, plane: Plane) -> None:
        self._catalogue, self._score, self._tiers, self._plane = lab.world.catalogue, score, tiers, plane

    def answer(self, requests: Sequence[Request], asked: Sequence[SearchRequest]) -> list[Impression | None]:
        """See `Answerer.answer`."""
        return [page_of(one, self._best(request, one.k)) for request, one in zip(requests, asked, strict=True)]

    def observe(self, request: Request, shown: Sequence[str], outcome: Outcome) -> None:
        """The plane tells it, in its time."""

    def _best(self, request: Request, k: int) -> list[str]:
        row_N = allowed_rows(self._catalogue, request)
        items = [self._catalogue.items[row] for row in row_N.tolist()]
        ctr_N = self._plane.rates(self._plane.pointer).ctr(normalise(request.query), items).mean_N
        tier_N, _ = self._tiers.tiers(request.query, row_N)
        score_N = serving_score(0.0, tier_N, ctr_N, RewardWeights(), self._score)
        return [items[n] for n in np.argsort(-score_N, kind="stable")[:k].tolist()]


class LexicalAnswers:
    """BM25."""

    counts, at_once = False, False

    def __init__(self, lexical: LexicalSearch) -> None:
        self._lexical = lexical

    def answer(self, requests: Sequence[Request], asked: Sequence[SearchRequest]) -> list[Impression | None]:
        """See `Answerer.answer`."""
        return [page_of(one, self._lexical.rank(request, one.k)) for request, one in zip(requests, asked, strict=True)]

    def observe(self, request: Request, shown: Sequence[str], outcome: Outcome) -> None:
        """It does not learn."""


class MemoryAnswers:
    """A memory of clicks: it begins with the log's, and learns from its own pages at once."""

    counts, at_once = False, True

    def __init__(self, lab: Lab, settings: Settings) -> None:
        self._memory = ClickMemory(lab.lexical, lab.world.catalogue, settings.reward.posterior.position_power)
        clicked: dict[str, set[str]] = {}
        for event in lab.history:
            if isinstance(event, Click):
                clicked.setdefault(event.request_id, set()).add(event.item)
        for event in lab.history:
            if isinstance(event, Impression):
                shown = [s.item for s in sorted(event.items, key=lambda s: s.position)]
                self._memory.learn(event.query, shown, clicked.get(event.request_id, set()))

    def answer(self, requests: Sequence[Request], asked: Sequence[SearchRequest]) -> list[Impression | None]:
        """See `Answerer.answer`."""
        return [page_of(one, self._memory.rank(request, one.k)) for request, one in zip(requests, asked, strict=True)]

    def observe(self, request: Request, shown: Sequence[str], outcome: Outcome) -> None:
        """Learn from a page."""
        self._memory.observe(request, shown, outcome)


def page_of(asked: SearchRequest, shown: Sequence[str]) -> Impression | None:
    """A page view that was ordered without chance."""
    if not shown:
        return None
    items = tuple(ShownItem(item, position) for position, item in enumerate(shown, start=1))
    return Impression(
        asked.ts, asked.request_id, asked.user, asked.query, items, asked.session, asked.recent_queries,
        asked.recent_items, asked.items, segment=asked.segment, market=asked.market, recent_orders=asked.recent_orders,
    )  # fmt: skip
