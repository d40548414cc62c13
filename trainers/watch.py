"""Told and obeyed: what the guards say goes to log, journal and metrics, stops publishing, and may roll the weights back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from schemas.errors import LearningError
from schemas.journal import GuardAlarm
from trainers.exposition import Exposition
from trainers.guards import OF_WEIGHTS, Alarm, Guards
from trainers.journal import Journal
from trainers.settings import GuardSettings

log = structlog.get_logger()


class Watch:
    """The guards of one learner and what is done about them."""

    def __init__(
        self, settings: GuardSettings, restore: Callable[[str], None], journal: Journal, exposition: Exposition
    ) -> None:
        """``restore`` goes back to a checkpoint's weights."""
        self._settings, self._restore, self._journal, self._exposition = settings, restore, journal, exposition
        self._guards = Guards(settings)
        self._ringing: dict[str, Alarm] = {}
        self._since: dict[str, float] = {}
        self._left_out = 0

    @property
    def quiet(self) -> bool:
        """Whether a checkpoint may be published."""
        return not self._ringing

    @property
    def reason(self) -> str:
        """Which guards ring, in words."""
        return "; ".join(f"guard {a.guard}: {a.value:.4g}, {a.bound:.4g} is allowed" for a in self._ringing.values())

    def see(self, metrics: Mapping[str, float], weights_version: int) -> None:
        """A step was taken, for the first time or again.

        Raises:
            LearningError: too many steps in a row were left out.
        """
        self._guards.see(metrics, weights_version)
        self._left_out = self._left_out + 1 if metrics.get("not_finite") else 0
        if self._left_out > self._settings.max_left_out:
            raise LearningError(
                f"{self._left_out} steps in a row were not finite, {self._settings.max_left_out} are allowed",
                "lower trainers.learner.learning_rate, or set trainers.learner.guards.on_alarm to roll_back",
            )

    def judge(self, step: int, fallback: str) -> None:
        """Tell what has changed since the last step, and go back to the checkpoint ``fallback`` where that is the setting."""
        found = {alarm.guard: alarm for alarm in self._guards.alarms()}
        back = self._settings.on_alarm == "roll_back" and any(
            guard in OF_WEIGHTS or self._left_out > 1 for guard in found.keys() - self._ringing.keys()
        )
        for guard in sorted(found.keys() ^ self._ringing.keys()):
            alarm, on = (found[guard], True) if guard in found else (self._ringing[guard], False)
            self._since[guard] = time.monotonic()
            self._tell(alarm, on, step, fallback if on and back else "")
        self._ringing = found
        for guard, since in self._since.items():
            self._exposition.alarm(guard, time.monotonic() - since if guard in found else 0.0)
        if back:
            self._restore(fallback)
            self._guards.forget()

    def _tell(self, alarm: Alarm, on: bool, step: int, restored: str) -> None:
        now_ms = int(time.time() * 1000)
        self._journal.append(GuardAlarm(step, alarm.guard, on, alarm.value, alarm.bound, now_ms, restored))
        if not on:
            log.info("guard is quiet again", guard=alarm.guard, step=step)
            return
        log.error(
            "guard: nothing is published", guard=alarm.guard, value=round(alarm.value, 4), bound=alarm.bound, step=step,
            restored=restored or None,
        )  # fmt: skip
