"""A toy catalogue, policy and prompts, and the slow readings of the same mathematics that the fast ones are held against."""

from __future__ import annotations

import itertools
import tempfile
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.identifiers.trie import Trie
from trainers.policies.backbones import BACKBONES, backbone
from trainers.policies.base import Cache, DecodeState, PromptBatch, PromptContext
from trainers.policies.levels import LevelPolicy
from trainers.policies.prompts import PromptBuilder
from trainers.policies.settings import PolicySettings
from trainers.policies.steps import Step
from trainers.policies.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedModel

NAMES = tuple(BACKBONES)  #: what every list of checks runs over
SIZES = (4, 3, 3, 2, 2)
WIDTH = 8  # of the toy sentence embedding
COLOURS = ("red", "blue", "green", "black")
THINGS = ("lamp", "chair", "rug")
TEXTS = [f"{colour} {thing} number {n}" for n, (colour, thing) in enumerate(itertools.product(COLOURS, THINGS))] * 3


class HashEncoder:
    """Unit rows from the text's checksum; counts how many texts it was asked for."""

    def __init__(self) -> None:
        self.texts = 0

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        self.texts += len(texts)
        rows = [np.random.default_rng(zlib.crc32(text.encode())).normal(size=WIDTH) for text in texts]
        return np.stack([row / np.linalg.norm(row) for row in rows]).astype(np.float32)


def query_sids(texts: Sequence[str], emb_NE: NDArray[np.float32]) -> NDArray[np.int64]:
    """Identifiers of queries, from the checksum again."""
    return np.array([[zlib.crc32(f"{text}{level}".encode()) % k for level, k in enumerate(SIZES)] for text in texts])


def toy_settings(**changes: object) -> PolicySettings:
    """Small, with weights large enough that distributions are far from even."""
    base: dict[str, object] = {"text_vocabulary": 320, "d_model": 32, "ffn": 48, "heads": 4, "init_std": 0.25}
    return PolicySettings.model_validate(base | changes)


def toy_tokenizer() -> PromptTokenizer:
    return PromptTokenizer.train(TEXTS, SIZES, 320)


def toy_policy(seed: int = 3, name: str = "bart", **changes: object) -> LevelPolicy:
    """Two heads of Qwen3 share one of keys and values."""
    settings = toy_settings(**{"backbone": name, "kv_heads": 2 if name == "qwen3" else 0} | changes)
    return backbone(name, "toy").create(settings, toy_tokenizer(), "cb1", WIDTH, seed)


def toy_centroids() -> list[NDArray[np.float32]]:
    """Per level [K, E]."""
    rng = np.random.default_rng(4)
    return [rng.normal(size=(size, WIDTH)).astype(np.float32) for size in SIZES]


def toy_builder(policy: LevelPolicy, sids: dict[str, Sequence[int]] | None = None) -> PromptBuilder:
    known = sids if sids is not None else {"i1": (1, 2, 0, 1, 0), "i2": (3, 0, 2, 0, 1)}
    settings = policy.settings.prompt
    return PromptBuilder(policy.tokenizer, query_sids, HashEncoder(), known.get, settings, toy_centroids())


def toy_prompts(policy: LevelPolicy) -> PromptBatch:
    """Three prompts of different lengths."""
    return toy_builder(policy).build(
        [
            PromptContext("red lamp"),
            PromptContext("blue chair number 4", ("green rug",), ("i1", "i2"), ("i1",)),
            PromptContext("rug", ("red lamp", "black lamp"), ("i2",)),
        ]
    )


def toy_sids(seed: int = 0, items: int = 24) -> NDArray[np.int64]:
    rng = np.random.default_rng(seed)
    return np.stack([rng.integers(0, k, items) for k in SIZES], axis=1)


def toy_trie(seed: int = 0, items: int = 24) -> Trie:
    return Trie.build(toy_sids(seed, items), SIZES)


def children(sids: Sequence[Sequence[int]], prefix: Sequence[int]) -> list[int]:
    """Codes that follow a prefix in the catalogue, by looking at every identifier."""
    return sorted({int(sid[len(prefix)]) for sid in sids if list(sid[: len(prefix)]) == list(prefix)})


