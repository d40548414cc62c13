"""The folder a policy is saved into, and pretrained folders: transformers opens ours, and we open theirs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer, PreTrainedTokenizerFast
from transformers.models.bart.configuration_bart import BartConfig
from transformers.models.bart.modeling_bart import BartForConditionalGeneration
from transformers.models.gpt2.configuration_gpt2 import GPT2Config
from transformers.models.qwen3.configuration_qwen3 import Qwen3Config

from schemas.errors import Corrupt, Incompatible, InvalidSetting, Unavailable
from tests.trainers import policy_toys as toys
from tests.trainers.test_policy import rollouts_of
from trainers.policies import load_policy
from trainers.policies.backbones import new_policy
from trainers.policies.bart import BartPolicy
from trainers.policies.bart_modules import BartShape
from trainers.policies.base import PromptBatch
from trainers.policies.levels import LevelPolicy

torch.set_num_threads(1)


def model_class(name: str) -> Any:
    return AutoModelForSeq2SeqLM if name == "bart" else AutoModelForCausalLM


@pytest.mark.parametrize("name", toys.NAMES)
def test_a_saved_folder_opens_with_transformers_and_with_load_policy(name: str, tmp_path: Path) -> None:
    policy = toys.toy_policy(name=name, prompt={"long_history": True})
    policy.save(tmp_path)
    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    model, twin = model_class(name).from_pretrained(tmp_path / "model"), toys.transformers_twin(policy)
    batch = {"input_ids": prompts.tokens_BS, "attention_mask": prompts.mask_BS.long()}
    batch |= {"decoder_input_ids": torch.zeros(3, 1).long()} if name == "bart" else {}
    with torch.no_grad():
        torch.testing.assert_close(model(**batch).logits, twin(**batch).logits, rtol=0, atol=0)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "model")
    assert tokenizer.convert_tokens_to_ids("<b_2>") == policy.tokenizer.level_start[1] + 2
    assert tokenizer.pad_token_id == policy.tokenizer.pad

    before = torch.random.get_rng_state()
    loaded = load_policy(tmp_path)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert (loaded.codebook_version, loaded.settings) == ("cb1", policy.settings)
    assert torch.equal(loaded.logprobs(prompts, sids_BGL, trie), policy.logprobs(prompts, sids_BGL, trie))
    assert loaded.tokenizer.text("red lamp", 9) == policy.tokenizer.text("red lamp", 9)


@pytest.mark.parametrize("name", toys.NAMES)
def test_a_policy_takes_the_weights_of_a_folder_like_its_own(name: str, tmp_path: Path) -> None:
    """The other one's numbers exactly, the own ones untouched, no memory in common; as opening the folder gives them."""
    served, trained = (toys.toy_policy(name=name, prompt={"long_history": True}) for _ in range(2))
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.5)
    trained.save(tmp_path)
    prompts, sids_BGL, trie = toys.toy_prompts(served), rollouts_of(toys.toy_sids()), toys.toy_trie()
    before = served.logprobs(prompts, sids_BGL, trie)
    made = load_policy(tmp_path, like=served)
    assert torch.equal(made.logprobs(prompts, sids_BGL, trie), load_policy(tmp_path).logprobs(prompts, sids_BGL, trie))
    assert not torch.allclose(made.logprobs(prompts, sids_BGL, trie), before)
    assert torch.equal(served.logprobs(prompts, sids_BGL, trie), before)
    kept = {tensor.data_ptr() for tensor in served.state_dict().values()}
    assert not kept & {tensor.data_ptr() for tensor in made.module.state_dict().values()}
    assert list(made.module.state_dict()) == list(served.state_dict())


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    toys.toy_policy(ffn=40).save(tmp_path)
    with pytest.raises(Corrupt, match=r"of another shape .*fc1"):
        load_policy(tmp_path, like=toys.toy_policy())


def test_a_damaged_folder_is_refused_by_name(tmp_path: Path) -> None:
    policy = toys.toy_policy()
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


