"""How long the loop takes, in wall seconds: from an event to a served checkpoint that learned it, and from new weights to a
gradient.

The simulated clock runs faster than the wall's, so a click's latency is counted beyond its window: from the wall time at
which the clock passed the end of the click window to the first search answered by a checkpoint that contains it.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from schemas.checkpoints import Manifest
from schemas.examples import TrainingExample
from schemas.journal import StepIntent
from schemas.log import Entry
from schemas.topics import EXAMPLES
from schemas.views import ViewStatus
from schemas.weights import RewardWeights


class Served(NamedTuple):
    """The first search that a checkpoint answered."""

    manifest: Manifest
    wall_s: float


class Clock(NamedTuple):
    """Pairs of event time (ms) and wall time (s), both ascending."""

    event_ms: Sequence[int]
    wall_s: Sequence[float]

    def wall(self, event_ms: int) -> float:
        """Wall time at which the clock passed ``event_ms``; infinite if it never did."""
        n = bisect.bisect_left(self.event_ms, event_ms)
        return self.wall_s[n] if n < len(self.wall_s) else float("inf")


def event_to_served(
    examples: Sequence[Entry], served: Sequence[Served], clock: Clock, window_ms: int, live_ms: int
) -> dict[str, float]:
    """Seconds from the closing of a clicked view's window to the first search by a checkpoint that contains it.

    Args:
        examples: records of training.examples.
        served: checkpoints in the order in which they were served.
        window_ms: click window plus allowed lateness, event time.
        live_ms: views before it (the replayed past) are not counted.

    Returns:
        ``p50``, ``p99`` (s), ``window_s`` (the window in wall seconds at the run's mean speed), ``n``, and ``unserved``: views
        of the stream's end whose checkpoint did not come into service any more.
    """
    found, unserved = [], 0
    for entry in examples:
        example: TrainingExample = entry.record
        clicked = any(item.clicks for item in example.items)
        if example.ts < live_ms or example.status is not ViewStatus.PROVISIONAL or not clicked:
            continue
        closed = clock.wall(example.ts + window_ms)
        times = [s.wall_s for s in served if s.manifest.offsets[EXAMPLES.name].get(entry.partition, 0) > entry.offset]
        if times:
            found.append(max(0.0, min(times) - closed))
        else:
            unserved += 1
    p50, p99 = np.percentile(found, [50, 99]) if found else (float("nan"), float("nan"))
    speed = (clock.event_ms[-1] - clock.event_ms[0]) / 1000 / max(clock.wall_s[-1] - clock.wall_s[0], 1e-9)
    return {
        "p50": float(p50),
        "p99": float(p99),
        "window_s": window_ms / 1000 / speed,
        "n": len(found),
        "unserved": unserved,
        "clock_speed": speed,
    }


def weights_to_gradient(changed: RewardWeights, intents: Sequence[StepIntent]) -> tuple[float, int] | None:
    """(seconds from saving ``changed`` to the first step begun with it, that step); None if no step used it."""
    for intent in intents:
        if intent.weights.version >= changed.version:
            return (intent.created_ms - changed.created_ms) / 1000, intent.step
    return None
