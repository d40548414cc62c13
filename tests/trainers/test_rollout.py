"""Rollouts are drawn from exactly the distribution that is trained."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats

from schemas.errors import InvalidValue
from tests.trainers import policy_toys as toys
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.policies.bart import BartPolicy
from trainers.rollout import Rollouts, sample

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def policy() -> BartPolicy:
    return toys.toy_policy()


def draw(policy: BartPolicy, seed: int, rollouts: int = 16, temperature: float = 1.0) -> Rollouts:
    return sample(policy, toys.toy_prompts(policy), toys.toy_trie(), rollouts, temperature, Noise(seed, 0, range(3)))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_log_prob_recomputed_for_training_is_the_sampled_one(policy: BartPolicy, temperature: float) -> None:
    drawn = draw(policy, 0, temperature=temperature)
    again = policy.logprobs(toys.toy_prompts(policy), drawn.sids_BGL, toys.toy_trie(), temperature)
    torch.testing.assert_close(again.detach(), drawn.logp_BGL, rtol=1e-5, atol=1e-5)


def test_one_encoding_serves_the_rollouts_and_the_gradient(policy: BartPolicy) -> None:
    state = policy.encode(toys.toy_prompts(policy))
    drawn = sample(policy, state, toys.toy_trie(), 16, 1.0, Noise(0, 0, range(3)))
    assert torch.equal(drawn.sids_BGL, draw(policy, 0).sids_BGL)
    assert not drawn.logp_BGL.requires_grad
    logp = policy.logprobs(state, drawn.sids_BGL, toys.toy_trie())
    [gradient] = torch.autograd.grad(logp.sum(), [policy.dense.weight])
    assert float(gradient.abs().max()) > 0


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_frequencies_are_those_of_the_tempered_policy(policy: BartPolicy, temperature: float) -> None:
    """Counted over 20,000 draws a prompt against the enumerated probabilities, within 5 standard errors each."""
    catalogue, draws = toys.toy_sids().tolist(), 20_000
    distinct = sorted({tuple(sid) for sid in catalogue})
    leaves = torch.tensor(distinct).expand(3, -1, -1)
    with torch.no_grad():
        prob_BN = toys.slow_logprobs(policy, toys.toy_prompts(policy), leaves, distinct, temperature).sum(dim=-1).exp()
    torch.testing.assert_close(prob_BN.sum(dim=1), torch.ones(3), rtol=1e-5, atol=1e-5)
    drawn = draw(policy, 7, draws, temperature)
    count_BN = torch.stack([torch.bincount(leaf_G, minlength=len(distinct)) for leaf_G in drawn.leaf_BG])
    error_BN = (prob_BN * (1 - prob_BN) / draws).sqrt()
    assert bool(((count_BN / draws - prob_BN).abs() <= 5 * error_BN + 1e-6).all())


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_frequencies_are_those_of_the_stated_log_probs(policy: BartPolicy, temperature: float) -> None:
    """Chi-square of 20,000 draws a prompt against the log-probabilities that came with them; identifiers that are rare, or
    were never drawn and so stated nothing, make up one cell."""
    draws = 20_000
    drawn = draw(policy, 8, draws, temperature)
    for leaf_G, logp_G in zip(drawn.leaf_BG, drawn.logp_BGL.double().sum(dim=-1), strict=True):
        leaves, first_P = np.unique(leaf_G.numpy(), return_index=True)
        stated_P = logp_G[first_P].exp()
        assert bool((logp_G.exp() == stated_P[np.searchsorted(leaves, leaf_G.numpy())]).all())  # one identifier, one chance
        counted_P, common_P = torch.bincount(leaf_G)[leaves], stated_P > 10 / draws
        counted, expected = counted_P[common_P].tolist(), (draws * stated_P[common_P]).tolist()
        rest = draws - sum(expected)
        if rest > 5:
            counted, expected = [*counted, draws - sum(counted)], [*expected, rest]
        assert stats.chisquare(counted, np.array(expected) * sum(counted) / sum(expected)).pvalue > 1e-3


@pytest.mark.parametrize("drawn_at", [0.5, 2.0])
def test_drawn_from_a_flatter_policy_each_counts_by_its_ratio(policy: BartPolicy, drawn_at: float) -> None:
    """They are the tempered policy's own draws of the same noise; what is stated of them is the policy's, and their shares of the
    mean are pi / q, both recomputed."""
    prompts, trie = toys.toy_prompts(policy), toys.toy_trie()
    drawn = sample(policy, prompts, trie, 16, 1.5, Noise(3, 0, range(3)), drawn_at)
    tempered = draw(policy, 3, temperature=1.5 * drawn_at)
    assert torch.equal(drawn.sids_BGL, tempered.sids_BGL)
    with torch.no_grad():
        pi_BGL, q_BGL = (policy.logprobs(prompts, drawn.sids_BGL, trie, at) for at in (1.5, 1.5 * drawn_at))
    torch.testing.assert_close(drawn.logp_BGL, pi_BGL, rtol=1e-5, atol=1e-5)
    ratio_BG = pi_BGL.double().sum(dim=-1).exp() / q_BGL.double().sum(dim=-1).exp()
    torch.testing.assert_close(drawn.weight_BG, ratio_BG / ratio_BG.sum(dim=1, keepdim=True), rtol=1e-4, atol=1e-7)
    assert drawn.weight_BG is not None and float(drawn.weight_BG.std()) > 1e-3
    assert tempered.weight_BG is None


def test_the_ratio_takes_the_mean_back_to_the_policy(policy: BartPolicy) -> None:
    """Over 20,000 draws at twice the temperature the weighted share of each identifier is the policy's own probability, within 5
    standard errors of a ratio estimate; the plain share is not."""
    prompts, trie, draws = toys.toy_prompts(policy), toys.toy_trie(), 20_000
    distinct = sorted({tuple(sid) for sid in toys.toy_sids().tolist()})
    leaves = torch.tensor(distinct).expand(3, -1, -1)
    with torch.no_grad():
        prob_BN = toys.slow_logprobs(policy, prompts, leaves, distinct, 0.3).sum(dim=-1).exp().double()
    drawn = sample(policy, prompts, trie, draws, 0.3, Noise(9, 0, range(3)), 2.0)
    assert drawn.weight_BG is not None
    for leaf_G, weight_G, prob_N in zip(drawn.leaf_BG, drawn.weight_BG, prob_BN, strict=True):
        share_N = torch.zeros_like(prob_N).index_add_(0, leaf_G, weight_G)
        plain_N = torch.bincount(leaf_G, minlength=len(distinct)) / draws
        hit_GN = torch.nn.functional.one_hot(leaf_G, len(distinct)).double()
        error_N = (weight_G[:, None] * (hit_GN - prob_N)).square().sum(dim=0).sqrt()
        assert bool(((share_N - prob_N).abs() <= 5 * error_N + 1e-6).all())
        assert bool(((plain_N - prob_N).abs() > 5 * error_N + 1e-6).any())


def test_every_rollout_is_an_identifier_of_the_catalogue_and_knows_its_leaf(policy: BartPolicy) -> None:
    trie, drawn = toys.toy_trie(), draw(policy, 1)
    path = trie.path(drawn.sids_BGL.reshape(-1, 5).numpy())
    assert path[:, -1].tolist() == drawn.leaf_BG.flatten().tolist()


def test_the_same_noise_gives_the_same_rollouts(policy: BartPolicy) -> None:
    assert torch.equal(draw(policy, 3).sids_BGL, draw(policy, 3).sids_BGL)
    assert not torch.equal(draw(policy, 3).sids_BGL, draw(policy, 4).sids_BGL)


def test_distinct_counts_different_identifiers() -> None:
    leaf_BG = torch.tensor([[5, 2, 5, 5], [1, 1, 1, 1], [4, 3, 2, 1]])
    assert Rollouts(leaf_BG, leaf_BG, leaf_BG, leaf_BG).distinct().tolist() == [2, 1, 4]


def test_entropy_is_that_of_the_distribution_drawn_from(policy: BartPolicy) -> None:
    """At a very high temperature every allowed child is as likely as the next: entropy is log(number of children)."""
    catalogue, drawn = toys.toy_sids().tolist(), draw(policy, 5, temperature=1e7)
    for row, rollout, level in itertools.product(range(3), range(16), range(5)):
        allowed = toys.children(catalogue, drawn.sids_BGL[row, rollout, :level].tolist())
        assert float(drawn.entropy_BGL[row, rollout, level]) == pytest.approx(math.log(len(allowed)), abs=1e-5)


def test_what_cannot_be_sampled_raises(policy: BartPolicy) -> None:
    prompts, trie = toys.toy_prompts(policy), toys.toy_trie()
    with pytest.raises(InvalidValue, match="rollouts per prompt is 0"):
        sample(policy, prompts, trie, 0)
    with pytest.raises(InvalidValue, match="temperature is -1"):
        sample(policy, prompts, trie, 4, -1.0)
    with pytest.raises(InvalidValue, match="temperature is 0"):
        sample(policy, prompts, trie, 4, drawn_at=0.0)
    with pytest.raises(InvalidValue, match="level sizes"):
        sample(policy, prompts, Trie.build(toys.toy_sids(), (4, 3, 3, 2, 9)), 4)
