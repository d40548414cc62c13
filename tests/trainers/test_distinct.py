"""Rollouts without replacement, held against enumeration of the toy catalogue."""

from __future__ import annotations

import itertools
import math
from typing import Literal

import pytest
import torch
from scipy import stats
from torch import Tensor

from schemas.errors import InvalidValue
from tests.trainers import policy_toys as toys
from trainers.distinct import DistinctRollouts, sample_distinct
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.objective import group_loss
from trainers.policies.bart import BartPolicy
from trainers.policies.base import EncoderState, PromptBatch
from trainers.settings import LossSettings
from trainers.targets import Targets

torch.set_num_threads(1)
DRAWS = 4_000
SIDS = toys.toy_sids(items=12)


@pytest.fixture(scope="module")
def policy() -> BartPolicy:
    return toys.toy_policy()


@pytest.fixture(scope="module")
def trie() -> Trie:
    return Trie.build(SIDS, toys.SIZES)


@torch.no_grad()
def same_prompt(policy: BartPolicy, times: int) -> EncoderState:
    """The second toy prompt, encoded once, many times: every row is a draw of its own."""
    state = policy.encode(second_prompt(policy))

    def repeat(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return tuple(tensor.expand(times, -1, -1, -1) for tensor in tensors)

    return EncoderState(repeat(state.keys_BHSC), repeat(state.values_BHSC), *repeat((state.bias_B11S,)))


def second_prompt(policy: BartPolicy) -> PromptBatch:
    return toys.toy_prompts(policy).rows(torch.tensor([1]))


def probabilities(policy: BartPolicy) -> Tensor:
    """pi of every identifier, float64 in the order of leaves, by the slow reading."""
    with torch.no_grad():
        p = toys.enumerate_scores(policy, second_prompt(policy), SIDS.tolist())[0].double().exp()
    return p / p.sum()


def draw(policy: BartPolicy, trie: Trie, group: int, draws: int = DRAWS, seed: int = 11) -> DistinctRollouts:
    prompts = same_prompt(policy, draws)
    return sample_distinct(policy, prompts, trie, group, noise=Noise(seed, 0, range(draws)))


def test_order_is_plackett_luce(policy: BartPolicy, trie: Trie) -> None:
    """The first two of three, as an ordered pair (i, j), come with probability p_i p_j / (1 - p_i): chi-square over all pairs."""
    p, leaf_BG = probabilities(policy), draw(policy, trie, 3).leaf_BG
    pairs = list(itertools.permutations(range(len(p)), 2))
    expected = torch.tensor([DRAWS * p[i] * p[j] / (1 - p[i]) for i, j in pairs])
    counted = torch.bincount(leaf_BG[:, 0] * len(p) + leaf_BG[:, 1], minlength=len(p) ** 2)
    counted = counted[[i * len(p) + j for i, j in pairs]].double()
    assert int(counted.sum()) == DRAWS  # never the same twice
    rare = expected < 10  # together one cell, so that the chi-square approximation holds
    seen = torch.cat([counted[~rare], counted[rare].sum()[None]])
    awaited = torch.cat([expected[~rare], expected[rare].sum()[None]])
    assert len(seen) > 20
    assert stats.chisquare(seen, awaited * (DRAWS / awaited.sum())).pvalue > 1e-3


def test_an_identifier_is_included_as_often_as_enumeration_says(policy: BartPolicy, trie: Trie) -> None:
    """P(i among two) = p_i + sum over j of p_j p_i / (1 - p_j), within 4.5 standard errors; and the mean of q is the same
    number, because q is that chance given the threshold."""
    p, drawn = probabilities(policy), draw(policy, trie, 2)
    expected = p + torch.stack([sum(p[j] * p[i] / (1 - p[j]) for j in range(len(p)) if j != i) for i in range(len(p))])
    counted = torch.bincount(drawn.leaf_BG.flatten(), minlength=len(p)) / DRAWS
    assert bool(((counted - expected).abs() < 4.5 * (expected * (1 - expected) / DRAWS).sqrt()).all())
    # Who is not drawn has a key below the threshold: q is a chance, not a certainty.
    assert float(drawn.inclusion_BG.exp().min()) < 0.9
    by_hand = 1 - torch.exp(-torch.exp(drawn.logp_BGL.double().sum(dim=-1) - drawn.threshold_B[:, None]))
    torch.testing.assert_close(drawn.inclusion_BG.exp(), by_hand, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("group", [1, 4])
def test_the_importance_weighted_sum_is_unbiased(policy: BartPolicy, trie: Trie, group: int) -> None:
    """The mean over 4,000 groups of sum pi / q f is sum pi f, within 4.5 of its own standard errors, for two functions."""
    p, drawn = probabilities(policy), draw(policy, trie, group, seed=5)
    for f in (torch.ones(len(p)), torch.linspace(-1, 3, len(p)).double()):
        estimate_B = (drawn.importance_BG.exp() * f[drawn.leaf_BG]).sum(dim=1)
        error = float(estimate_B.std()) / math.sqrt(DRAWS)
        assert float(estimate_B.mean()) == pytest.approx(float((p * f).sum()), abs=4.5 * error)
        assert error < 0.1


def test_a_group_of_the_whole_catalogue_is_the_exact_expectation(policy: BartPolicy, trie: Trie) -> None:
    """Everything is drawn, q is 1, and the weights are the policy's probabilities."""
    p = probabilities(policy)
    drawn = draw(policy, trie, len(p), draws=3)
    assert drawn.leaf_BG.sort(dim=1).values.tolist() == [list(range(len(p)))] * 3
    assert drawn.inclusion_BG.tolist() == [[0.0] * len(p)] * 3
    torch.testing.assert_close(drawn.weight_BG, p[drawn.leaf_BG], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_log_probs_are_those_that_are_trained(policy: BartPolicy, temperature: float) -> None:
    prompts, trie = toys.toy_prompts(policy), toys.toy_trie()
    drawn = sample_distinct(policy, prompts, trie, 9, temperature, Noise(1, 0, range(3)))
    again = policy.logprobs(prompts, drawn.sids_BGL, trie, temperature).detach()
    torch.testing.assert_close(drawn.logp_BGL, again, rtol=1e-5, atol=1e-5)
    assert drawn.distinct().tolist() == [9, 9, 9]
    assert bool((drawn.key_BG[:, 1:] <= drawn.key_BG[:, :-1]).all() and (drawn.key_BG[:, -1] > drawn.threshold_B).all())
    path = trie.path(drawn.sids_BGL.reshape(-1, 5).numpy())
    assert path[:, -1].tolist() == drawn.leaf_BG.flatten().tolist()
    torch.testing.assert_close(drawn.weight_BG.sum(dim=1), torch.ones(3, dtype=torch.float64))


def test_entropy_is_that_of_the_distribution_drawn_from(policy: BartPolicy) -> None:
    """At a very high temperature: log(number of children)."""
    catalogue, trie = toys.toy_sids().tolist(), toys.toy_trie()
    drawn = sample_distinct(policy, toys.toy_prompts(policy), trie, 6, 1e7, Noise(2, 0, range(3)))
    for row, rollout, level in itertools.product(range(3), range(6), range(5)):
        allowed = toys.children(catalogue, drawn.sids_BGL[row, rollout, :level].tolist())
        assert float(drawn.entropy_BGL[row, rollout, level]) == pytest.approx(math.log(len(allowed)), abs=1e-5)


def test_more_than_the_catalogue_has_is_refused(policy: BartPolicy, trie: Trie) -> None:
    """Eleven identifiers (two items share one) do not make a group of twelve."""
    with pytest.raises(InvalidValue, match="1 to 11"):
        draw(policy, trie, 12, draws=1)
    with pytest.raises(InvalidValue, match="rollouts per prompt is 0"):
        draw(policy, trie, 0, draws=1)


@pytest.mark.parametrize("learner", ["tpma", "grpo"])
def test_a_weight_counts_like_that_many_copies(learner: Literal["tpma", "grpo"]) -> None:
    """Group loss and its gradient with weights 3/8, 1/8, 4/8 are those of a plain group that holds the rollouts 3, 1 and 4 times."""
    times = (3, 1, 4)
    copies = [0, 0, 0, 1, 2, 2, 2, 2]
    random = torch.Generator().manual_seed(4)
    logp_BGL = (-torch.rand(2, 3, 5, generator=random, dtype=torch.float64)).requires_grad_()
    reward_BG = torch.rand(2, 3, generator=random, dtype=torch.float64)
    sids_BGL = torch.randint(0, 2, (2, 3, 5), generator=random)
    target_B1L = torch.randint(0, 2, (2, 1, 5), generator=random)
    targets = Targets(target_B1L, torch.ones(2, 1, dtype=torch.bool))
    settings = LossSettings(learner=learner, position_weighting="after_norm", delta=1e-3)
    weight_BG = torch.tensor(times, dtype=torch.float64).expand(2, 3) / 8
    loss, _ = group_loss(logp_BGL, sids_BGL, reward_BG, targets, settings, weight_BG=weight_BG)
    plain, _ = group_loss(logp_BGL[:, copies], sids_BGL[:, copies], reward_BG[:, copies], targets, settings)
    torch.testing.assert_close(loss, plain)
    [ours], [theirs] = torch.autograd.grad(loss, [logp_BGL]), torch.autograd.grad(plain, [logp_BGL])
    torch.testing.assert_close(ours, theirs)
    assert float(theirs.abs().max()) > 0.01
