"""Whatever runs a policy works with every backbone: warm start, rollouts, beam search, a learner's step and its checkpoint."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from schemas.store import Store
from tests.trainers import policy_toys as toys
from tests.trainers.learner_toys import tools
from tests.trainers.test_beam import WIDE, found
from tests.trainers.test_step import SETTINGS, VERSIONS, batch, intent, start
from tests.trainers.test_warm_start import PAIRS, SHOP
from trainers.beam import beam_search
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.pairs import PairSampler
from trainers.policies.settings import WarmStartSettings
from trainers.rollout import sample
from trainers.state import LearnerState, save_state, save_warm_start
from trainers.step import take_step
from trainers.validity import valid_sid_rate
from trainers.warm_start import warm_start

torch.set_num_threads(1)
pytestmark = pytest.mark.parametrize("name", toys.NAMES)


def test_it_learns_twelve_queries(name: str) -> None:
    """From one of twelve by chance to nearly all, and left alone it writes identifiers that exist."""
    policy = toys.toy_policy(1, name=name, init_std=0.02)
    builder = toys.toy_builder(policy)
    options = WarmStartSettings(seconds=0, steps=150, batch=12, learning_rate=5e-3)
    report = warm_start(policy, PairSampler({"clicks": PAIRS}, {"clicks": 1}, 0), builder, options, 0)
    assert report.loss < 1.0
    trie, prompts = Trie.build(np.array(list(SHOP.values())), toys.SIZES), builder.build([pair.context for pair in PAIRS])
    best = beam_search(policy, prompts, trie, 12).sids_BWL[:, 0].tolist()
    assert np.mean([tuple(sid) == pair.sid for sid, pair in zip(best, PAIRS, strict=True)]) >= 0.9
    assert valid_sid_rate(policy, prompts, trie) >= 0.9


def test_rollouts_carry_the_log_probs_that_are_trained(name: str) -> None:
    policy = toys.toy_policy(name=name)
    state = policy.encode(toys.toy_prompts(policy))
    drawn = sample(policy, state, toys.toy_trie(), 16, 3.0, Noise(0, 0, range(len(state))))
    again = policy.logprobs(state, drawn.sids_BGL, toys.toy_trie(), 3.0)
    torch.testing.assert_close(again.detach(), drawn.logp_BGL, rtol=1e-5, atol=1e-5)


def test_a_wide_beam_is_the_enumeration(name: str) -> None:
    policy, catalogue = toys.toy_policy(name=name), [tuple(sid) for sid in toys.toy_sids().tolist()]
    prompts = toys.toy_prompts(policy)
    with torch.no_grad():
        score_BN = toys.enumerate_scores(policy, prompts, catalogue)
    beams, distinct = beam_search(policy, prompts, toys.toy_trie(), WIDE), sorted(set(catalogue))
    for row in range(3):
        sids = found(beams, row)
        expected = dict(zip(distinct, score_BN[row].tolist(), strict=True))
        assert set(sids) == set(distinct)
        assert beams.score_BW[row][: len(sids)].tolist() == pytest.approx([expected[sid] for sid in sids], abs=1e-4)


def test_one_beam_is_transformers_greedy_generation_under_the_same_constraint(name: str) -> None:
    policy, catalogue = toys.toy_policy(name=name), toys.toy_sids().tolist()
    prompts, twin, starts = toys.toy_prompts(policy), toys.transformers_twin(policy), policy.tokenizer.level_start

    def follow(_: int, ids: torch.Tensor) -> list[int]:
        codes = [token for token in ids.tolist() if token >= starts[0]]
        level = len(codes)
        prefix = [token - start for token, start in zip(codes, starts, strict=False)]
        return [starts[level] + code for code in toys.children(catalogue, prefix)]

    special = {"decoder_start_token_id": policy.tokenizer.bos} if name == "bart" else {}
    out = twin.generate(
        **toys.twin_inputs(twin, policy, prompts), **special, do_sample=False, num_beams=1, max_new_tokens=5,
        prefix_allowed_tokens_fn=follow, pad_token_id=policy.tokenizer.pad,
    )  # fmt: skip
    expected = out[:, -5:] - torch.tensor(starts)
    assert beam_search(policy, prompts, toys.toy_trie(), 1).sids_BWL[:, 0].tolist() == expected.tolist()


def test_a_learner_steps_saves_and_goes_on_to_the_last_bit(name: str, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "store"))
    save_warm_start(store, toys.toy_policy(name=name, prompt={"long_history": True}), 0, VERSIONS, {})

    def step(state: LearnerState, number: int) -> None:
        parts = tools(state.policy, SETTINGS)
        metrics = take_step(parts, state, batch(number), intent(number))
        assert metrics["logp_gap"] < 1e-4
        state.step = number

    through, halfway = start(store), start(store)
    step(through, 1)
    step(through, 2)
    step(halfway, 1)
    save_state(store, halfway, intent(1), SETTINGS, VERSIONS, {})
    resumed = start(store)
    step(resumed, 2)
    expected = through.policy.module.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in resumed.policy.module.state_dict().items())
