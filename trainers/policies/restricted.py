"""The policy's distribution: a level's logits renormalised over the children that the catalogue's trie allows.

`TrieTables` is the trie as tensors. Where a level's mask table is small it is kept whole; beyond `TABLE_LIMIT` entries
the masks of the prefixes at hand are made when they are needed. Whoever needs the allowed codes alone asks for `children`.
"""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from schemas.errors import InvalidValue
from trainers.identifiers.trie import Trie

#: Entries (nodes x codes) of a level up to which its mask table is kept: 16 MiB of float32.
TABLE_LIMIT = 1 << 22

_tables: weakref.WeakKeyDictionary[Trie, dict[torch.device, TrieTables]] = weakref.WeakKeyDictionary()


class Children(NamedTuple):
    """The children of nodes of any shape, in a further axis of C places, as many as the largest family has."""

    node: Tensor  #: int64 [..., C], one level down; some other node where not ``there``
    code: Tensor  #: int64 [..., C]
    there: Tensor  #: bool [..., C], False past the last child


class TrieTables:
    """Masks and children of one trie on one device. Nodes are int64 tensors of any shape.

    On the processor these are the trie's own arrays, not copies, so that a mapped trie stays shared.
    """

    def __init__(self, trie: Trie, device: torch.device) -> None:
        # No reference to the trie: it is the weak key under which these tables are kept.
        self.device = device
        self.level_sizes = trie.level_sizes
        self._start = [torch.from_numpy(start).to(device) for start in trie.flat.starts]
        self._codes = [torch.from_numpy(codes).to(device) for codes in trie.flat.codes]
        self._keys = [torch.from_numpy(keys).to(device) for keys in trie.changes.keys]
        self._dead = [torch.from_numpy(dead).to(device) for dead in trie.changes.dead]
        self._bias: list[Tensor | None] = [None] * trie.levels
        # Per depth the nodes above further leaves, one entry a leaf: what `leaves` adds to a node's own range.
        grown = np.arange(trie.flat.nodes(trie.levels), trie.nodes(trie.levels))
        self._grown = [torch.from_numpy(grown).to(device)]
        for level in reversed(range(trie.levels)):
            grown = np.sort(trie.parents(level, grown))
            self._grown.insert(0, torch.from_numpy(grown).to(device))

    @classmethod
    def of(cls, trie: Trie, device: torch.device) -> TrieTables:
        """The tables of this trie, made once.

        Raises:
            InvalidValue: the trie is empty.
        """
        if trie.empty:
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

    def children(self, level: int, nodes: Tensor) -> Children:
        """What may follow nodes at depth ``level``."""
        base, codes = self._base(level), self._codes[level]
        inside = nodes.clamp(max=base)  # the range behind the last node is empty
        low = self._start[level][inside].long()
        count = self._start[level][(inside + 1).clamp_(max=base)].long() - low
        place = torch.arange(int(count.max()) if count.numel() else 0, device=self.device)
        child, there = low[..., None] + place, place < count[..., None]
        code = codes[child.clamp(max=max(len(codes) - 1, 0))].long()
        if len(self._dead[level]):
            there &= ~_among(self._dead[level], child)
        if not len(self._keys[level]):
            return Children(child, code, there)
        further = self._further(level, nodes)
        return Children(*(torch.cat([ours, more], dim=-1) for ours, more in zip((child, code, there), further, strict=True)))

    def first_child(self, level: int, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """(child, its code) of nodes at depth ``level``: their first, and of those with one leaf below the only one."""
        children = self.children(level, nodes)
        at = children.there.to(torch.uint8).argmax(dim=-1, keepdim=True)
        return children.node.gather(-1, at)[..., 0], children.code.gather(-1, at)[..., 0]

    def leaves(self, depth: int, nodes: Tensor) -> Tensor:
        """How many identifiers lie below nodes at ``depth``."""
        low = nodes.clamp(max=self._base(depth))
        high = (low + (nodes < self._base(depth))).long()
        for start in self._start[depth:]:
            low, high = start[low].long(), start[high].long()
        dead, grown = self._dead[-1], self._grown[depth]
        lost = _place(dead, high) - _place(dead, low)
        return high - low - lost + _place(grown, nodes, right=True) - _place(grown, nodes)

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
        start, known = self._start[level], self._codes[level]
        base, last = self._base(level), max(len(known) - 1, 0)
        inside = nodes.clamp(max=base)
        low, end = start[inside].long(), start[(inside + 1).clamp_(max=base)].long()
        high = end
        # Bisection within each node's children: keys to search all nodes at once are eight bytes a node.
        for _ in range(int((end - low).max()).bit_length() if len(known) and low.numel() else 0):
            middle = (low + high) >> 1
            right = (low < high) & (known[middle.clamp(max=last)] < codes)
            low, high = torch.where(right, middle + 1, low), torch.where(right, high, middle)
        at, found = low.clamp(max=last), low < end
        if len(known):
            found &= known[at] == codes
        if len(self._dead[level]):
            found &= ~_among(self._dead[level], at)
        if len(self._keys[level]):
            wanted = nodes * self.level_sizes[level] + codes
            more = _among(self._keys[level], wanted) & (codes >= 0) & (codes < self.level_sizes[level])
            at = torch.where(more, len(known) + _place(self._keys[level], wanted), at)
            found |= more
        return at, found

    def path(self, sids: Tensor) -> Tensor:
        """[..., L] identifiers to [..., L + 1] nodes, column d at depth d."""
        nodes = [torch.zeros_like(sids[..., 0])]
        for level in range(len(self.level_sizes)):
            nodes.append(self.child(level, nodes[-1], sids[..., level]))
        return torch.stack(nodes, dim=-1)

    def level_nodes(self, depth: int) -> int:
        """How many node numbers there are at a depth (`Trie.nodes`)."""
        return self._base(depth) + (len(self._keys[depth - 1]) if depth else 0)

    def _base(self, depth: int) -> int:
        """Node numbers at a depth that the flat trie has; further ones were added since."""
        return len(self._codes[depth - 1]) if depth else 1

    def _further(self, level: int, nodes: Tensor) -> Children:
        """Children that the trie got since it was built."""
        size, keys = self.level_sizes[level], self._keys[level]
        low = _place(keys, nodes * size)
        count = _place(keys, nodes * size + size) - low
        place = torch.arange(int(count.max()) if count.numel() else 0, device=self.device)
        at = low[..., None] + place
        return Children(len(self._codes[level]) + at, keys[at.clamp(max=len(keys) - 1)] % size, place < count[..., None])

    def _bias_of(self, level: int, nodes: Tensor) -> Tensor:
        _, code, there = self.children(level, nodes)
        size = self.level_sizes[level]
        # What is not there is marked one past the last code, and cut off.
        bias = torch.full((*nodes.shape, size + 1), -torch.inf, device=self.device)
        return bias.scatter_(-1, torch.where(there, code, size), 0.0)[..., :size]


def _place(ascending: Tensor, values: Tensor, right: bool = False) -> Tensor:
    return torch.searchsorted(ascending, values.contiguous(), right=right)  # of a view torch warns, and copies it anyway


def _among(ascending: Tensor, values: Tensor) -> Tensor:
    """Whether each value is in a sorted list that is not empty."""
    return ascending[_place(ascending, values).clamp_(max=len(ascending) - 1)] == values


def restricted_logp(logits: Tensor, bias: Tensor, temperature: float) -> Tensor:
    """log softmax(logits / temperature) over the allowed codes: [..., K]; -inf on codes that are not allowed."""
    if temperature != 1.0:
        logits = in_float32(logits) / temperature
    return torch.log_softmax(logits + bias, dim=-1)


def in_float32(logits: Tensor) -> Tensor:
    """At least so precise: what follows takes differences of them."""
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


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
