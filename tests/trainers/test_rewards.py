"""Rewards of generated identifiers, targets, and the list-wise objective over them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from reward.counts import UNIT, Counts
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from reward.text import normalise
from schemas.campaigns import Campaign, Multipliers, Scope
from schemas.errors import LearningError
from schemas.filters import Filter
from schemas.posteriors import CountDelta
from schemas.weights import RewardWeights
from tests.trainers.learner_toys import PRIOR, RuleTiers, catalogue, view
from trainers.identifiers.trie import Trie
from trainers.objective import group_loss
from trainers.rewards import RewardModel
from trainers.settings import LossSettings
from trainers.targets import Targets, targets_of

SIZES = (2, 2, 2, 2, 2)
#: Items 0 and 1 share an identifier; 2, 3, 4 have one each.
SIDS = np.array([[0, 0, 0, 0, 0], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0], [1, 1, 1, 1, 1]])
WEIGHTS = RewardWeights()
CTR = float(PRIOR.ctr("", ["i0"]).mean_N[0])


class FixedTiers:
    """Tiers by row."""

    def __init__(self, *tiers: int) -> None:
        self.by_row, self.asked = np.array(tiers, dtype=np.int8), 0

    def tiers(self, query: str, rows: NDArray[np.int64]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
        self.asked += len(rows)
        return self.by_row[rows], np.ones(len(rows), dtype=np.float32)


def shown(*items: tuple[str, int, int], **changes: object):  # type: ignore[no-untyped-def]
    """A view that shows these (item, clicks, orders), in this order."""
    base = view(1).items[0]
    made = tuple(
        type(base)(item, n, 1.0, 2, 1.0, 0.05, 0.0, clicks, orders, 0.0) for n, (item, clicks, orders) in enumerate(items, 1)
    )
    return view(1, items=made, **changes)


def model(tiers: FixedTiers, available_from: list[int] | None = None) -> RewardModel:
    """The five items."""
    return RewardModel(catalogue(5, available_from), Trie.build(SIDS, SIZES), tiers)


def leaves(*rows: int) -> NDArray[np.int64]:
    """[1, G] leaves of these rows' identifiers."""
    return Trie.build(SIDS, SIZES).leaf_of_item_N[list(rows)][None]


def test_a_shared_identifier_is_worth_its_best_item() -> None:
    """Items 0 (tier 1, clicked: 1 + ctr + 3) and 1 (tier 3: 3 + ctr) share one: the click wins; both places agree."""
    rewards = model(FixedTiers(1, 3, 0, 2, 0)).score([shown(("i0", 1, 0))], leaves(0, 1, 3), WEIGHTS, PRIOR)
    np.testing.assert_allclose(rewards.reward_BG, [[4 + CTR, 4 + CTR, 2 + CTR]])
    assert rewards.row_BG.tolist() == [[0, 0, 3]]
    np.testing.assert_allclose(rewards.terms_BG3[0, 0], [1, CTR, 3])


def test_orders_outrank_clicks_and_do_not_add_to_them() -> None:
    """Item 2 ordered (and clicked) is worth 4, item 3 clicked 3."""
    rewards = model(FixedTiers(0, 0, 0, 0, 0)).score([shown(("i2", 1, 1), ("i3", 2, 0))], leaves(2, 3), WEIGHTS, PRIOR)
    np.testing.assert_allclose(rewards.terms_BG3[0, :, 2], [4, 3])


def test_an_expected_interaction_takes_the_place_out_of_a_click() -> None:
    """i0 on top without a click: nothing; i1 clicked on place 2: 3; i2 on place 3 without one: 3 c (1 - t) / (1 - t c)
    with t = 3 ** -.85; i3 not shown: 3 c."""
    sids, sizes = Trie.build(SIDS, SIZES).sids_NL[2:], SIZES  # without the shared one
    judge = RewardModel(catalogue(len(sids)), Trie.build(sids, sizes), FixedTiers(0, 0, 0), expected=True)
    leaf_G = Trie.build(sids, sizes).leaf_of_item_N[None]
    rewards = judge.score([shown(("i0", 0, 0), ("i1", 1, 0))], leaf_G, WEIGHTS, PRIOR)
    np.testing.assert_allclose(rewards.terms_BG3[0, :, 2], [0, 3, 3 * CTR])
    third = judge.score([shown(("i1", 0, 0), ("i9", 0, 0), ("i0", 0, 0))], leaf_G, WEIGHTS, PRIOR)
    theta = 3**-0.85
    assert third.terms_BG3[0, 0, 2] == pytest.approx(3 * CTR * (1 - theta) / (1 - theta * CTR))