def transformers_twin(policy: LevelPolicy) -> PreTrainedModel:
    """transformers' own model with this policy's weights. Imported here: a learner process of the tests has no use for it,
    and would start seconds later."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

    with tempfile.TemporaryDirectory() as folder:
        policy.model.shape.save(Path(folder))
        config = AutoConfig.from_pretrained(folder)
    twin = (AutoModelForSeq2SeqLM if policy.backbone == "bart" else AutoModelForCausalLM).from_config(config)
    report = twin.load_state_dict(policy.model.state_dict(), strict=False)
    assert set(report.missing_keys) <= set(policy.model.repeated)
    assert not report.unexpected_keys
    return twin.to(policy.dense.weight.dtype).train(policy.training)


def twin_inputs(twin: PreTrainedModel, policy: LevelPolicy, prompts: PromptBatch) -> dict[str, Tensor]:
    """The prompts as transformers' ``generate`` reads them, embedded and with their slots.

    A decoder-only model goes on from the last place, so its prompts end with the start token and are padded on the left.
    """
    rows, bos = [], torch.tensor([policy.tokenizer.bos])
    for row in range(len(prompts)):
        alone = prompts.rows(torch.tensor([row]))
        embedded_SD = twin.get_input_embeddings()(alone.tokens_BS[0]) + toy_slots(policy, alone)[0]
        rows.append(embedded_SD if policy.backbone == "bart" else torch.cat([embedded_SD, twin.get_input_embeddings()(bos)]))
    width = max(map(len, rows))
    sides = [(0, width - len(row)) if policy.backbone == "bart" else (width - len(row), 0) for row in rows]
    pad = torch.nn.functional.pad
    return {
        "inputs_embeds": torch.stack([pad(row, (0, 0, *side)) for row, side in zip(rows, sides, strict=True)]),
        "attention_mask": torch.stack(
            [pad(torch.ones(len(row), dtype=torch.int64), side) for row, side in zip(rows, sides, strict=True)]
        ),
    }


def full_logits(policy: LevelPolicy, prompts: PromptBatch, sids_BGL: Tensor, twin: PreTrainedModel | None = None) -> Tensor:
    """logits_BGLV by transformers' own forward: every rollout its own row without padding, prompt and all, the whole
    vocabulary. The logits of level l stand at the token before its code."""
    twin = twin or transformers_twin(policy)
    levels = sids_BGL.shape[2]
    table, start = twin.get_input_embeddings(), torch.tensor(policy.tokenizer.level_start)
    found = []
    for row, sids_GL in enumerate(sids_BGL):
        alone = prompts.rows(torch.tensor([row]))
        embedded_GSD = (table(alone.tokens_BS) + toy_slots(policy, alone)).expand(len(sids_GL), -1, -1)
        tokens_GL = torch.cat([torch.full((len(sids_GL), 1), policy.tokenizer.bos), (sids_GL + start)[:, :-1]], dim=1)
        if policy.backbone == "bart":
            found.append(twin(inputs_embeds=embedded_GSD, decoder_input_ids=tokens_GL, use_cache=False).logits)
        else:
            whole = torch.cat([embedded_GSD, table(tokens_GL)], dim=1)
            found.append(twin(inputs_embeds=whole, use_cache=False).logits[:, -levels:])
    return torch.stack(found)


def toy_slots(policy: LevelPolicy, prompts: PromptBatch) -> Tensor:
    """[1, S, D]: what vectors add to one prompt's embeddings, slot by slot."""
    slots = [prompts.dense_BE[0].to(policy.dense.weight.dtype) @ policy.dense.weight.T]
    if prompts.history_BJE is not None:
        for kind, vector in enumerate(prompts.history_BJE[0].to(policy.dense.weight.dtype)):
            slots.append(policy.dense.history[kind] @ vector)
    rest = [torch.zeros_like(slots[0])] * (prompts.tokens_BS.shape[1] - len(slots))
    return torch.stack(slots + rest)[None]


def slow_logprobs(
    policy: LevelPolicy,
    prompts: PromptBatch,
    sids_BGL: Tensor,
    catalogue: Sequence[Sequence[int]],
    temperature: float = 1.0,
    twin: PreTrainedModel | None = None,
) -> Tensor:
    """logp_BGL: whole-vocabulary logits, cut to the allowed children one by one, normalised there."""
    logits_BGLV = full_logits(policy, prompts, sids_BGL, twin) / temperature
    result = []
    for logits_GLV, sids_GL in zip(logits_BGLV, sids_BGL.tolist(), strict=True):
        for logits_LV, sid in zip(logits_GLV, sids_GL, strict=True):
            for level, code in enumerate(sid):
                start = policy.tokenizer.level_start[level]
                allowed = [start + child for child in children(catalogue, sid[:level])]
                result.append(logits_LV[level, start + code] - logits_LV[level, allowed].logsumexp(dim=0))
    return torch.stack(result).view(sids_BGL.shape)


def enumerate_scores(policy: LevelPolicy, prompts: PromptBatch, catalogue: Sequence[Sequence[int]]) -> Tensor:
    """score_BN: log-probability of every distinct identifier of the catalogue (in sorted order), by the slow reading."""
    distinct = sorted({tuple(int(c) for c in sid) for sid in catalogue})
    sids_BNL = torch.tensor(distinct).expand(len(prompts), -1, -1)
    return slow_logprobs(policy, prompts, sids_BNL, distinct).sum(dim=-1)


def decoder_rows(policy: LevelPolicy) -> Counter[int]:
    """By depth: rows of all prompts that the decoder sees from now on, whatever pass they are in."""
    rows, taken = Counter[int](), policy.step

    def counted(state: DecodeState, step: Step) -> tuple[Tensor, list[list[Cache]]]:
        rows.update(step.depth_P.tolist())
        return taken(state, step)

    policy.step = counted  # type: ignore[method-assign]
    return rows


def open_prefixes(trie: Trie) -> list[int]:
    """By depth: prefixes with more than one identifier below them."""
    catalogue = {tuple(sid) for sid in trie.sids_NL.tolist()}
    found = []
    for depth in range(trie.levels):
        prefixes = [sid[:depth] for sid in catalogue]
        found.append(len({prefix for prefix in prefixes if prefixes.count(prefix) > 1}))
    return found
