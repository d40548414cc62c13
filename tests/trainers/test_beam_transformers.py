"""Over the whole vocabulary the search gives what transformers' `generate` gives under `prefix_allowed_tokens_fn`.

Every backbone is one line of `BACKBONES`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch

from tests.trainers import policy_toys as toys
from trainers.beam import beam_search
from trainers.identifiers.trie import Trie
from trainers.policies.base import PromptBatch

torch.set_num_threads(1)


@dataclass(frozen=True)
class Backbone:
    """How to make a policy, and how transformers' own model reads the same prompts."""

    policy: Callable[[], Any]
    twin: Callable[[Any], Any]  #: policy -> the same weights in transformers' model
    inputs: Callable[[Any, Any, PromptBatch], dict[str, torch.Tensor]]  #: twin, policy, prompts -> what `generate` reads


BACKBONES = {
    "bart": Backbone(toys.toy_policy, toys.transformers_twin, toys.twin_inputs),
    "gpt2": Backbone(partial(toys.toy_policy, name="gpt2"), toys.transformers_twin, toys.twin_inputs),
    "qwen3": Backbone(partial(toys.toy_policy, name="qwen3"), toys.transformers_twin, toys.twin_inputs),
}


@pytest.mark.parametrize("width", [10, 64, 512])
@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
def test_scored_over_the_vocabulary_it_is_transformers_beam_search(backbone: Backbone, width: int) -> None:
    """The same top ``width`` of each prompt, with scores to 1e-4; 512 is more than there are identifiers."""
    policy = backbone.policy()
    prompts, sids = toys.toy_prompts(policy), toys.toy_sids(items=120)
    ours = beam_search(policy, prompts, Trie.build(sids, toys.SIZES), width, scoring="vocabulary")
    theirs = generated(backbone, policy, prompts, sids.tolist(), width)
    existing = len({tuple(sid) for sid in sids.tolist()})
    for row in range(len(prompts)):
        valid = ours.valid_BW[row]
        scores = ours.score_BW[row][valid].tolist()
        assert len(scores) == len(theirs[row]) == min(width, existing)
        assert scores == pytest.approx([score for score, _ in theirs[row]], abs=1e-4)
        by_sid = dict(zip([tuple(sid) for sid in ours.sids_BWL[row][valid].tolist()], scores, strict=True))
        assert by_sid == pytest.approx({sid: score for score, sid in theirs[row]}, abs=1e-4)


def generated(
    backbone: Backbone, policy: Any, prompts: PromptBatch, sids: list[list[int]], width: int
) -> list[list[tuple[float, tuple[int, ...]]]]:
    """(score, identifier), best first, of every prompt."""
    from transformers.generation.configuration_utils import GenerationConfig

    tokenizer, levels = policy.tokenizer, len(toys.SIZES)
    twin = backbone.twin(policy)
    starts = np.array(tokenizer.level_start)
    allowed: dict[tuple[int, ...], set[int]] = {}
    for tokens in (np.array(sids) + starts).tolist():
        for level in range(levels):
            allowed.setdefault(tuple(tokens[:level]), set()).add(tokens[level])

    def follow(_: int, ids: torch.Tensor) -> list[int]:
        prefix = tuple(token for token in ids.tolist() if token >= starts[0])
        return sorted(allowed.get(prefix, {tokenizer.pad}))  # what left the trie carries a score of minus infinity

    config = GenerationConfig(
        num_beams=width, num_return_sequences=width, max_new_tokens=levels, length_penalty=0.0, do_sample=False,
        decoder_start_token_id=tokenizer.bos, bos_token_id=tokenizer.bos, pad_token_id=tokenizer.pad,
        return_dict_in_generate=True, output_scores=True,
    )  # fmt: skip
    twin.generation_config = config
    out = twin.generate(**backbone.inputs(twin, policy, prompts), generation_config=config, prefix_allowed_tokens_fn=follow)
    scores = out.sequences_scores.view(len(prompts), width).tolist()
    codes = (out.sequences[:, -levels:] - torch.tensor(starts)).view(len(prompts), width, levels).tolist()
    return [
        [(score, tuple(sid)) for score, sid in zip(*row, strict=True) if score > -1e8]
        for row in zip(scores, codes, strict=True)
    ]
