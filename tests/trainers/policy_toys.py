"""A toy catalogue, policy and prompts, and the slow readings of the same mathematics that the fast ones are held against."""

from __future__ import annotations

import itertools
import tempfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainers.identifiers.trie import Trie
from trainers.policies.bart import BartPolicy
from trainers.policies.bart_modules import TIED
from trainers.policies.base import PromptBatch, PromptContext
from trainers.policies.prompts import PromptBuilder
from trainers.policies.settings import PolicySettings, PromptSettings
from trainers.policies.tokenizer import PromptTokenizer

if TYPE_CHECKING:
    from transformers.models.bart.modeling_bart import BartForConditionalGeneration

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


def toy_policy(seed: int = 3, **changes: object) -> BartPolicy:
    return BartPolicy.create(toy_settings(**changes), toy_tokenizer(), "cb1", WIDTH, seed)


def toy_builder(policy: BartPolicy, sids: dict[str, Sequence[int]] | None = None) -> PromptBuilder:
    known = sids if sids is not None else {"i1": (1, 2, 0, 1, 0), "i2": (3, 0, 2, 0, 1)}
    return PromptBuilder(policy.tokenizer, query_sids, HashEncoder(), known.get, PromptSettings())


def toy_prompts(policy: BartPolicy) -> PromptBatch:
    """Three prompts of different lengths."""
    return toy_builder(policy).build(
        [
            PromptContext("red lamp"),
            PromptContext("blue chair number 4", ("green rug",), ("i1", "i2")),
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


def transformers_twin(policy: BartPolicy) -> BartForConditionalGeneration:
    """transformers' own model with this policy's weights. Imported here: a learner process of the tests has no use for it,
    and would start seconds later."""
    from transformers.models.bart.configuration_bart import BartConfig
    from transformers.models.bart.modeling_bart import BartForConditionalGeneration

    with tempfile.TemporaryDirectory() as folder:
        policy.model.shape.save(Path(folder))
        twin = BartForConditionalGeneration(BartConfig.from_pretrained(folder))
    report = twin.load_state_dict(policy.model.state_dict(), strict=False)
    assert set(report.missing_keys) <= set(TIED)
    assert not report.unexpected_keys
    return twin.to(policy.dense.weight.dtype).train(policy.training)


def twin_inputs(twin: BartForConditionalGeneration, policy: BartPolicy, prompts: PromptBatch) -> dict[str, Tensor]:
    """The prompts as transformers' model reads them: embedded, with the dense query vector in its slot."""
    shared = twin.model.shared(prompts.tokens_BS)
    slot = torch.zeros_like(shared)
    slot[:, 0] = prompts.dense_BE.to(shared.dtype) @ policy.dense.weight.T
    return {"inputs_embeds": shared + slot, "attention_mask": prompts.mask_BS.long()}


def full_logits(
    policy: BartPolicy, prompts: PromptBatch, sids_BGL: Tensor, twin: BartForConditionalGeneration | None = None
) -> Tensor:
    """logits_BGLV by transformers' own forward: every rollout its own row, encoder and all, the whole vocabulary."""
    twin = twin or transformers_twin(policy)
    rows, per_prompt, levels = sids_BGL.shape
    inputs = twin_inputs(twin, policy, prompts)
    start = torch.tensor(policy.tokenizer.level_start)
    given = (sids_BGL + start).reshape(rows * per_prompt, levels)[:, :-1]
    bos = torch.full((len(given), 1), policy.tokenizer.bos)
    out = twin(
        **{name: value.repeat_interleave(per_prompt, dim=0) for name, value in inputs.items()},
        decoder_input_ids=torch.cat([bos, given], dim=1),
        use_cache=False,
    )
    return out.logits.view(rows, per_prompt, levels, -1)


def slow_logprobs(
    policy: BartPolicy,
    prompts: PromptBatch,
    sids_BGL: Tensor,
    catalogue: Sequence[Sequence[int]],
    temperature: float = 1.0,
    twin: BartForConditionalGeneration | None = None,
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


def enumerate_scores(policy: BartPolicy, prompts: PromptBatch, catalogue: Sequence[Sequence[int]]) -> Tensor:
    """score_BN: log-probability of every distinct identifier of the catalogue (in sorted order), by the slow reading."""
    distinct = sorted({tuple(int(c) for c in sid) for sid in catalogue})
    sids_BNL = torch.tensor(distinct).expand(len(prompts), -1, -1)
    return slow_logprobs(policy, prompts, sids_BNL, distinct).sum(dim=-1)
