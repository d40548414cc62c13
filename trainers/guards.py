"""Guards over the learner's health: each has a name and a bound, is a function of the steps' metrics, and stops publishing.

Steps go on, or start again from the last promoted checkpoint, by setting; `trainers.breaker` watches the log instead.
"""

from __future__ import annotations

import math
import statistics
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Final

from schemas.checkpoints import Alarm
from trainers.settings import GuardSettings

#: Steps before the recent ones by which a reward's jump is measured, in lengths of the recent ones.
BEFORE = 4
#: How many steps are remembered for each that is judged by: one that was left out, say, has neither entropy nor reward.
SPARE = 2


def reach(settings: GuardSettings) -> int:
    """How many steps back the alarms hang on."""
    return settings.steps * (1 + BEFORE) * SPARE


class Guards:
    """Looks at the last steps. The same metrics in the same order give the same alarms."""

    def __init__(self, settings: GuardSettings) -> None:
        self._settings = settings
        self._steps: deque[Mapping[str, float]] = deque(maxlen=reach(settings))
        self._measure: Hashable = None

    def see(self, metrics: Mapping[str, float], measure: Hashable) -> None:
        """A step was taken. Rewards by another ``measure`` (`StepResult.measure`) are not to be compared: those before are forgotten."""
        if measure != self._measure:
            kept = [{k: v for k, v in one.items() if k != "reward"} for one in self._steps]
            self._steps.clear()
            self._steps.extend(kept)
            self._measure = measure
        self._steps.append(metrics)

    def forget(self) -> None:
        """The weights are others from here on."""
        self._steps.clear()

    def alarms(self) -> list[Alarm]:
        """What is beyond its bound now."""
        found = [Alarm(name, *measure(self)) for name, measure in _MEASURES.items()]
        return [alarm for alarm in found if alarm.value > alarm.bound]

    def unsure(self) -> set[str]:
        """Guards of the weights that have seen too few steps of the present ones to say anything of them."""
        if len(self._steps) == self._steps.maxlen:  # a metric that is never there must not keep anyone waiting
            return set()
        seen = {"entropy_collapse": self._nats(), "reward_jump": self._rewards()}
        return {guard for guard, values in seen.items() if len(values) < self._settings.steps}

    def _recent(self, metric: str) -> list[float]:
        return [one[metric] for one in list(self._steps)[-self._settings.steps :] if metric in one]

    def _not_finite(self) -> tuple[float, float]:
        """Steps left out among the last ones."""
        return sum(self._recent(NOT_FINITE)), 0.0

    def _entropy_collapse(self) -> tuple[float, float]:
        """exp(-H) with H the nats of all levels: the probability of an identifier where all the mass lay on equal ones."""
        nats = self._nats()[-self._settings.steps :]
        full = len(nats) == self._settings.steps
        return math.exp(-statistics.fmean(nats)) if full else 0.0, self._settings.most_certain

    def _reward_jump(self) -> tuple[float, float]:
        """Distance of the recent steps' mean reward from that of the steps before, in their standard deviations."""
        steps = self._settings.steps
        rewards = self._rewards()[-steps * (1 + BEFORE) :]
        recent, before = rewards[-steps:], rewards[:-steps]
        if len(before) < steps * BEFORE:
            return 0.0, self._settings.reward_jump
        spread = statistics.pstdev(before)
        moved = abs(statistics.fmean(recent) - statistics.fmean(before))
        return moved / spread if spread > 0 else 0.0, self._settings.reward_jump

    def _nats(self) -> list[float]:
        levels = ([v for name, v in one.items() if name.startswith("entropy.")] for one in self._steps if "entropy.1" in one)
        return [sum(nats) for nats in levels]

    def _rewards(self) -> list[float]:
        return [one["reward"] for one in self._steps if "reward" in one]

    def _lag(self) -> tuple[float, float]:
        """Examples that waited when the last step was taken."""
        lags = self._recent("lag")
        return lags[-1] if lags else 0.0, float(self._settings.max_lag)


def in_words(alarms: Iterable[Alarm]) -> str:
    """Which guards ring, for people to read; empty: none."""
    return "; ".join(f"guard {a.guard}: {a.value:.4g}, {a.bound:.4g} is allowed" for a in alarms)


#: Steps whose loss or gradient was not finite.
NOT_FINITE: Final = "not_finite"

_MEASURES: Final[Mapping[str, Callable[[Guards], tuple[float, float]]]] = {
    NOT_FINITE: Guards._not_finite,
    "entropy_collapse": Guards._entropy_collapse,
    "reward_jump": Guards._reward_jump,
    "lag": Guards._lag,
}
#: Guards whose alarm says something of the weights: what rolling back can mend.
OF_WEIGHTS: Final = frozenset({"entropy_collapse", "reward_jump"})
