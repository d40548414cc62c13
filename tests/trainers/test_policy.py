"""One list of checks for every backbone: against transformers' own forward, and against what must not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from schemas.errors import InvalidValue
from tests.trainers import policy_toys as toys
from trainers.identifiers.trie import Trie
from trainers.policies import levels, restricted
from trainers.policies.base import DecodeState, PromptBatch, PromptContext
from trainers.policies.levels import LevelPolicy
from trainers.policies.packing import Ragged

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=toys.NAMES)
def policy(request: pytest.FixtureRequest) -> LevelPolicy:
    """With every part of the prompt that there is."""
    return toys.toy_policy(name=request.param, prompt={"long_history": True})


@pytest.fixture(params=toys.NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def rollouts_of(catalogue: np.ndarray, seed: int = 1, rollouts: int = 6) -> torch.Tensor:
    """[3, G, L] identifiers of the catalogue; rollout 1 repeats rollout 0, as groups do."""
    rows = np.random.default_rng(seed).integers(0, len(catalogue), (3, rollouts))
    rows[:, 1] = rows[:, 0]
    rows[0] = rows[0, 0]  # a group with one identifier only, so that prompts differ in distinct prefixes
    return torch.from_numpy(catalogue[rows])


def doubled(prompts: PromptBatch) -> PromptBatch:
    """The same prompts with float64 vectors."""
    assert prompts.history_BJE is not None
    return PromptBatch(prompts.tokens_BS, prompts.mask_BS, prompts.dense_BE.double(), prompts.history_BJE.double())


def same_gradients(policy: LevelPolicy, twin: torch.nn.Module, tolerance: float) -> None:
    """Those of the twin's parameters and of the projections, each in proportion to its largest."""
    expected = {f"model.{name}": p.grad for name, p in twin.named_parameters()}
    found = {name: p.grad for name, p in policy.named_parameters() if name in expected}
    assert set(found) == set(expected)
    for name, gradient in found.items():
        scale = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(gradient / scale, expected[name] / scale, rtol=0, atol=tolerance, msg=name)


@pytest.mark.parametrize(("dtype", "temperature"), [(torch.float32, 1.0), (torch.float32, 3.0), (torch.float64, 3.0)])
def test_logprobs_and_gradients_are_those_of_the_full_model_cut_to_the_allowed_children(
    name: str, dtype: torch.dtype, temperature: float
) -> None:
    """transformers' Qwen3 computes its norms in float32 whatever the precision: it cannot be closer than that."""
    tolerance = 1e-12 if dtype is torch.float64 and name != "qwen3" else 1e-5
    policy = toys.toy_policy(name=name, prompt={"long_history": True}).to(dtype)
    catalogue, prompts = toys.toy_sids(), doubled(toys.toy_prompts(policy))
    sids_BGL = rollouts_of(catalogue)
    weight_BGL = torch.randn(sids_BGL.shape, dtype=dtype, generator=torch.Generator().manual_seed(5))

    fast = policy.logprobs(prompts, sids_BGL, toys.toy_trie(), temperature)
    (fast * weight_BGL).sum().backward()
    projections = [policy.dense.weight.grad.clone(), policy.dense.history.grad.clone()]
    policy.dense.zero_grad()
    twin = toys.transformers_twin(policy)
    slow = toys.slow_logprobs(policy, prompts, sids_BGL, catalogue.tolist(), temperature, twin)
    (slow * weight_BGL).sum().backward()

    assert fast.dtype == dtype
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)
    same_gradients(policy, twin, tolerance)
    for ours, theirs in zip(projections, (policy.dense.weight.grad, policy.dense.history.grad), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=10 * tolerance)


def test_the_gradient_is_the_slope(name: str) -> None:
    """Central difference in float64 along one random direction through all parameters."""
    policy = toys.toy_policy(name=name, prompt={"long_history": True}).double()
    prompts, sids_BGL, trie = doubled(toys.toy_prompts(policy)), rollouts_of(toys.toy_sids()), toys.toy_trie()
    generator = torch.Generator().manual_seed(2)
    directions = [torch.randn(p.shape, dtype=p.dtype, generator=generator) for p in policy.parameters()]

    def value(step: float) -> torch.Tensor:
        with torch.no_grad():
            for parameter, direction in zip(policy.parameters(), directions, strict=True):
                parameter.add_(direction, alpha=step)
        return policy.logprobs(prompts, sids_BGL, trie, 2.0).square().sum() + policy.full_ce(prompts, sids_BGL[:, 0]).sum()

    gradients = torch.autograd.grad(value(0.0), list(policy.parameters()), allow_unused=True)
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True) if g is not None)
    step = 1e-5
    difference = (value(step) - value(-2 * step)).detach() / (2 * step)
    assert float(difference) == pytest.approx(slope, rel=1e-6)


