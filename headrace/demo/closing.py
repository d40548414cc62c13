"""Whether the loop closed, and what is missing."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.journal import GateDecision
from schemas.weights import RewardWeights


def missing(
    served: Sequence[str],
    frozen: str,
    lost: int,
    gate: Sequence[GateDecision],
    change: RewardWeights | None,
    reached: tuple[float, int] | None,
) -> list[str]:
    """What keeps the loop from being closed, as sentences; empty: it closed.

    Args:
        served: checkpoints that answered searches.
        frozen: the warm start.
        change: what the weights were changed to; None: they were not.
        reached: seconds and step of the first step with ``change``; None: there was none.
    """
    found = []
    if not set(served) - {frozen}:
        last = f"the gate's last word: {_said(gate[-1])}" if gate else "the gate saw none"
        found.append(f"no checkpoint of the learner was promoted and served a search ({last})")
    if change is None:
        found.append("the reward weights were not changed half-way")
    elif reached is None:
        found.append(f"no step of the learner used version {change.version} of the weights")
    if lost:
        found.append(f"{lost} events are lost")
    return found


def _said(decision: GateDecision) -> str:
    return f"{'promoted' if decision.promoted else 'kept the served one'}, {decision.reason}"
