"""What few steps tell: the distance from the warm start, and identifiers written without a constraint."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from schemas.store import Store
from tests.trainers import policy_toys
from tests.trainers.learner_toys import tools, view
from tests.trainers.test_step import SETTINGS, VERSIONS, start, walk, weights_of
from trainers.beam import beam_search
from trainers.exposition import Exposition
from trainers.passes import prompts_of
from trainers.policies.base import Policy
from trainers.state import save_warm_start
from trainers.whereabouts import measured, whereabouts

VIEWS = [view(number, clicked=[1]) for number in range(4)]


@torch.no_grad()
def exact_kl(policy: Policy, before: Policy) -> float:
    """Nats, over all identifiers of the toy catalogue."""
    parts = tools(policy, SETTINGS)
    prompts = prompts_of(parts.builder, VIEWS)
    every = beam_search(policy, prompts, parts.trie, len({*map(tuple, parts.trie.sids_NL.tolist())}))
    then = before.logprobs(prompts, every.sids_BWL, parts.trie).sum(dim=-1)
    return float((every.score_BW.exp() * (every.score_BW - then)).sum(dim=1).mean())


def test_the_distance_is_that_over_all_identifiers_and_the_policy_stays(tmp_path: Path) -> None:
    """None at the start; after steps, what a sum over the catalogue gives. No bit of the weights changes."""
    store = Store(str(tmp_path))
    save_warm_start(store, policy_toys.toy_policy(), 0, VERSIONS, {})
    state = start(store)
    many = SETTINGS.model_copy(update={"group": 3_000, "whereabouts_every_steps": 5})
    assert state.start is not None
    assert measured(state.policy, state.start, VIEWS, tools(state.policy, many), 1)["kl_warm_start"] == pytest.approx(
        0, abs=1e-6
    )
    walk(state, 1, 5)
    before = weights_of(state)
    found = whereabouts(state, VIEWS, tools(state.policy, many), {})
    assert all(torch.equal(value, before[name]) for name, value in weights_of(state).items())
    expected = exact_kl(state.policy, policy_toys.toy_policy())
    assert expected > 1e-3 and found["kl_warm_start"] == pytest.approx(expected, rel=0.2)
    assert 0 <= found["valid_sids"] <= 1
    other = tools(state.policy, SETTINGS.model_copy(update={"whereabouts_every_steps": 3}))
    assert whereabouts(state, VIEWS, other, {}) == whereabouts(state, [], tools(state.policy, many), {}) == {}
    # A step with a reference policy has told its distance: one name is one measure.
    assert whereabouts(state, VIEWS, tools(state.policy, many), {"kl_warm_start": 1.0}) == {
        "valid_sids": found["valid_sids"]
    }


def test_metrics_keep_what_few_steps_tell_and_nothing_else() -> None:
    said = Exposition("", 0)
    said.step({"reward": 1.0, "sft_ce": 2.0, "kl_warm_start": 3.0}, 1)
    said.step({"reward": 4.0}, 1)
    values = {
        name: said.registry.get_sample_value("headrace_learner_step_value", {"metric": name})
        for name in ("reward", "sft_ce", "kl_warm_start")
    }
    assert values == {"reward": 4.0, "sft_ce": None, "kl_warm_start": 3.0}
