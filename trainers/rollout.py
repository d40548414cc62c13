"""Rollouts: G identifiers per prompt, sampled level by level from the policy that is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.identifiers.trie import Trie
from trainers.policies.base import DecodeState, EncoderState, Policy, PromptBatch
from trainers.policies.restricted import TrieTables, check_levels, check_temperature, restricted_logp


@dataclass(frozen=True)
class Rollouts:
    """G samples for each of B prompts. ``logp_BGL`` is of exactly the distribution that was sampled."""

    sids_BGL: Tensor  #: int64 codes
    logp_BGL: Tensor  #: float32, without gradient
    entropy_BGL: Tensor  #: nats, of the distribution each code was drawn from
    leaf_BG: Tensor  #: int64, the trie's leaf of each identifier

    def distinct(self) -> Tensor:
        """How many different identifiers each prompt got: int64 [B]."""
        ordered = self.leaf_BG.sort(dim=1).values
        return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1)


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: PromptBatch | EncoderState,
    trie: Trie,
    rollouts: int,
    temperature: float = 1.0,
    generator: torch.Generator | None = None,
) -> Rollouts:
    """Draw G identifiers per prompt from softmax(logits / temperature) over the trie's allowed children (EQUATIONS 4).

    ``prompts`` may be an `EncoderState` that also serves the training pass. With the policy in training mode and dropout
    above 0 the recomputed log-probabilities differ: sample in evaluation mode.

    Raises:
        InvalidValue: ``rollouts`` below 1, a temperature that is not positive, or a trie of other level sizes.
    """
    if rollouts < 1:
        raise InvalidValue("rollouts per prompt", rollouts, "at least 1", "set it higher")
    check_temperature(temperature)
    check_levels(policy.tokenizer.level_sizes, trie)
    encoder = prompts if isinstance(prompts, EncoderState) else policy.encode(prompts)
    tables = TrieTables.of(trie, encoder.bias_B11S.device)
    nodes_BG = torch.zeros(len(encoder), rollouts, dtype=torch.int64, device=tables.device)
    hidden_BRD, state = policy.advance(DecodeState(encoder, 0), None)
    codes: list[Tensor] = []
    logps: list[Tensor] = []
    entropies: list[Tensor] = []
    for level in range(trie.levels):
        if level:
            hidden_BRD, state = policy.advance(state, codes[-1])
        logits_BRK = policy.level_logits(level, hidden_BRD)
        logp_BRK = restricted_logp(logits_BRK, tables.bias(level, nodes_BG[:, : logits_BRK.shape[1]]), temperature)
        prob_BRK = logp_BRK.exp()
        entropy_BR = -(prob_BRK * logp_BRK.clamp_min(torch.finfo(logp_BRK.dtype).min)).sum(dim=-1)
        if level == 0:  # the first level is one distribution a prompt
            code_BG = torch.multinomial(prob_BRK[:, 0], rollouts, replacement=True, generator=generator)
            logp_BRK = logp_BRK.expand(-1, rollouts, -1)
            state = state.select(torch.zeros_like(code_BG))
        else:
            code_BG = torch.multinomial(prob_BRK.flatten(0, 1), 1, generator=generator).view(nodes_BG.shape)
        nodes_BG = tables.child(level, nodes_BG, code_BG)
        codes.append(code_BG)
        logps.append(logp_BRK.gather(-1, code_BG[..., None])[..., 0])
        entropies.append(entropy_BR.expand(-1, rollouts))
    return Rollouts(torch.stack(codes, dim=-1), torch.stack(logps, dim=-1), torch.stack(entropies, dim=-1), nodes_BG)
