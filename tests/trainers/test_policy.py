"""The BART policy against transformers' own forward, and the folder it is saved into."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.nn import functional
from transformers.models.bart.configuration_bart import BartConfig
from transformers.models.bart.modeling_bart import BartForConditionalGeneration

from schemas.errors import Corrupt, Incompatible, InvalidValue, Unavailable
from tests.trainers import policy_toys as toys
from trainers.identifiers.trie import Trie
from trainers.policies import load_policy, restricted
from trainers.policies.bart import BartPolicy
from trainers.policies.bart_modules import BartShape
from trainers.policies.base import DecodeState

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def policy() -> BartPolicy:
    return toys.toy_policy()


def rollouts_of(catalogue: np.ndarray, seed: int = 1, rollouts: int = 6) -> torch.Tensor:
    """[3, G, L] identifiers of the catalogue; rollout 1 repeats rollout 0, as groups do."""
    rows = np.random.default_rng(seed).integers(0, len(catalogue), (3, rollouts))
    rows[:, 1] = rows[:, 0]
    rows[0] = rows[0, 0]  # a group with one identifier only, so that prompts differ in distinct prefixes
    return torch.from_numpy(catalogue[rows])


@pytest.mark.parametrize("temperature", [1.0, 3.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_logprobs_and_gradients_are_those_of_the_full_model_cut_to_the_allowed_children(
    dtype: torch.dtype, tolerance: float, temperature: float
) -> None:
    policy = toys.toy_policy().to(dtype)
    catalogue, prompts = toys.toy_sids(), toys.toy_prompts(policy)
    prompts = type(prompts)(prompts.tokens_BS, prompts.mask_BS, prompts.dense_BE.to(dtype))
    sids_BGL = rollouts_of(catalogue)
    weight_BGL = torch.randn(sids_BGL.shape, dtype=dtype, generator=torch.Generator().manual_seed(5))

    fast = policy.logprobs(prompts, sids_BGL, toys.toy_trie(), temperature)
    (fast * weight_BGL).sum().backward()
    gradients = {name: p.grad.clone() for name, p in policy.named_parameters() if p.grad is not None}
    policy.zero_grad()
    twin = toys.transformers_twin(policy)
    slow = toys.slow_logprobs(policy, prompts, sids_BGL, catalogue.tolist(), temperature, twin)
    (slow * weight_BGL).sum().backward()

    assert fast.dtype == dtype
    torch.testing.assert_close(fast, slow, rtol=tolerance, atol=tolerance)
    expected = {f"model.{name}": p.grad for name, p in twin.named_parameters()} | {"dense.weight": policy.dense.weight.grad}
    assert set(gradients) == set(expected)
    for name, gradient in gradients.items():
        scale = max(1.0, float(expected[name].abs().max()))
        torch.testing.assert_close(gradient / scale, expected[name] / scale, rtol=0, atol=tolerance, msg=name)


def test_full_ce_and_its_gradient_are_the_whole_vocabulary_cross_entropy() -> None:
    policy = toys.toy_policy()
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
    for name, parameter in twin.named_parameters():
        gradient = policy.get_parameter(f"model.{name}").grad
        scale = max(1.0, float(parameter.grad.abs().max()))
        torch.testing.assert_close(gradient / scale, parameter.grad / scale, rtol=0, atol=1e-5, msg=name)


def test_step_by_step_decoding_gives_the_hidden_states_of_the_teacher_forced_pass(policy: BartPolicy) -> None:
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


def test_a_prompt_scores_the_same_alone_and_padded_in_a_batch(policy: BartPolicy) -> None:
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    together = policy.logprobs(prompts, sids_BGL, trie)
    for row in range(3):
        alone = prompts.rows(torch.tensor([row]))
        assert alone.tokens_BS.shape[1] == int(prompts.mask_BS[row].sum())
        torch.testing.assert_close(
            policy.logprobs(alone, sids_BGL[row : row + 1], trie)[0], together[row], rtol=1e-5, atol=1e-5
        )


def test_probabilities_of_the_whole_catalogue_add_up_to_one(policy: BartPolicy) -> None:
    leaves = torch.tensor(sorted({tuple(sid) for sid in toys.toy_sids().tolist()}))
    logp = policy.logprobs(toys.toy_prompts(policy), leaves.expand(3, -1, -1), toys.toy_trie(), 3.0).sum(dim=-1)
    torch.testing.assert_close(logp.exp().sum(dim=1), torch.ones(3), rtol=1e-5, atol=1e-5)


def test_masks_made_when_needed_equal_the_kept_table(policy: BartPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, sids_BGL = toys.toy_prompts(policy), rollouts_of(toys.toy_sids())
    kept = policy.logprobs(prompts, sids_BGL, toys.toy_trie())
    monkeypatch.setattr(restricted, "TABLE_LIMIT", 0)
    assert torch.equal(policy.logprobs(prompts, sids_BGL, toys.toy_trie()), kept)


def test_dropout_acts_in_training_mode_only() -> None:
    policy, sids_BL = toys.toy_policy(dropout=0.5), rollouts_of(toys.toy_sids())[:, 0]
    prompts = toys.toy_prompts(policy)
    with torch.no_grad():
        assert torch.equal(policy.full_ce(prompts, sids_BL), policy.full_ce(prompts, sids_BL))
        policy.train()
        assert not torch.equal(policy.full_ce(prompts, sids_BL), policy.full_ce(prompts, sids_BL))


def test_the_same_seed_gives_the_same_policy_and_leaves_the_random_state_alone() -> None:
    before = torch.random.get_rng_state()
    one, two, other = toys.toy_policy(3).state_dict(), toys.toy_policy(3).state_dict(), toys.toy_policy(4).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["model.model.shared.weight"], other["model.model.shared.weight"])


def test_identifier_embeddings_start_at_their_centroids_seen_through_the_query_projection() -> None:
    rng = np.random.default_rng(0)
    centroids = [rng.normal(size=(k, toys.WIDTH)).astype(np.float32) for k in toys.SIZES]
    tokenizer = toys.toy_tokenizer()
    policy = BartPolicy.create(toys.toy_settings(init_std=0.02), tokenizer, "cb1", toys.WIDTH, 0, centroids)
    for level, centroid in enumerate(centroids):
        start = tokenizer.level_start[level]
        rows = policy.model.model.shared.weight[start : start + len(centroid)].detach()
        image = torch.from_numpy(centroid) @ policy.dense.weight.detach().T
        factor = 0.02 / image.square().mean().sqrt()
        torch.testing.assert_close(rows, image * factor, rtol=1e-5, atol=1e-6)
    with pytest.raises(InvalidValue, match="rows of the centroids"):
        BartPolicy.create(toys.toy_settings(), tokenizer, "cb1", toys.WIDTH, 0, centroids[:4])


def test_a_saved_folder_opens_with_transformers_and_with_load_policy(policy: BartPolicy, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    policy.save(tmp_path)
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    model = BartForConditionalGeneration.from_pretrained(tmp_path / "model")
    batch = {
        "input_ids": prompts.tokens_BS,
        "attention_mask": prompts.mask_BS.long(),
        "decoder_input_ids": torch.zeros(3, 1).long(),
    }
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, toys.transformers_twin(policy)(**batch).logits, rtol=0, atol=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.convert_tokens_to_ids("<b_2>") == policy.tokenizer.level_start[1] + 2
    assert tokenizer.pad_token_id == policy.tokenizer.pad

    before = torch.random.get_rng_state()
    loaded = load_policy(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (loaded.codebook_version, loaded.settings) == ("cb1", policy.settings)
    assert torch.equal(loaded.logprobs(prompts, sids_BGL, trie), policy.logprobs(prompts, sids_BGL, trie))
    assert loaded.tokenizer.text("red lamp", 9) == policy.tokenizer.text("red lamp", 9)


def test_a_damaged_folder_is_refused_by_name(policy: BartPolicy, tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"policy\.json"):
        load_policy(tmp_path)
    policy.save(tmp_path)
    weights = load_file(tmp_path / "model" / "model.safetensors")
    about = json.loads((tmp_path / "policy.json").read_text())

    without = {name: w for name, w in weights.items() if name != "model.decoder.layers.0.fc1.weight"}
    save_file(without, tmp_path / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(Corrupt, match=r"decoder\.layers\.0\.fc1\.weight"):
        load_policy(tmp_path)
    save_file(
        weights | {"model.shared.weight": weights["model.shared.weight"][:-1]}, tmp_path / "model" / "model.safetensors"
    )
    with pytest.raises(Corrupt, match=r"shared\.weight"):
        load_policy(tmp_path)

    torn = tmp_path / "model" / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:1000])
    with pytest.raises(Corrupt, match=r"model\.safetensors"):
        load_policy(tmp_path)
    (tmp_path / "model" / "config.json").unlink()
    with pytest.raises(Corrupt, match=r"config\.json"):
        load_policy(tmp_path)

    (tmp_path / "policy.json").write_text(json.dumps(about | {"backbone": "abacus"}))
    with pytest.raises(Incompatible, match="abacus"):
        load_policy(tmp_path)
    (tmp_path / "policy.json").write_text(json.dumps(about)[:-9])
    with pytest.raises(Corrupt, match=r"policy\.json"):
        load_policy(tmp_path)


def test_what_cannot_be_scored_raises(policy: BartPolicy) -> None:
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


def test_a_folder_that_transformers_wrote_opens_too(policy: BartPolicy, tmp_path: Path) -> None:
    """Settings that ours never writes included: scaled embeddings, ReLU, other depths on the two sides."""
    policy.save(tmp_path)
    shape = BartShape.load(tmp_path / "model")
    data = {**asdict(shape), "scale_embedding": True, "activation_function": "relu", "decoder_layers": 1}
    torch.manual_seed(0)
    theirs = BartForConditionalGeneration(BartConfig(**data, forced_eos_token_id=None)).eval()
    theirs.final_logits_bias.normal_()
    theirs.save_pretrained(tmp_path / "model")
    loaded = load_policy(tmp_path)
    assert isinstance(loaded, BartPolicy)
    prompts, sids_BGL = toys.toy_prompts(loaded), rollouts_of(toys.toy_sids())
    prompts = type(prompts)(prompts.tokens_BS, prompts.mask_BS, torch.zeros_like(prompts.dense_BE))
    with torch.no_grad():
        expected = toys.slow_logprobs(loaded, prompts, sids_BGL, toys.toy_sids().tolist(), 1.0, theirs)
        torch.testing.assert_close(loaded.logprobs(prompts, sids_BGL, toys.toy_trie()), expected, rtol=1e-5, atol=1e-5)


def test_loading_a_policy_does_not_import_transformers(policy: BartPolicy, tmp_path: Path) -> None:
    """It would cost every process 300 MB and seconds."""
    policy.save(tmp_path)
    code = "import sys; from trainers.policies import load_policy; load_policy(sys.argv[1]); sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == 0
