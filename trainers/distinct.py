"""Rollouts without replacement: stochastic beam search over the catalogue's trie (Kool, van Hoof and Welling 2019).

Every identifier gets the key log pi + Gumbel noise, and the G largest keys of a prompt are a sample without replacement,
in the order of Plackett-Luce. The keys are never all drawn: a prefix's key is the largest below it, so the search goes down
the trie with the largest keys alone and draws children's keys given their parent's. It is exact at every width.

Different from the paper: the root's key is drawn too, not fixed at 0. Fixing it leaves the order as it is but ties the
threshold to it, and then the inclusion probabilities below are wrong.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.descent import PolicyDescent
from trainers.frontier import Frontier
from trainers.identifiers.trie import Trie
from trainers.noise import Noise
from trainers.policies.base import DecodeState, EncoderState, Policy, PromptBatch
from trainers.policies.restricted import TrieTables, check_levels, check_temperature
from trainers.rollout import Rollouts, check_finite, entropy


@dataclass(frozen=True)
class DistinctRollouts(Rollouts):
    """G different identifiers per prompt, in the order drawn. Each counts pi / q, which `weight_BG` makes sum to 1."""

    key_BG: Tensor  #: float64, log pi + Gumbel noise, descending
    threshold_B: Tensor  #: float64, kappa: the largest key that is not among the G; -inf where none is left
    inclusion_BG: Tensor  #: float64 nats: log q, where q = P(key > kappa) = 1 - exp(-exp(log pi - kappa))

    @property
    def importance_BG(self) -> Tensor:
        """log (pi / q): the sum over a group of exp of it times f estimates the policy's mean of f without bias."""
        return self.logp_BGL.double().sum(dim=-1) - self.inclusion_BG

    @property
    def weight_BG(self) -> Tensor:
        """As `Rollouts.weight_BG`: pi / q, normalised in the group, which trades a bias that falls with G for less variance."""
        return self.importance_BG.softmax(dim=1)


@torch.no_grad()
def sample_distinct(
    policy: Policy,
    prompts: PromptBatch | EncoderState,
    trie: Trie,
    rollouts: int,
    temperature: float = 1.0,
    noise: Noise | None = None,
) -> DistinctRollouts:
    """Draw G different identifiers per prompt from the policy that `trainers.rollout.sample` draws from. ``noise``: as there.

    Raises:
        InvalidValue: ``rollouts`` below 1 or above the number of identifiers, a temperature that is not positive, or a
            trie of other level sizes.
        NotFinite: the policy's probabilities.
    """
    check_temperature(temperature)
    check_levels(policy.tokenizer.level_sizes, trie)
    encoder = prompts if isinstance(prompts, EncoderState) else policy.encode(prompts)
    tables = TrieTables.of(trie, encoder.bias_B11S.device)
    leaves = check_group(rollouts, trie, tables.device)
    width = min(rollouts + 1, leaves)  # one more, whose key is the threshold
    noise = Noise.of(noise, len(encoder))
    beams = _root(tables, noise)
    descent = PolicyDescent(policy, DecodeState(encoder, 0), tables, temperature)
    for level in range(trie.levels):
        beams = _grown(beams, level, width, tables, descent, noise)
    threshold_B = beams.key_BW[:, -1] if width > rollouts else beams.key_BW.new_full((len(encoder),), -torch.inf)
    logp_BGL = beams.logp_BWL[:, :rollouts]
    rate_BG = (logp_BGL.double().sum(dim=-1) - threshold_B[:, None]).exp()
    return DistinctRollouts(
        sids_BGL=beams.sids_BWL[:, :rollouts],
        logp_BGL=logp_BGL,
        entropy_BGL=beams.entropy_BWL[:, :rollouts],
        leaf_BG=beams.nodes_BW[:, :rollouts],
        key_BG=beams.key_BW[:, :rollouts],
        threshold_B=threshold_B,
        inclusion_BG=(-torch.expm1(-rate_BG)).log(),
    )


def check_group(rollouts: int, trie: Trie, device: torch.device | None = None) -> int:
    """How many identifiers there are to draw from, which have to be as many.

    Raises:
        InvalidValue: they are fewer.
    """
    tables = TrieTables.of(trie, device or torch.device("cpu"))
    leaves = int(tables.leaves(0, torch.tensor(trie.root, device=tables.device)))
    if not 1 <= rollouts <= leaves:
        bound = f"1 to {leaves}, the identifiers of the catalogue"
        raise InvalidValue("rollouts per prompt", rollouts, bound, "draw fewer (trainers.learner.group), or independently")
    return leaves


