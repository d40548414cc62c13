"""The divergence from the warm start: what is told of it, and that a weight on it holds the policy there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from schemas.store import Store
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools
from tests.trainers.test_step import SETTINGS, batch, intent, start, store
from trainers.passes import prompts_of
from trainers.settings import LossSettings
from trainers.step import take_step

__all__ = ["store"]  # a fixture


def test_the_divergence_is_the_policys_however_rollouts_are_drawn(store: Store) -> None:
    """With every identifier drawn once it is the sum of pi (log pi - log reference), worked out here over all of them."""
    sids_NL = torch.tensor(sorted({tuple(sid) for sid in policy_toys.toy_sids().tolist()}))
    loss = LossSettings(kl=1e-9)
    settings = SETTINGS.model_copy(update={"sampling": "without_replacement", "group": len(sids_NL), "loss": loss})
    state = start(store, settings)
    parts = replace(tools(state.policy, settings), reference=policy_toys.toy_policy(seed=4))
    assert parts.reference is not None
    prompts = prompts_of(parts.builder, batch(1).views)
    sids_BNL = sids_NL.expand(len(prompts), -1, -1)
    with torch.no_grad():
        ours_BN, its_BN = (
            one.logprobs(prompts, sids_BNL, parts.trie).sum(dim=-1) for one in (state.policy, parts.reference)
        )
    exact = float((ours_BN.exp() * (ours_BN - its_BN)).sum(dim=1).mean())
    assert take_step(parts, state, batch(1), intent(1))["kl_warm_start"] == pytest.approx(exact, rel=1e-4)
    assert exact != pytest.approx(float((ours_BN - its_BN).mean()), rel=0.1)


def test_kl_keeps_the_policy_near_its_warm_start(store: Store) -> None:
    """30 steps with and without it: the divergence from the warm start stays several times smaller."""
    moved = {}
    for kl in (1e-9, 20.0):  # the first is measured and does not matter
        loss = LossSettings(kl=kl, entropy=0.0, beta_sft=0.0)
        settings = SETTINGS.model_copy(update={"loss": loss, "warm_start_weight": 0.0})
        state = start(store, settings)
        parts = replace(tools(state.policy, settings), reference=policy_toys.toy_policy())
        metrics = [take_step(parts, state, batch(n), intent(n)) for n in range(1, 31)]
        assert abs(metrics[0]["kl_warm_start"]) < 1e-6
        moved[kl] = np.mean([one["kl_warm_start"] for one in metrics[-6:]])
    assert 0 <= moved[20.0] < 0.3 * moved[1e-9]