def test_an_expected_interaction_goes_by_the_snapshots_own_examination() -> None:
    """Two pairs, shown 1,000 times each on places 1 and 2 and clicked 400 and 200 times, put the second place near a half, not
    at 2 ** -.85 = .55; i2 there without a click: 3 c (1 - t) / (1 - t c) with the snapshot's own c and t."""
    counts = Counts(
        CountDelta("q", item, 0, 1_000 * UNIT, clicks, 0, 0, place)
        for item in ("i0", "i1")
        for place, clicks in ((1, 400), (2, 200))
    )
    rates = PosteriorSnapshot(PosteriorSnapshot.build(counts, 0, PosteriorSettings()))
    theta = float(rates.examination.at(2))
    assert theta == pytest.approx(0.5, abs=0.02) and abs(theta - 2**-0.85) > 0.03
    judge = RewardModel(catalogue(5), Trie.build(SIDS, SIZES), FixedTiers(0, 0, 0, 0, 0), expected=True)
    one = shown(("i3", 0, 0), ("i2", 0, 0))
    c = float(rates.ctr(normalise(one.query), ["i2"]).mean_N[0])
    found = judge.score([one], leaves(2, 2), WEIGHTS, rates)
    np.testing.assert_allclose(found.terms_BG3[0, :, 2], 3 * c * (1 - theta) / (1 - theta * c))


def test_unavailable_items_do_not_count() -> None:
    """Item 1 (tier 3) arrives after the view: its identifier is worth item 0 (tier 1); item 4's is worth nothing."""
    ts = view(1).ts
    judge = model(FixedTiers(1, 3, 0, 0, 3), [0, ts + 1, 0, 0, ts + 1])
    rewards = judge.score([shown(("i0", 0, 0))], leaves(0, 4), WEIGHTS, PRIOR)
    np.testing.assert_allclose(rewards.reward_BG, [[1 + CTR, 0]])
    assert rewards.row_BG.tolist() == [[0, -1]]
    assert rewards.metrics()["unavailable"] == 0.5


def test_candidates_limit_what_is_returned_not_what_is_worth_learning() -> None:
    """The same identifiers are worth the same with and without candidates; a search for the view may return items 1 and 3."""
    judge = model(FixedTiers(2, 1, 3, 0, 0))
    free, bound = shown(("i0", 1, 0)), shown(("i0", 1, 0), candidates=("i1", "i3", "gone"))
    rewards = judge.score([free, bound], np.concatenate([leaves(0, 2, 3)] * 2), WEIGHTS, PRIOR)
    np.testing.assert_array_equal(rewards.reward_BG[0], rewards.reward_BG[1])
    assert np.flatnonzero(judge.available(bound)).tolist() == [1, 3]
    assert judge.available(free).all()


def test_a_views_filter_limits_what_is_returned_too() -> None:
    """Every condition beside the candidates, as the server had it: items 1 and 3 are banned or too dear; pins keep nothing out."""
    shop = dataclasses.replace(catalogue(5), prices_N=np.array([1, 9, 1, 9, 1], np.float32))
    judge = RewardModel(shop, Trie.build(SIDS, SIZES), FixedTiers(2, 1, 3, 0, 0))

    def returned(asked: Filter, *candidates: str) -> list[int]:
        view = shown(("i0", 1, 0), filter=asked, candidates=candidates)
        free = judge.score([shown(("i0", 1, 0))], leaves(0, 1), WEIGHTS, PRIOR)
        np.testing.assert_array_equal(judge.score([view], leaves(0, 1), WEIGHTS, PRIOR).reward_BG, free.reward_BG)
        return np.flatnonzero(judge.available(view)).tolist()

    assert returned(Filter(max_price=5)) == [0, 2, 4]
    assert returned(Filter(ban=("i2", "gone"), max_price=5, pin=("i0",))) == [0, 4]
    assert returned(Filter(min_price=5), "i0", "i1") == [1]
    assert returned(Filter(categories=("thing", "another"))) == [0, 1, 2, 3, 4] and returned(Filter(in_stock=True)) == []


def test_each_pair_is_scored_once() -> None:
    """Sixteen rollouts of two identifiers with three items: three questions to the scorer."""
    tiers = FixedTiers(1, 2, 3, 0, 0)
    model(tiers).score([shown(("i0", 0, 0))], leaves(*[0, 2] * 8), WEIGHTS, PRIOR)
    assert tiers.asked == 3


def test_the_same_identifier_gets_the_same_reward_to_the_last_bit() -> None:
    """So that a group of one identifier is exactly constant."""
    rewards = RewardModel(catalogue(5), Trie.build(SIDS, SIZES), RuleTiers()).score(
        [shown(("i0", 1, 0))], leaves(2, 2, 2, 2), RewardWeights(relevance=0.1, ctr=0.7), PRIOR
    )
    assert len(set(rewards.reward_BG[0].tolist())) == 1
    assert rewards.metrics()["constant_groups"] == 1


def test_weights_scale_their_own_term() -> None:
    """relevance 2, ctr 10, click 5 on tier 3 and a click: 6 + 10 ctr + 5."""
    weights = RewardWeights(relevance=2, ctr=10, click=5)
    rewards = model(FixedTiers(0, 0, 3, 0, 0)).score([shown(("i2", 1, 0))], leaves(2, 3), weights, PRIOR)
    np.testing.assert_allclose(rewards.terms_BG3[0, 0], [6, 10 * CTR, 5])
    metrics = rewards.metrics()
    assert metrics["reward"] == pytest.approx((11 + 20 * CTR) / 2)
    # relevance and click move together, 6 and 5 of the spread of 11
    assert metrics["variance_share.relevance"] == pytest.approx(6 / 11)
    assert metrics["variance_share.interaction"] == pytest.approx(5 / 11)