class _Beams(NamedTuple):
    """W prefixes of each prompt, the largest keys first; -inf beyond the last."""

    nodes_BW: Tensor
    key_BW: Tensor
    sids_BWL: Tensor
    logp_BWL: Tensor
    entropy_BWL: Tensor
    parent_BW: Tensor | None  #: position, one level up, of the prefix that each continues


def _root(tables: TrieTables, noise: Noise) -> _Beams:
    nodes_B1 = torch.zeros(len(noise), 1, dtype=torch.int64, device=tables.device)
    sids_B1L = nodes_B1.new_zeros(len(noise), 1, len(tables.level_sizes))
    logp_B1L = torch.zeros(sids_B1L.shape, device=tables.device)
    return _Beams(nodes_B1, noise.gumbel(1).to(tables.device), sids_B1L, logp_B1L, logp_B1L, None)


def _grown(beams: _Beams, level: int, width: int, tables: TrieTables, descent: PolicyDescent, noise: Noise) -> _Beams:
    """The ``width`` largest keys among the children, each child's drawn given that its parent's is the largest of them."""
    logp_BWK, entropy_BW = _children(beams, level, tables, descent)
    phi_BWK = beams.logp_BWL.double().sum(dim=-1)[..., None] + logp_BWK
    key_BWK = _below(phi_BWK + noise.gumbel(*phi_BWK.shape[1:]).to(tables.device), beams.key_BW[..., None])
    key_BX, at_BX = key_BWK.flatten(1).topk(min(width, key_BWK[0].numel()), dim=1)
    parent_BX, code_BX = at_BX // tables.level_sizes[level], at_BX % tables.level_sizes[level]
    child_BX, _ = tables.find(level, beams.nodes_BW.gather(1, parent_BX), code_BX)
    alive_BX = key_BX > -torch.inf
    nodes_BX, code_BX = torch.where(alive_BX, child_BX, 0), torch.where(alive_BX, code_BX, 0)
    at_BXL = parent_BX[..., None].expand(-1, -1, beams.sids_BWL.shape[-1])
    sids, logp, entropies = (t.gather(1, at_BXL) for t in (beams.sids_BWL, beams.logp_BWL, beams.entropy_BWL))
    sids[..., level] = code_BX
    logp[..., level] = logp_BWK.flatten(1).gather(1, at_BX)
    entropies[..., level] = entropy_BW.gather(1, parent_BX)
    return _Beams(nodes_BX, key_BX, sids, logp, entropies, parent_BX)


def _children(beams: _Beams, level: int, tables: TrieTables, descent: PolicyDescent) -> tuple[Tensor, Tensor]:
    """logp_BWK of each prefix's children, -inf elsewhere and below prefixes that are not there, and their entropy_BW."""
    alive_BW = beams.key_BW > -torch.inf
    now = Frontier.of(tables, level, beams.nodes_BW, alive_BW)
    logp_BWK = torch.full((*alive_BW.shape, tables.level_sizes[level]), -torch.inf, device=tables.device)
    certain_BW = alive_BW & ~now.open_BG
    _, code_BW = tables.first_child(level, beams.nodes_BW)
    logp_BWK[certain_BW] = logp_BWK[certain_BW].scatter(1, code_BW[certain_BW][:, None], 0.0)
    entropy_BW = torch.zeros(alive_BW.shape, device=tables.device)
    if now.width:
        logp_BRK = descent.logp(level, now, beams.nodes_BW, beams.sids_BWL[..., level - 1], beams.parent_BW).float()
        prompt_P, at_P = now.open_BG.nonzero(as_tuple=True)
        row_P = now.row_BG[prompt_P, at_P]
        logp_PK = logp_BRK[prompt_P, row_P]
        check_finite(logp_PK.exp())  # a key that is not a number would pass for a prefix that is not there
        logp_BWK[prompt_P, at_P] = logp_PK
        entropy_BW[prompt_P, at_P] = entropy(logp_BRK)[prompt_P, row_P]
    return logp_BWK, entropy_BW


def _below(key_BWK: Tensor, top_BW1: Tensor) -> Tensor:
    """Gumbel keys given that the largest of each row is ``top``: -log(exp(-top) - exp(-largest) + exp(-key)), stably.

    The paper's appendix B.3; a largest key becomes ``top`` exactly, and -inf stays.
    """
    gap_BWK = key_BWK - key_BWK.amax(dim=-1, keepdim=True)
    v_BWK = top_BW1 - key_BWK + torch.log(-torch.expm1(gap_BWK))
    moved_BWK = top_BW1 - v_BWK.clamp_min(0) - torch.log1p(torch.exp(-v_BWK.abs()))
    return torch.where(key_BWK > -torch.inf, torch.where(gap_BWK == 0, top_BW1, moved_BWK), -torch.inf)
