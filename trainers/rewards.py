"""The composite reward of every generated identifier, its components kept apart.

An identifier may hold several items: it is worth its best item in the shop at the request's time. Each (request,
item) pair is scored once, however many rollouts produced it. What differs from the paper: with an examination curve, R_co of
an item without a click is its chance of one had it been looked at, not 0. Letters: B requests, G identifiers each, P pairs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.weighing import Weighing
from reward.composite import TERMS, learned_terms, term_shares
from reward.examination import Examination
from reward.facets import Facets
from reward.text import normalise
from schemas.catalogue import Catalogue
from schemas.examples import TrainingExample
from schemas.filters import Filter
from schemas.weights import RewardWeights
from trainers.identifiers.trie import Trie
from trainers.policies.prompts import Encoder

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Tiers(Protocol):
    """Relevance of any (query, item); `reward.relevance.RelevanceScorer` is one."""

    def tiers(self, query: str, rows: Ints) -> tuple[NDArray[Any], NDArray[Any]]:
        """(tier, confidence) of catalogue rows."""

    def over(self, catalogue: Catalogue, encode: Callable[[list[str]], NDArray[np.float32]]) -> Tiers:
        """The same over what the catalogue has become: other titles in some rows, new ones behind the last."""


class ClickRates(Protocol):
    """Calibrated posterior CTR; `reward.snapshot.PosteriorSnapshot` is one."""

    @property
    def examination(self) -> Examination:
        """How likely each position is looked at, as the rates were estimated under."""

    def ctr(self, query_key: str, items: Sequence[str]) -> tuple[Floats, Floats, Floats]:
        """(mean, variance, effective sample size) per item."""


@dataclass(frozen=True)
class GroupRewards:
    """Rewards of B groups. A place whose identifier has no available item is worth 0 in every term."""

    reward_BG: Floats
    terms_BG3: Floats  #: weighted terms, last axis `reward.composite.TERMS`
    row_BG: Ints  #: catalogue row of the item it was scored by, -1 where none is available
    tier_BG: Floats
    ctr_BG: Floats

    def metrics(self) -> dict[str, float]:
        """Mean reward, mean of each term, its share of the variance within groups, and what had no available item."""
        means = self.terms_BG3.reshape(-1, len(TERMS)).mean(axis=0)
        shares = term_shares(self.terms_BG3)
        constant = (self.reward_BG == self.reward_BG[:, :1]).all(axis=1)
        return {
            "reward": float(self.reward_BG.mean()),
            **{f"reward.{name}": float(mean) for name, mean in zip(TERMS, means, strict=True)},
            **{f"variance_share.{name}": share for name, share in shares.items()},
            "reward_spread": float(self.reward_BG.std(axis=1).mean()),
            "constant_groups": float(constant.mean()),
            "unavailable": float((self.row_BG < 0).mean()),
        }


class RewardModel:
    """Scores identifiers of the catalogue's trie for requests."""

    def __init__(self, catalogue: Catalogue, trie: Trie, tiers: Tiers, *, expected: bool = False) -> None:
        """``expected``: an item without a click counts with its chance of one (`click_if_examined`), by the snapshot's own
        examination of its place; else R_co as observed."""
        self._catalogue, self._trie, self._tiers, self._expected = catalogue, trie, tiers, expected
        self.facts = ItemFacts.of(catalogue)
        self._weighing = Weighing(RewardWeights(), self.facts)

    def over(self, catalogue: Catalogue, trie: Trie, encoder: Encoder) -> RewardModel:
        """The same over what catalogue and trie have become; ``encoder`` embeds titles that are new."""
        tiers = self._tiers.over(catalogue, encoder.encode)
        return RewardModel(catalogue, trie, tiers, expected=self._expected)

    def in_shop(self, view: TrainingExample) -> NDArray[np.bool_]:
        """bool [N]: in the shop at the view's time. What a generated identifier is scored by.

        A request's own candidates limit what may be returned, not what is worth learning: beside a small set nearly every
        rollout would be worth nothing, and its group would teach nothing.
        """
        mask_N: NDArray[np.bool_] = self._catalogue.available_from_N <= view.ts
        return mask_N

    def available(self, view: TrainingExample) -> NDArray[np.bool_]:
        """bool [N]: what a search for this view may return: in the shop, past its filter, among its candidates where it named some."""
        mask_N = self.in_shop(view)
        if view.candidates:
            wanted_N = np.zeros(len(self._catalogue), dtype=np.bool_)
            wanted_N[[self._catalogue.row[item] for item in view.candidates if item in self._catalogue.row]] = True
            mask_N = mask_N & wanted_N
        return mask_N if view.filter == Filter() else mask_N & self._facets.passing(view.filter)

    @cached_property
    def _facets(self) -> Facets:
        return Facets(self._catalogue)

    def score(
        self, views: Sequence[TrainingExample], leaf_BG: ArrayLike, weights: RewardWeights, rates: ClickRates,
        among: Sequence[NDArray[np.bool_]] | None = None,
    ) -> GroupRewards:  # fmt: skip
        """Rewards of the identifiers at these leaves of the trie for B views, with the views' own clicks and orders.

        ``weights``: what is in force now; its campaigns apply to a view by their scope, and items are as new as they were then.
        ``among``: bool [N] a view, the items that an identifier may be worth; None: those in the shop (`in_shop`).
        """
        if weights != self._weighing.weights:
            self._weighing = Weighing(weights, self.facts)
        leaf_BG = np.asarray(leaf_BG, dtype=np.int64)
        reward_BG, tier_BG, ctr_BG = (np.zeros(leaf_BG.shape) for _ in range(3))
        terms_BG3 = np.zeros((*leaf_BG.shape, len(TERMS)))
        row_BG = np.full(leaf_BG.shape, -1, dtype=np.int64)
        for b, view in enumerate(views):
            leaf_U, place_G = np.unique(leaf_BG[b], return_inverse=True)
            best = self._best(view, leaf_U, rates, self.in_shop(view) if among is None else among[b])
            terms_BG3[b], row_BG[b], tier_BG[b], ctr_BG[b] = (column_U[place_G] for column_U in best)
            reward_BG[b] = terms_BG3[b].sum(axis=-1)
        return GroupRewards(reward_BG, terms_BG3, row_BG, tier_BG, ctr_BG)

    def _best(
        self, view: TrainingExample, leaf_U: Ints, rates: ClickRates, among_N: NDArray[np.bool_]
    ) -> tuple[Floats, Ints, Floats, Floats]:
        """Per distinct leaf the terms, row, tier and click rate of its best item ``among_N``."""
        terms_U3, row_U = np.zeros((len(leaf_U), len(TERMS))), np.full(len(leaf_U), -1, dtype=np.int64)
        tier_U, ctr_U = np.zeros(len(leaf_U)), np.zeros(len(leaf_U))
        place_P, row_P = self._trie.items_of(leaf_U)
        keep_P = among_N[row_P]
        place_P, row_P = place_P[keep_P], row_P[keep_P]
        if len(row_P) == 0:
            return terms_U3, row_U, tier_U, ctr_U
        items = [self._catalogue.items[row] for row in row_P]
        done = {shown.item: shown for shown in view.items}
        clicked_P = [done[item].clicks if item in done else 0 for item in items]
        ordered_P = [done[item].orders if item in done else 0 for item in items]
        position_P = [done[item].position if item in done else 0 for item in items]
        tier_P, _ = self._tiers.tiers(view.query, row_P)
        ctr_P, _, _ = rates.ctr(normalise(view.query), items)
        weights_P = self._weighing.of(asked_of(view), row_P, view.ts)
        examination = rates.examination if self._expected else None
        terms_P3 = learned_terms(tier_P, ctr_P, clicked_P, ordered_P, position_P, weights_P, examination)
        # Sorted by (place, reward), the last pair of a place is its best; ties go to the later row.
        order = np.lexsort((row_P, terms_P3.sum(axis=-1), place_P))
        best = order[np.flatnonzero(np.diff(place_P[order], append=-1))]
        terms_U3[place_P[best]], row_U[place_P[best]] = terms_P3[best], row_P[best]
        tier_U[place_P[best]], ctr_U[place_P[best]] = tier_P[best], ctr_P[best]
        return terms_U3, row_U, tier_U, ctr_U


def asked_of(view: TrainingExample) -> Asked:
    """What campaigns ask of a view."""
    return Asked(normalise(view.query), view.segment, view.market)