def test_the_posterior_is_asked_under_the_normalised_query() -> None:
    """A snapshot that knows "red lamp" answers for "  RED lamp!"."""
    from reward.counts import Counts
    from reward.settings import PosteriorSettings
    from schemas.posteriors import CountDelta

    counts = Counts()
    counts.add([CountDelta("red lamp", "i2", 0, 100 * 2**20, 50, 0)])
    snapshot = PosteriorSnapshot(PosteriorSnapshot.build(counts, 0, PosteriorSettings()))
    judge = model(FixedTiers(0, 0, 0, 0, 0))
    values = judge.score([shown(("i0", 0, 0), query="  RED lamp!")], leaves(2, 3), WEIGHTS, snapshot).reward_BG[0]
    assert values[0] == pytest.approx(float(snapshot.ctr("red lamp", ["i2"]).mean_N[0]))
    assert values[0] > values[1]


def test_targets_are_orders_first_then_clicks_each_identifier_once() -> None:
    """Shown i3 (clicked), i0 (clicked), i1 (ordered, the same identifier as i0), i2 (nothing), unknown (clicked)."""
    row = {f"i{n}": n for n in range(5)}
    one = shown(("i3", 1, 0), ("i0", 1, 0), ("i1", 1, 1), ("i2", 0, 0), ("gone", 1, 0))
    targets = targets_of([one, shown(("i2", 0, 0))], row, SIDS)
    assert targets.sids_BTL[0].tolist() == [[0, 0, 0, 0, 0], [1, 0, 0, 0, 0]]
    assert targets.has_BT.tolist() == [[True, True], [False, False]]
    assert targets.any_B.tolist() == [True, False]
    assert targets.first_BL.tolist() == [[0] * 5, [0] * 5]


def test_the_objective_follows_its_settings() -> None:
    """TPMA with both weights of the position term at zero is GRPO on-policy; with w_item 0 too it is nothing."""
    generator = torch.Generator().manual_seed(0)
    sids = torch.randint(0, 2, (3, 4, 5), generator=generator)
    reward = torch.rand(3, 4, generator=generator)
    targets = Targets(sids[:, :1].clone(), torch.ones(3, 1, dtype=torch.bool))

    def gradient(**changes: object) -> torch.Tensor:
        logp = torch.zeros(3, 4, 5, dtype=torch.float64, requires_grad=True)
        loss, metrics = group_loss(logp, sids, reward, targets, LossSettings.model_validate(changes))
        assert metrics["target_in_group"] == 1
        loss.backward()
        assert logp.grad is not None
        return logp.grad

    torch.testing.assert_close(gradient(w_position=0), gradient(learner="grpo"))
    assert gradient(w_position=0, w_item=0).abs().max() == 0
    assert not torch.equal(gradient(), gradient(gate_item_advantage=True))
    assert not torch.equal(gradient(), gradient(position_weighting="after_norm"))
    with pytest.raises(LearningError):
        group_loss(torch.zeros(3, 1, 5), sids[:, :1], reward[:, :1], targets, LossSettings())


def test_a_campaign_weighs_the_items_of_its_scope_for_the_views_that_it_asks_for() -> None:
    """Item 1 shares an identifier with 0 and is of brand b: at relevance 5 for b in the north its tier 1 beats item 0's tier 3
    (5 + ctr to 3 + ctr); elsewhere item 0 wins. New items count double: item 2 came 500 ms before the first view, too long before
    the second."""
    shop = dataclasses.replace(catalogue(5, [0, 0, 500, 0, 0]), brands=("a", "b", "a", "a", "a"))
    judge = RewardModel(shop, Trie.build(SIDS, SIZES), FixedTiers(3, 1, 2, 0, 0))
    sale = Campaign("sale", 1, "sale", "me", Scope(brands=("b",), markets=("north",)), relevance=5)
    fresh = Campaign("fresh", 1, "fresh", "me", multipliers=Multipliers(new_items=2, new_days=1))
    book = RewardWeights(version=2, campaigns=(sale, fresh))
    views = [shown(market="north", ts=1_000), shown(market="south", ts=1_000 + 86_400_000)]
    leaf_BG = np.repeat(leaves(0, 2), 2, axis=0)
    found = judge.score(views, leaf_BG, book, PRIOR)
    assert found.row_BG.tolist() == [[1, 2], [0, 2]]
    np.testing.assert_allclose(found.reward_BG, [[5 + CTR, 2 * (2 + CTR)], [3 + CTR, 2 + CTR]])
    np.testing.assert_allclose(found.tier_BG, [[1, 2], [3, 2]])
    np.testing.assert_allclose(found.ctr_BG, CTR)
    plain = judge.score(views, leaf_BG, WEIGHTS, PRIOR)  # another book, another weighing
    np.testing.assert_allclose(plain.reward_BG, [[3 + CTR, 2 + CTR]] * 2)