def test_a_folder_that_transformers_wrote_opens_too(tmp_path: Path) -> None:
    """Settings that ours never writes included: scaled embeddings, ReLU, other depths on the two sides."""
    policy = toys.toy_policy()
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
    prompts = PromptBatch(prompts.tokens_BS, prompts.mask_BS, torch.zeros_like(prompts.dense_BE))
    with torch.no_grad():
        expected = toys.slow_logprobs(loaded, prompts, sids_BGL, toys.toy_sids().tolist(), 1.0, theirs)
        torch.testing.assert_close(loaded.logprobs(prompts, sids_BGL, toys.toy_trie()), expected, rtol=1e-5, atol=1e-5)


def text_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """Trained on the toy's texts, with the special tokens that such a model's tokenizer has."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    special = {
        "bart": {"bos_token": "<s>", "pad_token": "<pad>", "eos_token": "</s>"},
        "gpt2": {"bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
        "qwen3": {"pad_token": "<|endoftext|>", "eos_token": "<|im_end|>"},
    }[name]
    names = list(dict.fromkeys(special.values()))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=300, special_tokens=names, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(toys.TEXTS, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


def pretrained_folder(name: str, folder: Path, **changes: object) -> Path:
    """What save_pretrained writes: Qwen3 with an output matrix of its own, shared key heads, wide heads, and rows to spare."""
    tokenizer = text_tokenizer(name)
    size: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": 0, "eos_token_id": 0, "bos_token_id": 0}
    if name == "bart":
        side = {f"{side}_{part}": n for side in ("encoder", "decoder") for part, n in
                (("layers", 1), ("ffn_dim", 24), ("attention_heads", 2))}  # fmt: skip
        config: Any = BartConfig(**size | {"d_model": 16, "max_position_embeddings": 512, "decoder_start_token_id": 2}
                                 | side | {"forced_eos_token_id": None} | changes)  # fmt: skip
    elif name == "gpt2":
        config = GPT2Config(**size | {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 512} | changes)
    else:
        config = Qwen3Config(
            **size | {"vocab_size": len(tokenizer) + 40, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "max_position_embeddings": 512,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}, "tie_word_embeddings": False} | changes
        )  # fmt: skip
    torch.manual_seed(1)
    model = model_class(name).from_config(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(0.3)  # a mean to start from
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def folder_of(policy: LevelPolicy, folder: Path) -> Path:
    """The model of a policy as it is kept."""
    policy.save(folder)
    return folder / "model"


def adopted(folder: Path, **changes: object) -> LevelPolicy:
    settings = toys.toy_settings(pretrained=str(folder), **changes)
    return new_policy(settings, (), toys.SIZES, "cb1", toys.WIDTH, 0, toys.toy_centroids())


@pytest.mark.parametrize("name", toys.NAMES)
def test_a_pretrained_folder_becomes_a_policy_with_identifiers_behind_its_own_tokens(name: str, tmp_path: Path) -> None:
    """Text logits are the pretrained model's; the policy agrees with transformers; saved and loaded it is the same."""
    theirs = model_class(name).from_pretrained(pretrained_folder(name, tmp_path / "theirs")).eval()
    policy = adopted(tmp_path / "theirs")
    texts = len(text_tokenizer(name))
    assert policy.settings.backbone == name and policy.settings.d_model == 16
    assert min(policy.tokenizer.level_start) >= texts
    ids = torch.tensor([policy.tokenizer.text("red lamp number 4", 20)])
    assert ids.max() < texts
    given = {"input_ids": ids} | ({"decoder_input_ids": torch.tensor([[2]])} if name == "bart" else {})
    with torch.no_grad():
        before, after = theirs(**given).logits[..., :texts], toys.transformers_twin(policy)(**given).logits[..., :texts]
    torch.testing.assert_close(after, before, rtol=1e-5, atol=1e-5)

    prompts, sids_BGL, trie = toys.toy_prompts(policy), rollouts_of(toys.toy_sids()), toys.toy_trie()
    found = policy.logprobs(prompts, sids_BGL, trie)
    slow = toys.slow_logprobs(policy, prompts, sids_BGL, toys.toy_sids().tolist())
    torch.testing.assert_close(found, slow, rtol=1e-5, atol=1e-5)
    policy.save(tmp_path / "ours")
    assert torch.equal(load_policy(tmp_path / "ours").logprobs(prompts, sids_BGL, trie), found)


