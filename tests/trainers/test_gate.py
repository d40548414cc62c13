"""The gate: promotes what is not worse, keeps what may be, and says why."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from reward.settings import ServingScoreSettings
from schemas.checkpoints import Absorbed
from schemas.weights import RewardWeights
from tests.trainers import policy_toys
from tests.trainers.learner_toys import ITEMS, PRIOR, QUERIES, RuleTiers, tools, view
from trainers.gate import decide, list_rewards
from trainers.passes import prompts_of
from trainers.rewards import RewardModel
from trainers.settings import GateSettings, LearnerSettings

SETTINGS = GateSettings(views=40, min_views=10, k=3, beam=1, batch=7, repeats=200)
POLICY_ALONE = ServingScoreSettings(relevance_scale=0, ctr_scale=0)
VIEWS = [view(n, clicked=[1]) for n in range(40)]
NAMES = ("candidate", "served")


def verdict(shift: float, noise: float = 0.0, **changes: object):  # type: ignore[no-untyped-def]
    """Served is 2 everywhere; the candidate differs by ``shift`` and noise of mean exactly 0."""
    wave = noise * np.where(np.arange(40) % 12 < 6, 1.0, -1.0)  # by query: 12 of them
    wave -= wave.mean()
    settings = SETTINGS.model_copy(update=changes)
    return decide(NAMES, 2 + shift + wave, np.full(40, 2.0), VIEWS, settings, seed=0)


@pytest.mark.parametrize(
    ("shift", "noise", "promoted"),
    [(0.0, 0.0, True), (-0.039, 0.0, True), (-0.041, 0.0, False), (0.5, 0.0, True), (0.0, 0.5, False)],
)
def test_the_low_end_may_lose_the_margin_and_no_more(shift: float, noise: float, promoted: bool) -> None:
    """Margin 2 % of 2 is .04: without noise the low end is the shift; noise widens the interval below it."""
    decision = verdict(shift, noise)
    assert decision.promoted is promoted
    assert (decision.checkpoint, decision.against, decision.n, decision.metric) == ("candidate", "served", 40, "reward@3")
    # The verdict has a field of its own; whoever shows both would say it twice.
    assert decision.reason.startswith(f"low end {decision.low:+.4f}") and "promoted" not in decision.reason


def test_too_few_views_keep_the_served_one() -> None:
    """However good the candidate looks; the reason says what is lacking, how many there are, how many it takes, and what helps."""
    decision = decide(NAMES, np.full(9, 9.0), np.zeros(9), VIEWS[:9], SETTINGS, seed=0)
    assert not decision.promoted
    assert decision.reason == (
        "too few page views kept out of training to compare on: 9 of the 10 that it takes; more searches bring more, or lower "
        "trainers.gate.min_views"
    )
    enough = decide(NAMES, np.full(10, 9.0), np.zeros(10), VIEWS[:10], SETTINGS, seed=0)
    assert enough.promoted and enough.reason.startswith("low end")


def test_views_of_one_query_keep_the_served_one() -> None:
    """Twenty are more than the ten that it takes, but no lower setting helps: the reason names none."""
    decision = decide(NAMES, np.ones(20), np.zeros(20), [view(0)] * 20, SETTINGS, seed=0)
    assert not decision.promoted
    assert decision.reason == (
        "too few different queries to compare on: the 20 page views kept out of training are all of one query, and it takes 2; searches "
        "for something else help"
    )


def test_list_rewards_are_those_of_the_best_identifiers() -> None:
    """Against every identifier scored one by one, best first; the batch size changes nothing."""
    policy = policy_toys.toy_policy()
    parts = tools(policy, LearnerSettings())
    views = [view(n, clicked=[1, 2]) for n in range(9)]
    fast = list_rewards(
        policy, views, parts.trie, parts.builder, parts.rewards, RewardWeights(), PRIOR, SETTINGS, POLICY_ALONE
    )
    sids = sorted({tuple(row) for row in parts.trie.sids_NL.tolist()})
    leaf_N = parts.trie.path(np.array(sids))[:, -1]
    with torch.no_grad():
        every_BNL = torch.tensor(sids).expand(len(views), -1, -1)
        score_BN = policy.logprobs(prompts_of(parts.builder, views), every_BNL, parts.trie).sum(dim=-1)
    wide = SETTINGS.model_copy(update={"k": len(sids), "batch": 4})
    for b, one in enumerate(views):
        best = score_BN[b].argsort(descending=True).numpy()
        exact = parts.rewards.score([one], leaf_N[best][None], RewardWeights(), PRIOR).reward_BG[0]
        whole = list_rewards(
            policy, [one], parts.trie, parts.builder, parts.rewards, RewardWeights(), PRIOR, wide, POLICY_ALONE
        )
        assert whole[0] == pytest.approx(exact.mean())
    one_by_one = SETTINGS.model_copy(update={"batch": 1})
    slow = list_rewards(
        policy, views, parts.trie, parts.builder, parts.rewards, RewardWeights(), PRIOR, one_by_one, POLICY_ALONE
    )
    np.testing.assert_allclose(fast, slow)


def test_a_page_is_ordered_as_the_server_orders_it() -> None:
    """Against a page made by hand: all identifiers by log-probability plus 5 a tier, the first three counted."""
    policy = policy_toys.toy_policy()
    parts = tools(policy, LearnerSettings())
    views, order = [view(n, clicked=[1]) for n in range(6)], ServingScoreSettings(relevance_scale=5, ctr_scale=3)
    every = SETTINGS.model_copy(update={"beam": len(parts.catalogue)})
    got = list_rewards(policy, views, parts.trie, parts.builder, parts.rewards, RewardWeights(), PRIOR, every, order)
    sids = sorted({tuple(row) for row in parts.trie.sids_NL.tolist()})
    leaf_N = parts.trie.path(np.array(sids))[:, -1]
    with torch.no_grad():
        every_BNL = torch.tensor(sids).expand(len(views), -1, -1)
        score_BN = policy.logprobs(prompts_of(parts.builder, views), every_BNL, parts.trie).sum(dim=-1).numpy()
    scored = parts.rewards.score(views, np.tile(leaf_N, (len(views), 1)), RewardWeights(), PRIOR)
    best_BK = np.argsort(-(score_BN + 5 * scored.terms_BG3[..., 0]), axis=1, kind="stable")[:, :3]  # one CTR: no matter
    np.testing.assert_allclose(got, np.take_along_axis(scored.reward_BG, best_BK, axis=1).mean(axis=1))
    alone = list_rewards(
        policy, views, parts.trie, parts.builder, parts.rewards, RewardWeights(), PRIOR, every, POLICY_ALONE
    )
    assert got.mean() > alone.mean() + 0.1  # tiers count in the reward, so an order by tier is worth more


def test_a_page_is_ordered_by_what_is_wished_less_what_the_checkpoint_has_of_it() -> None:
    """Relevance 3 is wished, and half of the checkpoint's steps used it: 5 * 3 nats a tier are put in, 2 * 0.5 * (3 - 1) taken out.
    By hand: log-probability plus 13 a tier, a constant CTR aside. Worth is by what is wished, for both."""
    policy = policy_toys.toy_policy()
    parts = tools(policy, LearnerSettings())
    views = [view(n, clicked=[1]) for n in range(6)]
    wish = RewardWeights(version=2, relevance=3)
    every = SETTINGS.model_copy(update={"beam": len(parts.catalogue)})

    def rewards(absorbed: tuple[Absorbed, ...], scale: float) -> np.ndarray:
        order = ServingScoreSettings(relevance_scale=scale, uptake_scale=2)
        return list_rewards(policy, views, parts.trie, parts.builder, parts.rewards, wish, PRIOR, every, order, absorbed)

    half = (Absorbed(0.5, RewardWeights()), Absorbed(0.5, wish))
    scale = 0.2  # puts in 0.6 nats a tier: no more is taken out, and the policy alone orders
    np.testing.assert_allclose(rewards(half, scale), rewards((), 0.0))
    np.testing.assert_allclose(rewards(half, 5.0), rewards((), 13 / 3))
    assert rewards((), scale).mean() > rewards(half, scale).mean()


def test_fewer_available_than_k_are_averaged_over_what_there_is() -> None:
    """One candidate: its reward alone; none available: 0."""
    policy = policy_toys.toy_policy()
    parts = tools(policy, LearnerSettings())
    first = view(1, clicked=[1])
    only = [view(1, clicked=[1], candidates=(first.items[0].item,)), view(1, candidates=("gone",))]
    values = list_rewards(
        policy, only, parts.trie, parts.builder, parts.rewards, RewardWeights(), PRIOR, SETTINGS, POLICY_ALONE
    )
    row = parts.catalogue.row[first.items[0].item]
    tier = int(RuleTiers().tiers(first.query, np.array([row]))[0][0])
    ctr = float(PRIOR.ctr("", ["x"]).mean_N[0])
    np.testing.assert_allclose(values, [tier + ctr + 3, 0])
    assert ITEMS == 24


def test_an_identifier_is_worth_what_the_page_could_have_shown_of_it() -> None:
    """i0 and i1 share one. Where i0 alone is a candidate the page counts i0's tier; where both are, the better of the two."""
    parts = tools(policy := policy_toys.toy_policy(), LearnerSettings())
    first = parts.trie.sids_of([0])
    trie = parts.trie.changed([1], first)
    rewards = RewardModel(parts.catalogue, trie, tiers := RuleTiers())
    query = next(q for q in QUERIES if np.diff(tiers.tiers(q, np.array([0, 1]))[0].astype(int)) > 0)
    low, high = tiers.tiers(query, np.array([0, 1]))[0].tolist()
    views = [view(1, query=query, items=(), candidates=wanted) for wanted in (("i0",), ("i0", "i1"))]
    values = list_rewards(policy, views, trie, parts.builder, rewards, RewardWeights(), PRIOR, SETTINGS, POLICY_ALONE)
    np.testing.assert_allclose(values - float(PRIOR.ctr("", ["x"]).mean_N[0]), [low, high])
