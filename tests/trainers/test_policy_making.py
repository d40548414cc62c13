"""A policy from scratch, with every backbone: what the seed decides, where embeddings start, when dropout acts."""

from __future__ import annotations

import pytest
import torch

from schemas.errors import InvalidValue
from tests.trainers import policy_toys as toys
from tests.trainers.test_policy import rollouts_of

torch.set_num_threads(1)
pytestmark = pytest.mark.parametrize("name", toys.NAMES)


def test_dropout_acts_in_training_mode_only(name: str) -> None:
    policy, sids_BL = toys.toy_policy(name=name, dropout=0.5), rollouts_of(toys.toy_sids())[:, 0]
    prompts = toys.toy_prompts(policy)
    with torch.no_grad():
        assert torch.equal(policy.full_ce(prompts, sids_BL), policy.full_ce(prompts, sids_BL))
        policy.train()
        assert not torch.equal(policy.full_ce(prompts, sids_BL), policy.full_ce(prompts, sids_BL))


def test_the_same_seed_gives_the_same_policy_and_leaves_the_random_state_alone(name: str) -> None:
    before = torch.random.get_rng_state()
    one, two, other = (toys.toy_policy(seed, name=name) for seed in (3, 3, 4))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one.state_dict()[key], two.state_dict()[key]) for key in one.state_dict())
    assert not torch.equal(one.embeddings(), other.embeddings())


def test_identifier_embeddings_start_at_their_centroids_seen_through_the_query_projection(name: str) -> None:
    centroids, tokenizer = toys.toy_centroids(), toys.toy_tokenizer()
    settings = toys.toy_settings(init_std=0.02, backbone=name, prompt={"long_history": True})
    kind = type(toys.toy_policy(name=name))
    policy = kind.create(settings, tokenizer, "cb1", toys.WIDTH, 0, centroids)
    for level, centroid in enumerate(centroids):
        start = tokenizer.level_start[level]
        rows = policy.embeddings()[start : start + len(centroid)].detach()
        image = torch.from_numpy(centroid) @ policy.dense.weight.detach().T
        factor = 0.02 / image.square().mean().sqrt()
        torch.testing.assert_close(rows, image * factor, rtol=1e-5, atol=1e-6)
    assert torch.equal(policy.dense.history, policy.dense.weight.expand(3, -1, -1))
    with pytest.raises(InvalidValue, match="rows of the centroids"):
        kind.create(settings, tokenizer, "cb1", toys.WIDTH, 0, centroids[:4])
