"""What rank 0 tells the other ranks of a learner: what to begin from, which step to take, where to go back to, when to stop.

Decisions are rank 0's alone: it journals them before it tells them, and what it took from the journal it tells in the same way. So the
others need neither journal nor clock, and all ranks do the same in the same order. With every order rank 0 hears who was asked to stop.
"""

from __future__ import annotations

import time
import zlib
from dataclasses import dataclass

from schemas.errors import LearningError
from schemas.journal import StepIntent
from trainers.policies.base import Policy
from trainers.ranks import Ranks
from trainers.settings import LearnerSettings

#: Longest silence of rank 0 while there is nothing to do (s).
BEAT_S = 1.0


@dataclass(frozen=True)
class Begin:
    """Load the state of this checkpoint."""

    checkpoint: str
    settings: LearnerSettings
    sharded: bool


@dataclass(frozen=True)
class Take:
    """Take this step, under these settings."""

    intent: StepIntent
    settings: LearnerSettings
    left_out: bool = False


@dataclass(frozen=True)
class GoBack:
    """Go on from this checkpoint's weights and optimiser."""

    checkpoint: str


@dataclass(frozen=True)
class Compare:
    """Say what the weights are (`digest`), then hand in your part of the moments: rank 0 makes a checkpoint."""


@dataclass(frozen=True)
class Wait:
    """There is nothing to do."""


@dataclass(frozen=True)
class Stop:
    """It is over."""


Order = Begin | Take | GoBack | Compare | Wait | Stop


class Lead:
    """Rank 0's side. A process that is alone tells itself."""

    def __init__(self, ranks: Ranks) -> None:
        self.ranks = ranks
        self.called_off = False  #: another rank was asked to stop
        self._told_at = 0.0

    def tell(self, order: Order) -> None:
        """Every rank does this next.

        Raises:
            Unavailable: one has ended, or does not answer.
        """
        _, *asked_to_stop = self.ranks.exchange(order)
        self.called_off |= any(asked_to_stop)
        self._told_at = time.monotonic()

    def beat(self) -> None:
        """Say from time to time that there is nothing to do."""
        if self.ranks.size > 1 and time.monotonic() - self._told_at >= BEAT_S:
            self.tell(Wait())

    def compare(self, policy: Policy) -> None:
        """Raises LearningError when a rank's weights are not rank 0's, to the last bit."""
        if self.ranks.size == 1:
            return
        self.tell(Compare())
        mine, *theirs = self.ranks.exchange(digest(policy))
        if other := [rank for rank, their in enumerate(theirs, start=1) if their != mine]:
            remedy = (
                "no checkpoint was made; give all ranks the same processors, libraries and threads, and start them again"
            )
            raise LearningError(f"the weights of ranks {other} are not those of rank 0", remedy)


def digest(policy: Policy) -> int:
    """A checksum of the weights."""
    found = 0
    for parameter in policy.module.parameters():
        # A copy: memory that numpy has looked at can no longer be let go (`trainers.sharding`).
        found = zlib.crc32(parameter.detach().cpu().clone().numpy().data, found)
    return found