@pytest.mark.parametrize("name", toys.NAMES)
def test_new_tokens_start_at_the_mean_of_the_texts_and_as_far_from_it(name: str, tmp_path: Path) -> None:
    policy = adopted(pretrained_folder(name, tmp_path))
    texts = len(text_tokenizer(name))
    tables = [policy.embeddings().detach(), policy.output()[0].detach()]
    assert torch.equal(*tables) == (name != "qwen3")
    for table in tables:
        mean, size = table[:texts].mean(dim=0), float((table[:texts] - table[:texts].mean(dim=0)).square().mean().sqrt())
        for start, centroid in zip(policy.tokenizer.level_start, toys.toy_centroids(), strict=True):
            image = torch.from_numpy(centroid) @ policy.dense.weight.detach().T
            expected = mean + image * (size / image.square().mean().sqrt())
            torch.testing.assert_close(table[start : start + len(centroid)], expected, rtol=1e-4, atol=1e-5)


def test_a_query_cannot_spell_a_pretrained_models_special_tokens(tmp_path: Path) -> None:
    tokenizer = adopted(pretrained_folder("gpt2", tmp_path)).tokenizer
    assert tokenizer.bos == tokenizer.eos != tokenizer.pad
    assert not {tokenizer.bos, tokenizer.sep, *tokenizer.level_start} & set(tokenizer.text("<|endoftext|><sep><a_0>", 50))


def test_a_folder_that_is_none_of_the_three_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"config\.json"):
        adopted(tmp_path)
    folder = pretrained_folder("gpt2", tmp_path / "gpt2")
    about = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(about | {"model_type": "t5"}))
    with pytest.raises(Incompatible, match=r"t5.*bart \| gpt2 \| qwen3|bart \| gpt2 \| qwen3.*t5"):
        adopted(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(Corrupt, match=r"config\.json"):
        adopted(folder)
    (folder / "config.json").write_text(json.dumps(about))
    torn = folder / "model.safetensors"
    torn.write_bytes(torn.read_bytes()[:500])
    with pytest.raises(Corrupt, match="gpt2"):
        adopted(folder)
    torn.unlink()
    with pytest.raises(Corrupt, match="model"):
        adopted(folder)
    adopted(folder_of(adopted(pretrained_folder("gpt2", tmp_path / "text")), tmp_path / "ours"))
    with pytest.raises(Incompatible, match=r"ours.*level sizes \(9, 3, 3, 2, 2\).*\(4, 3, 3, 2, 2\)"):
        settings = toys.toy_settings(pretrained=str(tmp_path / "ours" / "model"))
        new_policy(settings, (), (9, *toys.SIZES[1:]), "cb1", toys.WIDTH, 0, toys.toy_centroids())
    with pytest.raises(InvalidSetting, match="positions of the pretrained model"):
        adopted(pretrained_folder("gpt2", tmp_path / "short", n_positions=40))
    sliding = pretrained_folder("qwen3", tmp_path / "sliding", use_sliding_window=True, sliding_window=8)
    with pytest.raises(Incompatible, match="window"):
        adopted(sliding)


@pytest.mark.parametrize("changes", [{"scale_attn_by_inverse_layer_idx": True, "activation_function": "relu"},
                                     {"tie_word_embeddings": False, "n_inner": 20, "scale_attn_weights": False}])  # fmt: skip
def test_gpt2s_variants_agree_with_transformers(changes: dict[str, object], tmp_path: Path) -> None:
    policy = adopted(pretrained_folder("gpt2", tmp_path, **changes))
    prompts, sids_BGL = toys.toy_prompts(policy), rollouts_of(toys.toy_sids())
    slow = toys.slow_logprobs(policy, prompts, sids_BGL, toys.toy_sids().tolist())
    torch.testing.assert_close(policy.logprobs(prompts, sids_BGL, toys.toy_trie()), slow, rtol=1e-5, atol=1e-5)


def test_loading_a_policy_does_not_import_transformers(tmp_path: Path) -> None:
    """It would cost every process 300 MB and seconds."""
    for name in toys.NAMES:
        toys.toy_policy(name=name).save(tmp_path / name)
    code = "import sys; from trainers.policies import load_policy; [load_policy(f) for f in sys.argv[1:]]; sys.exit('transformers' in sys.modules)"
    folders = [str(tmp_path / name) for name in toys.NAMES]
    assert subprocess.run([sys.executable, "-c", code, *folders], check=False).returncode == 0
