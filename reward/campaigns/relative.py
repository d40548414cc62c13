"""Two speeds without counting twice: the server takes out of the policy what it has taken up of a change already.

A change of the weights acts on the next search through the serving score, and sinks into the model over many steps. A policy that
learns from reward and entropy settles at ``log pi = R / entropy + const``: trained with other weights than the reference, its
log-probability of an item has moved by ``uptake * (R_absorbed - R_reference)``. The server's score subtracts that, so the full
wish is in the score and once only, however much of it has sunk in (`reward.composite.serving_terms`).

The reference is the defaults, with which warm start and serving scales were made; absorbed is the average of what the
checkpoint's steps used, recent steps more (`Absorbed`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.campaigns.facts import Asked, ItemFacts
from reward.campaigns.weighing import Ints, Weighing
from reward.composite import Excess, TermWeights
from schemas.checkpoints import Absorbed
from schemas.weights import RewardWeights

#: What the serving scales of `reward.settings` were chosen with.
REFERENCE: Final = RewardWeights()
#: Shares below this are forgotten, theirs going to the newest.
LEAST_SHARE: Final = 1e-3
#: Most entries: each costs every search some microseconds. The smallest are forgotten first.
MOST: Final = 8


def absorb(absorbed: Sequence[Absorbed], used: RewardWeights, half_life: float) -> tuple[Absorbed, ...]:
    """The average after one more step that ``used`` these weights in force: what was before halves in ``half_life`` steps.

    Nothing absorbed yet: the warm start, which stands for the reference.
    """
    keep = 0.5 ** (1.0 / half_life)
    before = absorbed or (Absorbed(1.0, REFERENCE),)
    same = next((entry.weights for entry in before if _decided(entry.weights) == _decided(used)), used)
    kept = [msgspec.structs.replace(e, share=e.share * keep) for e in before if e.weights is not same]
    kept = sorted((e for e in kept if e.share >= LEAST_SHARE), key=lambda e: -e.share)[: MOST - 1]
    return (*kept, Absorbed(1.0 - sum(e.share for e in kept), same))


def diluted(absorbed: Sequence[Absorbed], share: float) -> tuple[Absorbed, ...]:
    """What a policy has absorbed that is ``share`` of one which absorbed this, and else the warm start."""
    if share == 1 or not absorbed:
        return tuple(absorbed)
    kept = [e for e in absorbed if _decided(e.weights) != _decided(REFERENCE)]
    parts = [msgspec.structs.replace(e, share=e.share * share) for e in kept]
    return (*parts, Absorbed(1.0 - sum(e.share for e in parts), REFERENCE))


def excess(absorbed: Sequence[tuple[float, TermWeights]]) -> Excess:
    """What the checkpoint was rewarded with beyond the reference: ``absorbed`` are shares and the weights [K] of each."""
    relevance: NDArray[np.float64] | float = -REFERENCE.relevance
    click: NDArray[np.float64] | float = -REFERENCE.ctr - REFERENCE.click
    for share, weights in absorbed:
        relevance = relevance + share * weights.multiplier * weights.relevance
        click = click + share * weights.multiplier * (weights.ctr + weights.click)
    return Excess(relevance, click)


class Lean(NamedTuple):
    """For one request and its items: what is wished, and what the checkpoint has of it."""

    wished: TermWeights
    excess: Excess | None


class Relative:
    """A book over one catalogue and one checkpoint, compiled: made at a swap, asked at every search."""

    def __init__(self, book: RewardWeights, absorbed: Sequence[Absorbed], facts: ItemFacts) -> None:
        self.wished = Weighing(book, facts)
        self._absorbed = [(entry.share, Weighing(entry.weights, facts)) for entry in absorbed]

    def of(self, asked: Asked, rows_K: Ints, at_ms: int) -> Lean:
        """The weights of these rows of the catalogue for a request at the event time ``at_ms``."""
        learned = [(share, weighing.of(asked, rows_K, at_ms)) for share, weighing in self._absorbed]
        return Lean(self.wished.of(asked, rows_K, at_ms), excess(learned) if learned else None)


def _decided(weights: RewardWeights) -> RewardWeights:
    """Two versions that decide the same are one."""
    return msgspec.structs.replace(weights, version=0, created_ms=0, author="", reason="", before=None)