def test_full_ce_and_its_gradient_are_the_whole_vocabulary_cross_entropy(name: str) -> None:
    policy = toys.toy_policy(name=name)
    twin = toys.transformers_twin(policy)
    prompts, sids_BL = toys.toy_prompts(policy), rollouts_of(toys.toy_sids())[:, 0]
    tokens_BL = sids_BL + torch.tensor(policy.tokenizer.level_start)
    slow = functional.cross_entropy(
        toys.full_logits(policy, prompts, sids_BL[:, None], twin).flatten(0, 2), tokens_BL.flatten(), reduction="none"
    ).view(3, 5)
    fast = policy.full_ce(prompts, sids_BL)
    torch.testing.assert_close(fast, slow, rtol=1e-5, atol=1e-5)
    fast.sum().backward()
    slow.sum().backward()
    same_gradients(policy, twin, 1e-5)


def test_the_token_before_a_code_predicts_it_from_the_first_code_on(name: str) -> None:
    """transformers' own loss shifts its labels; a loss that forgets the shift never learns the first code."""
    policy = toys.toy_policy(name=name)
    twin, prompts, sids_BL = toys.transformers_twin(policy), toys.toy_prompts(policy), rollouts_of(toys.toy_sids())[:, 0]
    alone = prompts.rows(torch.tensor([1]))
    tokens_1L = sids_BL[1:2] + torch.tensor(policy.tokenizer.level_start)
    embedded = twin.get_input_embeddings()(alone.tokens_BS) + toys.toy_slots(policy, alone)
    for level in range(5):
        labels_1L = torch.full_like(tokens_1L, -100)
        labels_1L[0, level] = tokens_1L[0, level]
        if name == "bart":  # shifts inside: decoder_start, then the labels
            start = torch.full((1, 1), policy.tokenizer.bos)
            given = torch.cat([start, tokens_1L[:, :-1]], dim=1)
            loss = twin(inputs_embeds=embedded, decoder_input_ids=given, labels=labels_1L).loss
        else:
            bos = torch.full((1, 1), policy.tokenizer.bos)
            answer = twin.get_input_embeddings()(torch.cat([bos, tokens_1L], dim=1))
            before = torch.full((1, embedded.shape[1] + 1), -100)
            loss = twin(
                inputs_embeds=torch.cat([embedded, answer], dim=1), labels=torch.cat([before, labels_1L], dim=1)
            ).loss
        found = policy.full_ce(alone, sids_BL[1:2])[0, level]
        torch.testing.assert_close(found, loss, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_a_code_shapes_what_follows_it_and_nothing_before(policy: LevelPolicy) -> None:
    prompts, sids_BGL = toys.toy_prompts(policy), rollouts_of(toys.toy_sids())
    state = policy.encode(prompts)
    before = policy.teacher_forced(state, sids_BGL)
    for level, size in enumerate(toys.SIZES):
        other = sids_BGL.clone()
        other[..., level] = (other[..., level] + 1) % size
        after = policy.teacher_forced(state, other)
        torch.testing.assert_close(after[:, :, : level + 1], before[:, :, : level + 1], rtol=1e-5, atol=1e-5)
        assert level == 4 or float((after[:, :, level + 1] - before[:, :, level + 1]).abs().amax(dim=-1).min()) > 1e-3


def test_a_levels_head_is_its_slice_of_the_whole_vocabulary(policy: LevelPolicy) -> None:
    hidden = torch.randn(3, 2, policy.settings.d_model, generator=torch.Generator().manual_seed(0))
    whole = policy.vocabulary_logits(hidden)
    assert whole.shape[-1] == len(policy.tokenizer)
    for level, (start, size) in enumerate(zip(policy.tokenizer.level_start, toys.SIZES, strict=True)):
        torch.testing.assert_close(
            policy.level_logits(level, hidden), whole[..., start : start + size], rtol=1e-5, atol=1e-5
        )


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_heads_of_the_allowed_children_alone_give_the_same_values_and_gradients(
    policy: LevelPolicy, temperature: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    weight_BGL = torch.randn(sids_BGL.shape, generator=torch.Generator().manual_seed(5))
    found = []
    for cost in (0, 10**9):  # always gathered, never gathered
        monkeypatch.setattr(levels, "GATHER_COST", cost)
        policy.zero_grad()
        logp = policy.logprobs(prompts, sids_BGL, trie, temperature)
        (logp * weight_BGL).sum().backward()
        found.append((logp, {name: p.grad for name, p in policy.named_parameters()}))
    policy.zero_grad()
    torch.testing.assert_close(found[0][0], found[1][0], rtol=1e-5, atol=1e-5)
    for parameter, gradient in found[0][1].items():
        torch.testing.assert_close(gradient, found[1][1][parameter], rtol=1e-4, atol=1e-4, msg=parameter)


def test_one_prompt_shared_by_its_group_is_the_prompt_repeated(policy: LevelPolicy) -> None:
    """Values, and the gradient that flows into the shared prompt once."""
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    repeated, group = prompts.rows(torch.arange(3).repeat_interleave(6)), sids_BGL.shape[1]
    gradients = []
    values = []
    for given, sids in ((prompts, sids_BGL), (repeated, sids_BGL.reshape(3 * group, 1, 5))):
        policy.zero_grad()
        logp = policy.logprobs(given, sids, trie)
        (logp.view(sids_BGL.shape) * torch.arange(1.0, 6.0)).sum().backward()
        values.append(logp.detach().view(sids_BGL.shape))
        gradients.append({name: p.grad for name, p in policy.named_parameters()})
    policy.zero_grad()
    torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-5)
    for parameter, gradient in gradients[0].items():
        scale = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(gradient / scale, gradients[1][parameter] / scale, rtol=0, atol=1e-5, msg=parameter)


def test_the_order_of_prompts_and_rollouts_does_not_matter(policy: LevelPolicy) -> None:
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    rows, columns = torch.tensor([2, 0, 1]), torch.tensor([3, 5, 0, 1, 4, 2])
    expected = policy.logprobs(prompts, sids_BGL, trie)[rows][:, columns]
    found = policy.logprobs(prompts.rows(rows), sids_BGL[rows][:, columns], trie)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_bfloat16_autocast_stays_close(policy: LevelPolicy) -> None:
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    exact = policy.logprobs(prompts, sids_BGL, trie)
    with torch.autocast("cpu", torch.bfloat16):
        rough = policy.logprobs(prompts, sids_BGL, trie)
    assert rough.dtype == torch.float32
    torch.testing.assert_close(rough, exact, rtol=0, atol=0.1)
    assert not torch.equal(rough, exact)


def test_the_longest_prompt_and_its_identifier_fit_the_model(policy: LevelPolicy) -> None:
    """Every part over its limit; the query keeps its pieces (`test_policy_prompts`), and the codes come after the prompt."""
    long = "red lamp number " * 300
    prompts = toys.toy_builder(policy).build([PromptContext(long, (long,) * 9, ("i1", "i2") * 9, ("i1",))])
    assert prompts.tokens_BS.shape[1] == policy.settings.prompt.longest(5)
    assert bool(policy.logprobs(prompts, rollouts_of(toys.toy_sids())[:1], toys.toy_trie()).isfinite().all())


def test_step_by_step_decoding_gives_the_hidden_states_of_the_teacher_forced_pass(policy: LevelPolicy) -> None:
    sids_BGL = rollouts_of(toys.toy_sids())
    with torch.no_grad():
        encoder = policy.encode(toys.toy_prompts(policy))
        expected = policy.teacher_forced(encoder, sids_BGL)
        hidden, state = policy.advance(DecodeState(encoder, 0), None)
        torch.testing.assert_close(hidden.expand(-1, 6, -1), expected[:, :, 0], rtol=1e-5, atol=1e-5)
        state = state.select(torch.zeros(3, 6, dtype=torch.int64))
        for level in range(1, 5):
            hidden, state = policy.advance(state, sids_BGL[..., level - 1])
            torch.testing.assert_close(hidden, expected[:, :, level], rtol=1e-5, atol=1e-5)


def test_prompts_may_have_different_numbers_of_rows(policy: LevelPolicy) -> None:
    """1, 4 and 0 of six rollouts, then 1, 3 and 0 of these in another order: as the teacher-forced pass, gaps or not."""
    sids_BGL = rollouts_of(toys.toy_sids())
    with torch.no_grad():
        encoder = policy.encode(toys.toy_prompts(policy))
        expected = policy.teacher_forced(encoder, sids_BGL)
        _, state = policy.advance(DecodeState(encoder, 0), None)
        took = [[4, 4, 4, 4], [5, 0, 2, 3], [0, 0, 0, 0]]
        for level, (rows, counts) in enumerate([([[0] * 4] * 3, (1, 4, 0)), ([[0] * 3, [3, 1, 0], [0] * 3], (1, 3, 0))], 1):
            there_BR = torch.arange(len(rows[0])) < torch.tensor(counts)[:, None]
            state = state.select(torch.tensor(rows), Ragged.of(there_BR))
            took = took if level == 1 else [[old[at] for at in new] for old, new in zip(took, rows, strict=True)]
            codes_BR = sids_BGL[..., level - 1].gather(1, torch.tensor(took))
            hidden, state = policy.advance(state, codes_BR)
            for row, count in enumerate(counts):
                known = expected[row, took[row][:count], level]
                torch.testing.assert_close(hidden[row, :count], known, rtol=1e-5, atol=1e-5)
        assert len(state.keys_PHTC[0]) == 4


def test_a_prompt_scores_the_same_alone_and_padded_in_a_batch(policy: LevelPolicy) -> None:
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    together = policy.logprobs(prompts, sids_BGL, trie)
    for row in range(3):
        alone = prompts.rows(torch.tensor([row]))
        assert alone.tokens_BS.shape[1] == int(prompts.mask_BS[row].sum())
        torch.testing.assert_close(
            policy.logprobs(alone, sids_BGL[row : row + 1], trie)[0], together[row], rtol=1e-5, atol=1e-5
        )


def test_probabilities_of_the_whole_catalogue_add_up_to_one(policy: LevelPolicy) -> None:
    leaves = torch.tensor(sorted({tuple(sid) for sid in toys.toy_sids().tolist()}))
    logp = policy.logprobs(toys.toy_prompts(policy), leaves.expand(3, -1, -1), toys.toy_trie(), 3.0).sum(dim=-1)
    torch.testing.assert_close(logp.exp().sum(dim=1), torch.ones(3), rtol=1e-5, atol=1e-5)


def test_masks_made_when_needed_equal_the_kept_table(policy: LevelPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, sids_BGL = toys.toy_prompts(policy), rollouts_of(toys.toy_sids())
    kept = policy.logprobs(prompts, sids_BGL, toys.toy_trie())
    monkeypatch.setattr(restricted, "TABLE_LIMIT", 0)
    assert torch.equal(policy.logprobs(prompts, sids_BGL, toys.toy_trie()), kept)


def test_what_cannot_be_scored_raises(policy: LevelPolicy) -> None:
    prompts, trie, catalogue = toys.toy_prompts(policy), toys.toy_trie(), toys.toy_sids()
    sids_BGL = rollouts_of(catalogue)
    absent = sids_BGL.clone()
    absent[2, 3, 4] = 1 - absent[2, 3, 4]
    while trie.contains(absent[2, 3].numpy()[None]).item():
        absent[2, 3] = torch.tensor([np.random.default_rng(0).integers(0, k) for k in toys.SIZES])
    with pytest.raises(InvalidValue, match="catalogue's trie"):
        policy.logprobs(prompts, absent, trie)
    with pytest.raises(InvalidValue, match="temperature"):
        policy.logprobs(prompts, sids_BGL, trie, 0.0)
    with pytest.raises(InvalidValue, match="level sizes"):
        policy.logprobs(prompts, sids_BGL, Trie.build(catalogue, (9, 9, 9, 9, 9)))
    with pytest.raises(InvalidValue, match="at least 1"):
        policy.logprobs(prompts, sids_BGL, Trie.build(np.zeros((0, 5), dtype=np.int64), toys.SIZES))
