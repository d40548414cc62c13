"""Which rows of a group the decoder has to see at a level: distinct prefixes that still have a choice to make.

A hidden state depends on the prefix alone, so the rollouts (or beams) of a prompt that agree so far share one row. And where only one
identifier of the catalogue lies below a prefix, the rest of it is certain: its codes follow from the trie, each with
probability 1, and no row is needed at all. Neither changes the distribution. Letters as in `trainers.policies.base`; R is
the most distinct open prefixes of any prompt.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainers.policies.base import DecodeState, Policy
from trainers.policies.packing import Ragged
from trainers.policies.restricted import TrieTables, restricted_logp

#: Decoder rows come in multiples of this, as far as there are gaps to fill.
TOGETHER = 16


class Frontier(NamedTuple):
    """R rows per prompt; a prompt with fewer open prefixes has gaps behind them, which name some rollout and nobody reads.

    A few gaps are filled all the same, up to a multiple of `TOGETHER` rows of all prompts: oneDNN prepares (a millisecond)
    and keeps something for every number of rows it meets.
    """

    leader_BR: Tensor  #: which rollout of the prompt stands for the row
    row_BG: Tensor  #: the row of every open rollout; of others any row
    open_BG: Tensor  #: bool: more than one identifier lies below the rollout's prefix
    rows: Ragged | None = None  #: where among [B, R] there is a row; None: everywhere

    @classmethod
    def of(cls, tables: TrieTables, depth: int, nodes_BG: Tensor, alive_BG: Tensor | None = None) -> Frontier:
        """Of rollouts that stand at these nodes of ``depth``; those that are not ``alive_BG`` are left out."""
        open_BG = tables.leaves(depth, nodes_BG) > 1
        if alive_BG is not None:
            open_BG &= alive_BG
        # Closed rollouts sort behind every node, and so never begin a row.
        behind = tables.level_nodes(depth)
        key_BG, order_BG = torch.where(open_BG, nodes_BG, behind).sort(dim=1, stable=True)
        begins_BG = key_BG < behind
        begins_BG[:, 1:] &= key_BG[:, 1:] != key_BG[:, :-1]
        rank_BG = (begins_BG.cumsum(dim=1) - 1).clamp_min_(0)
        prompt_P, at_P = begins_BG.nonzero(as_tuple=True)
        count_B = begins_BG.sum(dim=1)
        leader_BR = nodes_BG.new_zeros(len(nodes_BG), int(count_B.max()))
        leader_BR[prompt_P, rank_BG[prompt_P, at_P]] = order_BG[prompt_P, at_P]
        there_BR = torch.arange(leader_BR.shape[1], device=nodes_BG.device) < _rounded(count_B, leader_BR.shape[1])[:, None]
        row_BG = torch.empty_like(rank_BG).scatter_(1, order_BG, rank_BG)
        return cls(leader_BR, row_BG, open_BG, Ragged.of(there_BR))

    @classmethod
    def whole(cls, nodes_BG: Tensor) -> Frontier:
        """Every rollout in a row of its own: where probabilities are not the catalogue's, nothing is certain."""
        row_BG = torch.arange(nodes_BG.shape[1], device=nodes_BG.device).expand(nodes_BG.shape)
        return cls(row_BG, row_BG, torch.ones_like(nodes_BG, dtype=torch.bool))

    @property
    def width(self) -> int:
        """R; 0 where everything is certain."""
        return self.leader_BR.shape[1]


def _rounded(count_B: Tensor, width: int) -> Tensor:
    """Rows per prompt, up to ``width``, once gaps are filled; prompts without a row keep none: theirs would continue nothing."""
    room_B = torch.where(count_B > 0, width - count_B, 0)
    spare = -count_B.sum() % TOGETHER
    before_B = room_B.cumsum(dim=0) - room_B
    return count_B + torch.minimum((spare - before_B).clamp_min(0), room_B)


class Descent:
    """Walks G prefixes per prompt down the trie, level by level, with one decoder row for each `Frontier` row."""

    def __init__(self, policy: Policy, state: DecodeState) -> None:
        self._policy, self._state = policy, state
        self._row_BG: Tensor | None = None

    def hidden(self, now: Frontier, code_BG: Tensor | None, parent_BG: Tensor | None = None) -> Tensor:
        """hidden_BRD of the frontier's rows, which predicts the level at hand.

        ``code_BG``: the code that led to each prefix, None at the root; ``parent_BG``: which prefix of the level before it
        continues, if not its own position.
        """
        if self._row_BG is None or code_BG is None:
            hidden_BRD, self._state = self._policy.advance(self._state, None)
        else:
            row_BG = self._row_BG if parent_BG is None else self._row_BG.gather(1, parent_BG)
            state = self._state.select(row_BG.gather(1, now.leader_BR), now.rows)
            hidden_BRD, self._state = self._policy.advance(state, code_BG.gather(1, now.leader_BR))
        self._row_BG = now.row_BG
        return hidden_BRD


class PolicyDescent(Descent):
    """A descent that tells the policy's distribution: renormalised over the trie, at a temperature."""

    def __init__(self, policy: Policy, tables: TrieTables, state: DecodeState, temperature: float) -> None:
        super().__init__(policy, state)
        self._tables, self._temperature = tables, temperature

    def logp(self, level: int, now: Frontier, nodes_BG: Tensor, code_BG: Tensor, parent_BG: Tensor | None = None) -> Tensor:
        """logp_BRK of the frontier's rows over the allowed children (-inf elsewhere); codes and parents as in `hidden`."""
        logits_BRK = self._policy.level_logits(level, self.hidden(now, code_BG, parent_BG))
        bias_BRK = self._tables.bias(level, nodes_BG.gather(1, now.leader_BR))
        return restricted_logp(logits_BRK, bias_BRK, self._temperature)
