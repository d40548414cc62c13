"""How often the model, left alone, writes an identifier of the catalogue: the unconstrained valid-SID rate."""

from __future__ import annotations

import numpy as np
import torch

from trainers.identifiers.trie import Trie
from trainers.policies.base import DecodeState, Policy, PromptBatch


@torch.inference_mode()
def valid_sid_rate(policy: Policy, prompts: PromptBatch, trie: Trie) -> float:
    """Share of B prompts whose greedy decode over the *whole* vocabulary is an identifier of the trie."""
    tokenizer = policy.tokenizer
    hidden_BRD, state = policy.advance(DecodeState(policy.encode(prompts), 0), None)
    valid_B = torch.ones(len(prompts), dtype=torch.bool)
    codes: list[torch.Tensor] = []
    for level, (start, size) in enumerate(zip(tokenizer.level_start, tokenizer.level_sizes, strict=True)):
        if level:
            hidden_BRD, state = policy.advance(state, codes[-1])
        token_B = policy.vocabulary_logits(hidden_BRD)[:, 0].argmax(dim=-1).cpu()
        valid_B &= (token_B >= start) & (token_B < start + size)
        # A row that left its level goes on from some code of it; it is not valid any more, whatever follows.
        codes.append((token_B - start).clamp(0, size - 1)[:, None])
    sids_BL = torch.cat(codes, dim=1).numpy()
    return float(np.mean(valid_B.numpy() & trie.contains(sids_BL)))
