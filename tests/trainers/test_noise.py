"""A prompt's random numbers are its own: whoever shares its forward pass, it draws the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from scipy import stats

from schemas.errors import InvalidValue
from tests.trainers import policy_toys as toys
from trainers.batches import draws
from trainers.distinct import sample_distinct
from trainers.noise import Noise
from trainers.policies.bart import BartPolicy
from trainers.policies.base import PromptContext
from trainers.rollout import Rollouts, sample

torch.set_num_threads(1)
PROMPTS = tuple(PromptContext(text, (), ("i1",) * (n % 3)) for n, text in enumerate(toys.TEXTS[:8]))
DRAWS: tuple[Callable[..., Rollouts], ...] = (sample, sample_distinct)


@pytest.fixture(scope="module")
def policy() -> BartPolicy:
    return toys.toy_policy()


def drawn(draw: Callable[..., Rollouts], policy: BartPolicy, places: Sequence[int]) -> Rollouts:
    """Of the prompts at these places of the whole, in one pass."""
    prompts = toys.toy_builder(policy).build([PROMPTS[place] for place in places])
    return draw(policy, prompts, toys.toy_trie(), 9, 2.0, Noise(5, 3, places))


@pytest.mark.parametrize("draw", DRAWS)
@pytest.mark.parametrize("places", [[7, 2, 5, 0, 1, 6, 3, 4], [1, 3, 5, 7], [0, 1, 2], [6]])
def test_permuted_or_split_a_prompt_has_the_rollouts_it_had(
    policy: BartPolicy, draw: Callable[..., Rollouts], places: list[int]
) -> None:
    """Codes are equal, log-probabilities and entropies to what padding and batching round."""
    whole, part = drawn(draw, policy, range(8)), drawn(draw, policy, places)
    assert torch.equal(part.sids_BGL, whole.sids_BGL[places]) and torch.equal(part.leaf_BG, whole.leaf_BG[places])
    torch.testing.assert_close(part.logp_BGL, whole.logp_BGL[places], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(part.entropy_BGL, whole.entropy_BGL[places], rtol=1e-5, atol=1e-5)
    assert not torch.equal(whole.leaf_BG[0], whole.leaf_BG[1])


def test_streams_are_apart_and_go_on() -> None:
    """Of other prompts, steps and seeds, and of what composes the batch; a second draw is another one."""
    noise = Noise(1, 2, [0, 1])
    seen = [*noise.uniform(4), *noise.uniform(4)]
    seen += [*Noise(1, 3, [0]).uniform(4), *Noise(2, 2, [0]).uniform(4), torch.from_numpy(1 - draws(1, 2).random(4))]
    assert len({tuple(row.tolist()) for row in seen}) == len(seen)
    assert torch.equal(Noise(1, 2, [1]).uniform(4)[0], seen[1])
    assert not torch.equal(Noise.of(None, 1).uniform(4), Noise.of(None, 1).uniform(4))


def test_noise_has_the_distributions_it_names() -> None:
    """20,000 numbers over 20 prompts against the uniform and the Gumbel distribution (Kolmogorov and Smirnov)."""
    noise = Noise(4, 4, range(20))
    assert stats.kstest(noise.uniform(100, 10).flatten().numpy(), "uniform").pvalue > 1e-3
    assert stats.kstest(noise.gumbel(1000).flatten().numpy(), "gumbel_r").pvalue > 1e-3


def test_a_code_without_probability_is_never_drawn(policy: BartPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the very ends of the unit interval, too: the smallest and the largest number a stream gives."""
    for end in (2.0**-53, 1.0):
        monkeypatch.setattr(Noise, "uniform", lambda self, *shape, end=end: torch.full((len(self), *shape), end).double())
        assert drawn(sample, policy, range(8)).logp_BGL.isfinite().all()  # as a child of the trie, or it would have raised


def test_every_prompt_needs_a_place(policy: BartPolicy) -> None:
    prompts = toys.toy_prompts(policy)
    for draw in DRAWS:
        with pytest.raises(InvalidValue, match="streams of noise is 2"):
            draw(policy, prompts, toys.toy_trie(), 4, 1.0, Noise(0, 0, range(2)))
