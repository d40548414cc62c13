"""The search engine serves every backbone, from the folder that a checkpoint holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from reward.snapshot import PosteriorSnapshot
from schemas.weights import RewardWeights
from trainers.policies import load_policy
from trainers.policies.base import context_of

Shop = Any  # the fixture's class; conftest files are not importable by name


@pytest.mark.parametrize("name", ["bart", "gpt2", "qwen3"])
def test_a_page_is_scored_by_the_policys_log_probabilities(
    shop: Shop, prior: PosteriorSnapshot, name: str, tmp_path: Path
) -> None:
    """Every part of the prompt is there: history and lexical items too."""
    shop.policy(1, backbone=name, prompt={"long_history": True, "lexical_items": 2}).save(tmp_path)
    engine = shop.engine(1, exploration=0).with_policy(load_policy(tmp_path), "of this backbone")
    requests = shop.requests(4)
    for request, answer in zip(requests, engine.answer(requests, RewardWeights(), prior), strict=True):
        assert answer.checkpoint == "of this backbone" and len(answer.items) == 10
        sids = torch.tensor([item.sid for item in answer.items])
        with torch.no_grad():
            prompts = engine.prompts([context_of(request)])
            logp_1GL = engine.policy.logprobs(prompts, sids[None], shop.identifiers.trie)
        found = [item.scores.policy for item in answer.items]
        assert found == pytest.approx(logp_1GL.sum(dim=-1)[0].tolist(), abs=1e-4)
