"""What a preview says of item rewards is what the learner computes from the same examples, whatever snapshot they were stored under."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from reward.campaigns.force import in_force
from reward.campaigns.weighing import Weighing
from reward.counts import Counts
from reward.preview.pages import Pages
from reward.preview.preview import preview
from reward.preview.rates import Rates
from reward.preview.shifts import reward_terms
from reward.settings import PosteriorSettings, RewardSettings
from reward.snapshot import PosteriorSnapshot
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.codec import decode, encode
from schemas.examples import TrainingExample
from schemas.posteriors import CountDelta, SnapshotPointer
from schemas.topics import SNAPSHOTS, VIEWS
from schemas.views import View, ViewItem
from schemas.weights import RewardWeights
from streams.rewarding.core import RewardingCore
from streams.runtime.core import Record
from tests.reward import preview_toys
from tests.reward.preview_toys import NOW_MS, Toys
from tests.trainers.learner_toys import RuleTiers
from trainers.identifiers.trie import Trie
from trainers.rewards import RewardModel

ITEMS = 60


def snapshot(version: int, power: float) -> PosteriorSnapshot:
    """Clicks on some pairs, each shown at two places, looked at as ``place ** -power``: rates and examination are estimated."""
    rng = np.random.default_rng(version)
    deltas = []
    for n, (query, item) in enumerate((f"query {q}", f"i{n}") for q in range(3) for n in range(0, ITEMS, 2)):
        shown, rate = int(rng.integers(40, 90)), rng.uniform(0.05, 0.9)
        for place in (1 + n % 6, 1 + (n + 3) % 6):
            clicks = int(rng.binomial(shown, rate * place**-power))
            deltas.append(CountDelta(query, item, 0, shown * 2**20, clicks, 0, 0, place))
    return PosteriorSnapshot(PosteriorSnapshot.build(Counts(deltas), 0, PosteriorSettings(), version=version))


#: What the examples were stored under, and what the learner's next step takes.
OLDER, NEWEST = snapshot(1, 1.6), snapshot(2, 0.2)


def rates(expected: bool) -> Rates:
    """The newest snapshot's, as `reward.preview.rates.NewestRates` reads them."""
    return Rates(2, NEWEST, NEWEST.examination if expected else None)


class Scored(RuleTiers):
    """With the version that rewarding writes into examples."""

    version = "rule"


def stored(toys: Toys) -> list[TrainingExample]:
    """The examples as the stream stored them when the older snapshot was the newest: views through the rewarding core."""
    pointer = SnapshotPointer(1, toys.examples[0].emitted_at - 1, "older", OLDER.sha256, 0, OLDER.pairs)
    core = RewardingCore(0, toys.catalogue, Scored(), lambda _: OLDER, PosteriorSettings())
    views = [
        View(
            e.example_id, e.request_id, e.status, e.revision, e.ts, e.emitted_at, e.user, e.query,
            tuple(ViewItem(i.item, i.position, i.propensity, i.clicks, i.orders, i.value) for i in e.items),
            weights_version=e.weights_version, segment=e.segment, market=e.market,
        )
        for e in toys.examples
    ]  # fmt: skip
    core.apply(SNAPSHOTS.name, [Record(0, 0, None, encode(pointer))])
    core.apply(VIEWS.name, [Record(n, 0, None, encode(view)) for n, view in enumerate(views)])
    core.advance()
    made = [decode(TrainingExample, output.value) for output in core.drain()[0]]
    assert [e.snapshot_version for e in made] == [1] * len(toys.examples)
    return made


def test_the_two_snapshots_differ() -> None:
    """So that what follows tells them apart: another curve, other rates, and other rewards from what is stored."""
    places = np.arange(1, 7)
    assert (OLDER.examination.version, NEWEST.examination.version) == (1, 2)
    assert np.abs(OLDER.examination.at(places) - NEWEST.examination.at(places)).max() > 0.3
    toys = preview_toys.make(12, items=ITEMS, shown=(1, 4, 6), queries=3)
    pages, weighing = Pages.of(stored(toys), toys.row), Weighing(BOOKS[0], toys.facts.with_blank())
    then_P3 = reward_terms(pages, weighing, OLDER.examination)
    now_P3 = reward_terms(rates(True).on(pages), weighing, NEWEST.examination)
    assert np.median(np.abs(then_P3 - now_P3).sum(axis=1)) > 0.05


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
    toys = preview_toys.make(12, seed=seed, items=ITEMS, shown=(1, 4, 6), queries=3)
    examples, asked = stored(toys), rates(expected)
    now = in_force(book, NOW_MS)
    pages = asked.on(Pages.of(examples, toys.row))
    said_P3 = reward_terms(pages, Weighing(now, toys.facts.with_blank()), asked.examination)
    model = RewardModel(toys.catalogue, trie(), RuleTiers(), expected=expected)
    of = {request: said_P3[pages.page_P == m] for m, request in enumerate(pages.requests)}
    for e in examples:
        leaf_G: NDArray[np.int64] = trie().leaf_of_item_N[[toys.row[item.item] for item in e.items]]
        learned = model.score([e], leaf_G[None], now, NEWEST)
        np.testing.assert_allclose(of[e.request_id], learned.terms_BG3[0], rtol=0, atol=1e-6)
        np.testing.assert_allclose(of[e.request_id].sum(axis=1), learned.reward_BG[0], rtol=0, atol=1e-6)


def test_the_previews_means_are_those_of_the_learner() -> None:
    """The means before and after, and the shares of variance of pages of one length, from the learner's own numbers."""
    toys = preview_toys.make(40, items=ITEMS, shown=5, queries=3)
    examples, model = stored(toys), RewardModel(toys.catalogue, trie(), RuleTiers(), expected=True)
    found = preview(examples, {}, BOOKS[0], BOOKS[2], toys.row, toys.facts, RewardSettings(), NOW_MS, rates(True))
    leaf_BG = np.array([trie().leaf_of_item_N[[toys.row[item.item] for item in e.items]] for e in examples])
    shares = (found.term_shares_before, found.term_shares_after)
    for book, mean, share in zip((BOOKS[0], BOOKS[2]), (found.rewards.before, found.rewards.after), shares, strict=True):
        metrics = model.score(examples, leaf_BG, in_force(book, NOW_MS), NEWEST).metrics()
        assert mean == pytest.approx(metrics["reward"], abs=1e-6)
        for name, value in share.items():
            assert value == pytest.approx(metrics[f"variance_share.{name}"], abs=1e-6)
