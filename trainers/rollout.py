"""Rollouts: G identifiers per prompt, sampled level by level from the policy that is trained."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from schemas.errors import InvalidValue, NotFinite
from trainers.descent import PolicyDescent
from trainers.frontier import Frontier
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.policies.base import DecodeState, EncoderState, Policy, PromptBatch
from trainers.policies.restricted import TrieTables, check_levels, check_temperature


@dataclass(frozen=True)
class Rollouts:
    """G samples for each of B prompts. ``logp_BGL`` is of exactly the distribution that was sampled."""

    sids_BGL: Tensor  #: int64 codes
    logp_BGL: Tensor  #: float32, without gradient
    entropy_BGL: Tensor  #: nats, of the policy's distribution that each code is of
    leaf_BG: Tensor  #: int64, the trie's leaf of each identifier

    @property
    def weight_BG(self) -> Tensor | None:
        """How much each counts in its group's mean: None where all count the same, else they sum to 1."""
        return None

    def distinct(self) -> Tensor:
        """How many different identifiers each prompt got: int64 [B]."""
        ordered = self.leaf_BG.sort(dim=1).values
        return 1 + (ordered[:, 1:] != ordered[:, :-1]).sum(dim=1)


@dataclass(frozen=True)
class ReweightedRollouts(Rollouts):
    """Drawn from a flatter or a sharper policy than the one that is trained; ``logp_BGL`` is of the latter."""

    ratio_BG: Tensor  #: float64 nats: log (pi / q), of the policy's probability over that with which it was drawn

    @property
    def weight_BG(self) -> Tensor:
        """As `Rollouts.weight_BG`: pi / q, normalised in the group, which trades a bias that falls with G for less variance."""
        return self.ratio_BG.softmax(dim=1)


@torch.no_grad()
def sample(
    policy: Policy,
    prompts: PromptBatch | EncoderState,
    trie: Trie,
    rollouts: int,
    temperature: float = 1.0,
    noise: Noise | None = None,
    drawn_at: float = 1.0,
) -> Rollouts:
    """Draw G identifiers per prompt from softmax(logits / temperature) over the trie's allowed children.

    ``drawn_at``: they are drawn at this times the temperature in its place; if it is not 1 each counts by its ratio.
    ``prompts`` may be an `EncoderState` that also serves the training pass. With the policy in training mode and dropout
    above 0 the recomputed log-probabilities differ: sample in evaluation mode. ``noise``: None draws what never comes again.

    Raises:
        InvalidValue: ``rollouts`` below 1, a temperature that is not positive, a trie of other level sizes, or noise for
            another number of prompts.
        NotFinite: the policy's probabilities.
    """
    if rollouts < 1:
        raise InvalidValue("rollouts per prompt", rollouts, "at least 1", "set it higher")
    check_temperature(temperature)
    check_temperature(drawn_at)
    check_levels(policy.tokenizer.level_sizes, trie)
    encoder = prompts if isinstance(prompts, EncoderState) else policy.encode(prompts)
    tables = TrieTables.of(trie, encoder.bias_B11S.device)
    uniform_BGL = Noise.of(noise, len(encoder)).uniform(rollouts, trie.levels).to(tables.device)
    nodes_BG = torch.zeros(len(encoder), rollouts, dtype=torch.int64, device=tables.device)
    sids_BGL = nodes_BG.new_zeros(*nodes_BG.shape, trie.levels)
    logp_BGL = torch.zeros(sids_BGL.shape, device=tables.device)
    entropy_BGL = torch.zeros_like(logp_BGL)
    ratio_BG = torch.zeros(nodes_BG.shape, dtype=torch.float64, device=tables.device)
    descent = PolicyDescent(policy, DecodeState(encoder, 0), tables, temperature)
    for level in range(trie.levels):
        now = Frontier.of(tables, level, nodes_BG)
        child_BG, code_BG = tables.first_child(level, nodes_BG)
        if now.width:
            logp_BRK = descent.logp(level, now, nodes_BG, sids_BGL[..., level - 1])
            prompt_P, at_P = now.open_BG.nonzero(as_tuple=True)
            row_P = now.row_BG[prompt_P, at_P]
            drawn_BRK = logp_BRK if drawn_at == 1 else (logp_BRK / drawn_at).log_softmax(dim=-1)
            code_P = _chosen(drawn_BRK, prompt_P, row_P, uniform_BGL[prompt_P, at_P, level])
            code_BG[prompt_P, at_P] = code_P
            child_BG[prompt_P, at_P] = tables.child(level, nodes_BG[prompt_P, at_P], code_P)
            logp_P = logp_BRK[prompt_P, row_P, code_P].float()
            logp_BGL[prompt_P, at_P, level] = logp_P
            ratio_BG[prompt_P, at_P] += logp_P - drawn_BRK[prompt_P, row_P, code_P].float()
            entropy_BGL[prompt_P, at_P, level] = entropy(logp_BRK).float()[prompt_P, row_P]
        sids_BGL[..., level], nodes_BG = code_BG, child_BG
    if drawn_at == 1:
        return Rollouts(sids_BGL, logp_BGL, entropy_BGL, nodes_BG)
    return ReweightedRollouts(sids_BGL, logp_BGL, entropy_BGL, nodes_BG, ratio_BG)


def _chosen(logp_BRK: Tensor, prompt_P: Tensor, row_P: Tensor, uniform_P: Tensor) -> Tensor:
    """code_P by the inverse of the distribution function: the first code at which it reaches ``uniform_P`` of the whole.

    The sums are float64: in float32 the last codes of a long level would lose digits.
    """
    sum_PK = logp_BRK.exp().cumsum(dim=-1, dtype=torch.float64)[prompt_P, row_P]
    whole_P = sum_PK[:, -1]
    check_finite(whole_P)
    return torch.searchsorted(sum_PK, (uniform_P * whole_P)[:, None])[:, 0]


def check_finite(probability: Tensor) -> None:
    """Raises NotFinite: a probability is NaN or infinite."""
    if not bool(torch.isfinite(probability).all()):
        raise NotFinite("a probability of the policy is not finite", "lower the learning rate, or resume from a checkpoint")


def entropy(logp: Tensor) -> Tensor:
    """Nats, over the last axis; log-probabilities of -inf count 0."""
    return -(logp.exp() * logp.clamp_min(torch.finfo(logp.dtype).min)).sum(dim=-1)
