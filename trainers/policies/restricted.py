"""The policy's distribution: a level's logits renormalised over the children that the catalogue's trie allows.

`TrieTables` is the trie as tensors. Where a level's mask table is small it is kept whole; beyond `TABLE_LIMIT` entries
the masks of the prefixes at hand are made when they are needed.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.identifiers.trie import Trie

#: Entries (nodes x codes) of a level up to which its mask table is kept: 16 MiB of float32.
TABLE_LIMIT = 1 << 22

_tables: weakref.WeakKeyDictionary[Trie, dict[torch.device, TrieTables]] = weakref.WeakKeyDictionary()


class TrieTables:
    """Masks and children of one trie on one device. Nodes are int64 tensors of any shape."""

    def __init__(self, trie: Trie, device: torch.device) -> None:
        # No reference to the trie: it is the weak key under which these tables are kept.
        self.device = device
        self.level_sizes = trie.level_sizes
        self.child_start = [torch.from_numpy(start).to(device) for start in trie.child_start]
        self.codes = [torch.from_numpy(codes.astype(np.int64)).to(device) for codes in trie.codes]
        # Children are numbered in the order of (parent, code), so these keys ascend and a child is found by bisection.
        self.keys = [
            torch.from_numpy(parents * size + codes).to(device)
            for parents, size, codes in zip(trie.parents, trie.level_sizes, trie.codes, strict=True)
        ]
        self._bias: list[Tensor | None] = [None] * trie.levels

    @classmethod
    def of(cls, trie: Trie, device: torch.device) -> TrieTables:
        """The tables of this trie, made once.

        Raises:
            InvalidValue: the trie is empty.
        """
        if trie.nodes(trie.levels) == 0:
            raise InvalidValue("identifiers in the trie", 0, "at least 1", "build it from a catalogue that has items")
        made = _tables.setdefault(trie, {})
        if device not in made:
            made[device] = cls(trie, device)
        return made[device]

    def bias(self, level: int, nodes: Tensor) -> Tensor:
        """[..., K]: 0 where a code may follow the node, -inf elsewhere; added to the level's logits."""
        if self.level_nodes(level) * self.level_sizes[level] > TABLE_LIMIT:
            return self._bias_of(level, nodes)
        table = self._bias[level]
        if table is None:
            table = self._bias_of(level, torch.arange(self.level_nodes(level), device=self.device))
            self._bias[level] = table
        return table[nodes]

    def child(self, level: int, nodes: Tensor, codes: Tensor) -> Tensor:
        """Nodes one level down.

        Raises:
            InvalidValue: a code that the trie does not have there.
        """
        at, found = self.find(level, nodes, codes)
        if not bool(found.all()):
            code, node = int(codes[~found][0]), int(nodes[~found][0])
            raise InvalidValue(
                f"code of level {level} after node {node}",
                code,
                "a child in the catalogue's trie",
                "use identifiers of the present catalogue and codebook",
            )
        return at

    def find(self, level: int, nodes: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
        """As `child`, without the error: (nodes, whether they exist); a node that does not is some other one."""
        keys, size = self.keys[level], self.level_sizes[level]
        wanted = nodes * size + codes
        at = torch.searchsorted(keys, wanted).clamp_(max=len(keys) - 1)
        return at, (keys[at] == wanted) & (codes >= 0) & (codes < size)

    def path(self, sids: Tensor) -> Tensor:
        """[..., L] identifiers to [..., L + 1] nodes, column d at depth d."""
        nodes = [torch.zeros_like(sids[..., 0])]
        for level in range(len(self.level_sizes)):
            nodes.append(self.child(level, nodes[-1], sids[..., level]))
        return torch.stack(nodes, dim=-1)

    def level_nodes(self, depth: int) -> int:
        """How many prefixes of this length there are."""
        return 1 if depth == 0 else len(self.keys[depth - 1])

    def _bias_of(self, level: int, nodes: Tensor) -> Tensor:
        flat = nodes.reshape(-1)
        distinct, inverse = torch.unique(flat, return_inverse=True)
        low, high = self.child_start[level][distinct], self.child_start[level][distinct + 1]
        count = high - low
        owner = torch.repeat_interleave(torch.arange(len(distinct), device=self.device), count)
        child = torch.arange(len(owner), device=self.device) + (low - (count.cumsum(0) - count))[owner]
        bias = torch.full((len(distinct), self.level_sizes[level]), -torch.inf, device=self.device)
        bias[owner, self.codes[level][child]] = 0.0
        return bias[inverse].reshape(*nodes.shape, -1)


def restricted_logp(logits: Tensor, bias: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) over the allowed codes: [..., K]; -inf on codes that are not allowed."""
    if temperature != 1.0:
        logits = logits / temperature
    return torch.log_softmax(logits + bias, dim=-1)


def check_temperature(temperature: float) -> None:
    """A tempered policy needs a positive temperature.

    Raises:
        InvalidValue: it is not positive and finite.
    """
    if not 0 < temperature < float("inf"):
        raise InvalidValue("temperature", temperature, "above 0 and finite", "use 1 for the policy itself")


def check_levels(policy_sizes: Sequence[int], trie: Trie) -> None:
    """The trie must be of the codebook the policy was made for.

    Raises:
        InvalidValue: level sizes differ.
    """
    if tuple(policy_sizes) != trie.level_sizes:
        raise InvalidValue(
            "the trie's level sizes", trie.level_sizes, f"{tuple(policy_sizes)}", "use the policy's own codebook"
        )
