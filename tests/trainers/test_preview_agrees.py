"""What a preview says of item rewards is what the learner computes from the same examples."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reward.campaigns.force import in_force
from reward.campaigns.weighing import Weighing
from reward.examination import start
from reward.preview.pages import Pages
from reward.preview.preview import preview
from reward.preview.shifts import reward_terms
from reward.settings import PosteriorSettings, RewardSettings
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.examples import TrainingExample
from schemas.weights import RewardWeights
from tests.reward import preview_toys
from tests.reward.preview_toys import NOW_MS, Toys
from tests.trainers.learner_toys import RuleTiers
from trainers.identifiers.trie import Trie
from trainers.rewards import RewardModel

ITEMS = 60


def snapshot() -> PosteriorSnapshot:
    """Clicks on some pairs, each shown at two places, so that rates differ and examination is estimated."""
    from reward.counts import Counts
    from schemas.posteriors import CountDelta

    rng = np.random.default_rng(4)
    pairs = [(f"query {q}", f"i{n}") for q in range(3) for n in range(0, ITEMS, 2)]
    deltas = [
        CountDelta(q, i, 0, int(rng.integers(40, 90)) * 2**20, int(rng.integers(0, 40)), 0, 0, place)
        for n, (q, i) in enumerate(pairs)
        for place in (1 + n % 6, 1 + (n + 3) % 6)
    ]
    return PosteriorSnapshot(PosteriorSnapshot.build(Counts(deltas), 0, PosteriorSettings()))


def test_the_examination_is_the_snapshots_own() -> None:
    """So that what follows tells it from the power that everything starts from."""
    settings, places = PosteriorSettings(), np.arange(1, 7)
    assert snapshot().examination.version == 1
    assert np.abs(snapshot().examination.at(places) - start(settings).at(places)).max() > 0.1


def factual(toys: Toys, rates: PosteriorSnapshot) -> list[TrainingExample]:
    """The examples with the components that rewarding gives them: the scorer's tiers, the snapshot's rates."""
    made = []
    for e in toys.examples:
        names = [item.item for item in e.items]
        tier_K, _ = RuleTiers().tiers(e.query, np.array([toys.row[name] for name in names]))
        ctr_K = rates.ctr(normalise(e.query), names).mean_N
        facts = zip(e.items, tier_K.tolist(), ctr_K.tolist(), strict=True)
        items = tuple(msgspec.structs.replace(item, tier=tier, ctr=ctr) for item, tier, ctr in facts)
        made.append(msgspec.structs.replace(e, items=items))
    return made


def trie() -> Trie:
    """An identifier for each item."""
    return Trie.build(np.array([[n // 8, n % 8, 0, 0, 0] for n in range(ITEMS)]), (8, 8, 1, 1, 1))


def campaign(id: str, scope: Scope, **changes: Any) -> Campaign:
    return Campaign(id, 1, id, "ann", scope, **changes)


BOOKS = [
    RewardWeights(),
    RewardWeights(version=2, relevance=0.3, ctr=20.0, click=1.0, order=8.0),
    RewardWeights(
        version=3,
        campaigns=(
            campaign("lamps", Scope(categories=("lamps",), queries=("query 1",)), relevance=3.0, multipliers=Multipliers(margin=1.7)),
            campaign("acme", Scope(brands=("acme",), segments=("new",)), click=7.0, priority=200),
            campaign("fresh", Scope(markets=("north",)), multipliers=Multipliers(new_items=2.0, new_days=1.5, brands={"acme": 0.5})),
            campaign("over", Scope(), order=50.0, ends_ms=NOW_MS - 1),
        ),
    ),
]  # fmt: skip


@pytest.mark.parametrize("book", BOOKS, ids=["defaults", "other defaults", "campaigns"])
@pytest.mark.parametrize("expected", [True, False], ids=["expected", "observed"])
@settings(max_examples=15)
@given(st.integers(0, 10**6))
def test_item_rewards_are_the_learners(book: RewardWeights, expected: bool, seed: int) -> None:
    """`RewardModel.score` of the shown items' identifiers, one page at a time, to 1e-6; and the terms apart."""
    toys, rates = preview_toys.make(12, seed=seed, items=ITEMS, shown=(1, 4, 6), queries=3), snapshot()
    examples = factual(toys, rates)
    now = in_force(book, NOW_MS)
    pages = Pages.of(examples, toys.row)
    said_P3 = reward_terms(pages, Weighing(now, toys.facts.with_blank()), rates.examination if expected else None)
    model = RewardModel(toys.catalogue, trie(), RuleTiers(), expected=expected)
    of = {request: said_P3[pages.page_P == m] for m, request in enumerate(pages.requests)}
    for e in examples:
        leaf_G: NDArray[np.int64] = trie().leaf_of_item_N[[toys.row[item.item] for item in e.items]]
        learned = model.score([e], leaf_G[None], now, rates)
        np.testing.assert_allclose(of[e.request_id], learned.terms_BG3[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(of[e.request_id].sum(axis=1), learned.reward_BG[0], rtol=0, atol=1e-6)


def test_the_previews_means_are_those_of_the_learner() -> None:
    """The means before and after, and the shares of variance of pages of one length, from the learner's own numbers."""
    toys, rates = preview_toys.make(40, items=ITEMS, shown=5, queries=3), snapshot()
    examples, model = factual(toys, rates), RewardModel(toys.catalogue, trie(), RuleTiers(), expected=True)
    found = preview(examples, {}, BOOKS[0], BOOKS[2], toys.row, toys.facts, RewardSettings(), NOW_MS, rates.examination)
    leaf_BG = np.array([trie().leaf_of_item_N[[toys.row[item.item] for item in e.items]] for e in examples])
    shares = (found.term_shares_before, found.term_shares_after)
    for book, mean, share in zip((BOOKS[0], BOOKS[2]), (found.rewards.before, found.rewards.after), shares, strict=True):
        metrics = model.score(examples, leaf_BG, in_force(book, NOW_MS), rates).metrics()
        assert mean == pytest.approx(metrics["reward"], abs=1e-6)
        for name, value in share.items():
            assert value == pytest.approx(metrics[f"variance_share.{name}"], abs=1e-6)
