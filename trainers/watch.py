"""Told and obeyed: what the guards say goes to log, journal and metrics, stops publishing, and may roll the weights back."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import structlog

from schemas.errors import LearningError
from schemas.journal import GuardAlarm
from trainers.exposition import Exposition
from trainers.guards import NOT_FINITE, OF_WEIGHTS, Alarm, Guards
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

    def judge(self, step: int, fallback: Callable[[], str]) -> None:
        """Tell what has changed since the last step, and go back to the checkpoint ``fallback()`` where that is the setting: when a
        guard of the weights begins to ring, and at the second step in a row that was left out."""
        found = {alarm.guard: alarm for alarm in self._guards.alarms()}
        begun, ended = found.keys() - self._ringing.keys(), self._ringing.keys() - found.keys()
        back = set[str]()
        if self._settings.on_alarm == "roll_back":
            back = {guard for guard in found if guard in begun & OF_WEIGHTS or (guard == NOT_FINITE and self._left_out == 2)}
        restored = ""
        if back:
            # Before it is told: a checkpoint that turns out to be damaged must not be one that every start goes back to.
            restored = fallback()
            self._restore(restored)
            self._guards.forget()
        for guard in sorted(begun | ended | back):
            on = guard in found
            if guard not in back - begun:
                self._since[guard] = time.monotonic()
            self._tell(found[guard] if on else self._ringing[guard], on, step, restored if on else "")
        self._ringing = found
        for guard, since in self._since.items():
            self._exposition.alarm(guard, time.monotonic() - since if guard in found else 0.0)

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
