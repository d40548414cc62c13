"""Down the trie level by level, with one decoder row for each row of a `trainers.frontier.Frontier`.

Where few open prefixes lie one code below a pass's rows, they are decoded in the same pass, before it is known which of them anyone
goes to: a pass over few rows takes as long as reading the weights does. That changes no probability. Letters as in
`trainers.frontier`; X is the most open prefixes one code below, of any prompt, C children of a prefix.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from trainers.frontier import Frontier, filled
from trainers.policies.base import Ahead, DecodeState, Policy
from trainers.policies.packing import Ragged
from trainers.policies.restricted import TrieTables, restricted_logp

#: Open prefixes of all prompts, one code below a pass's rows, up to which they are decoded with them: so many rows more take no longer
#: than the pass that they save, which has to read every weight again.
FEW_AHEAD = 64
#: Identifiers below a pass's rows up to which it is looked how many open prefixes there are.
FEW_BELOW = 32 * FEW_AHEAD


class Below(NamedTuple):
    """The open prefixes one code below a frontier's rows."""

    ahead: Ahead
    node_BX: Tensor  #: ascending; behind every node in the gaps
    last_B1: Tensor  #: the last row of each prompt that is there; 0 where none is

    @classmethod
    def few(cls, tables: TrieTables, level: int, now: Frontier, nodes_BG: Tensor) -> Below | None:
        """Of a frontier at depth ``level``; None: there are none, or many."""
        if level + 1 == len(tables.level_sizes) or now.count_B is None:
            return None
        node_BR = nodes_BG.gather(1, now.leader_BR)
        there_BR = torch.arange(now.width, device=node_BR.device) < now.count_B[:, None]
        if int((tables.leaves(level, node_BR) * there_BR).sum()) > FEW_BELOW:
            return None
        children = tables.children(level, node_BR)
        open_BRC = children.there & there_BR[..., None] & (tables.leaves(level + 1, children.node) > 1)
        count_B = open_BRC.sum(dim=(1, 2))
        if not 0 < int(count_B.sum()) <= FEW_AHEAD:
            return None
        # What is not open sorts behind.
        width, behind = int(count_B.max()), tables.level_nodes(level + 1)
        node_BX, order_BX = (part[:, :width] for part in torch.where(open_BRC, children.node, behind).flatten(1).sort(dim=1))
        # What fills a gap continues some row that is there.
        row_BX = torch.where(node_BX < behind, order_BX // open_BRC.shape[2], 0)
        there_BX = torch.arange(width, device=node_BR.device) < filled(count_B, width)[:, None]
        ahead = Ahead(row_BX, children.code.flatten(1).gather(1, order_BX), Ragged.of(there_BX))
        return cls(ahead, node_BX.contiguous(), (count_B - 1).clamp_min_(0)[:, None])

    def rows(self, nodes_BG: Tensor) -> Tensor:
        """row_BG, of X, of each rollout that has come to these nodes; of one that is not open, which may fill a gap later, some row that
        is there."""
        return torch.searchsorted(self.node_BX, nodes_BG.contiguous()).clamp_(max=self.last_B1)


class Descent:
    """Walks G prefixes per prompt. ``tables``: of the trie in which its frontiers know what is open, None where they do not."""

    def __init__(self, policy: Policy, state: DecodeState, tables: TrieTables | None) -> None:
        self._policy, self._state, self._tables = policy, state, tables
        self._row_BG: Tensor | None = None
        #: What is decoded ahead, with hidden_BXD and the state then.
        self._seen: tuple[Below, Tensor, DecodeState] | None = None

    def hidden(
        self, level: int, now: Frontier, nodes_BG: Tensor, code_BG: Tensor | None, parent_BG: Tensor | None = None
    ) -> Tensor:
        """hidden_BRD of the frontier's rows, which predicts ``level``.

        ``nodes_BG``: where the prefixes are; ``code_BG``: the code that led to each, None at the root; ``parent_BG``: which prefix of
        the level before it continues, if not its own position.
        """
        if self._seen is not None:
            below, hidden_BXD, self._state = self._seen
            self._seen, self._row_BG = None, below.rows(nodes_BG)
            row_BR = self._row_BG.gather(1, now.leader_BR)
            return hidden_BXD.gather(1, row_BR[..., None].expand(-1, -1, hidden_BXD.shape[-1]))
        state, code_BR = self._state, None
        if self._row_BG is not None and code_BG is not None:
            row_BG = self._row_BG if parent_BG is None else self._row_BG.gather(1, parent_BG)
            state, code_BR = state.select(row_BG.gather(1, now.leader_BR), now.rows), code_BG.gather(1, now.leader_BR)
        self._row_BG = now.row_BG
        few = None if self._tables is None else Below.few(self._tables, level, now, nodes_BG)
        if few is None:
            hidden_BRD, self._state = self._policy.advance(state, code_BR)
        else:
            (hidden_BRD, self._state), further = self._policy.advance_twice(state, code_BR, few.ahead)
            self._seen = (few, *further)
        return hidden_BRD


class PolicyDescent(Descent):
    """A descent that tells the policy's distribution: renormalised over the trie, at a temperature."""

    def __init__(self, policy: Policy, state: DecodeState, tables: TrieTables, temperature: float) -> None:
        super().__init__(policy, state, tables)
        self._trie, self._temperature = tables, temperature

    def logp(self, level: int, now: Frontier, nodes_BG: Tensor, code_BG: Tensor, parent_BG: Tensor | None = None) -> Tensor:
        """logp_BRK of the frontier's rows over the allowed children (-inf elsewhere); codes and parents as in `hidden`."""
        logits_BRK = self._policy.level_logits(level, self.hidden(level, now, nodes_BG, code_BG, parent_BG))
        bias_BRK = self._trie.bias(level, nodes_BG.gather(1, now.leader_BR))
        return restricted_logp(logits_BRK, bias_BRK, self._temperature)
