"""Told and obeyed: what the guards say goes to log, journal and metrics, stops publishing, and may roll the weights back."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping, Sequence

import structlog
from msgspec.structs import replace

from schemas.checkpoints import Alarm
from schemas.errors import LearningError
from schemas.journal import GuardAlarm, JournalRecord, StepResult
from trainers.exposition import Exposition
from trainers.guards import NOT_FINITE, OF_WEIGHTS, Guards, reach
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
        self._shown: set[str] = set()  #: guards that have rung
        self._left_out = 0  #: steps in a row that were not finite
        #: Guards that have sent training back, until they know the weights that it goes on from.
        self._waiting: set[str] = set()
        self._went_back = False  #: since the last step that was finite
        self._reported: dict[int, Mapping[str, float]] = {}

    @property
    def reach(self) -> int:
        """How many steps back what it knows may hang on."""
        return max(reach(self._settings), self._settings.max_left_out + 1)

    def recall(
        self, ringing: Sequence[Alarm], before: Sequence[StepResult | GuardAlarm], since: Sequence[JournalRecord]
    ) -> None:
        """Know what the learner before this one knew. ``ringing``: when the checkpoint was made, ``before``: what was seen until
        then, ``since``: the journal behind it, whose steps are taken again."""
        for seen in before:
            if isinstance(seen, StepResult):
                self._look(seen.metrics, seen.measure)
            else:
                self._waiting.add(seen.guard)
                self.gone_back()
        # As they were: the backlog is another one when a step is taken again.
        self._reported = {record.step: record.metrics for record in since if isinstance(record, StepResult)}
        now_ms = int(time.time() * 1000)
        self._ringing = {alarm.guard: replace(alarm, since_ms=alarm.since_ms or now_ms) for alarm in ringing}
        for record in since:
            if isinstance(record, GuardAlarm) and record.on:
                self._ring(Alarm(record.guard, record.value, record.bound, record.created_ms))
                self._waiting |= {record.guard} if record.restored else set()
            elif isinstance(record, GuardAlarm):
                self._ringing.pop(record.guard, None)
        self._show()

    @property
    def quiet(self) -> bool:
        """Whether a checkpoint may be published."""
        return not self._ringing

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """What rings."""
        return tuple(self._ringing.values())

    def see(self, step: int, metrics: Mapping[str, float], measure: Hashable) -> None:
        """A step was taken, for the first time or again; ``measure`` as in `Guards.see`."""
        self._look(self._reported.get(step, metrics), measure)

    def gone_back(self) -> None:
        """The weights are a checkpoint's from here on."""
        self._guards.forget()
        self._went_back = True

    def check(self) -> None:
        """Of a step taken for the first time: a start that raised while steps are taken again would do so for ever.

        Raises:
            LearningError: too many steps in a row were left out.
        """
        if self._left_out > self._settings.max_left_out:
            raise LearningError(
                f"{self._left_out} steps in a row were not finite, {self._settings.max_left_out} are allowed",
                "set trainers.learner.guards.on_alarm to roll_back, which goes back at the next start, and lower "
                "trainers.learner.learning_rate if they come again",
            )

    def judge(self, step: int, fallback: Callable[[], str]) -> None:
        """Tell what has changed since the last step, and go back to the checkpoint ``fallback()`` where that is the setting: at every alarm
        of a guard of the weights, and from the second step in a row that was left out, once. A guard of the weights rings on until it
        has seen enough of those gone back to; of an alarm that then is still there training goes back again."""
        found = {alarm.guard: alarm for alarm in self._guards.alarms()}
        self._waiting &= self._guards.unsure()
        begun = found.keys() - self._ringing.keys()
        ended = self._ringing.keys() - found.keys() - self._waiting
        back = set[str]()
        if self._settings.on_alarm == "roll_back":
            back = found.keys() & OF_WEIGHTS  # those that have sent it back are silent until they know the weights
            if self._left_out >= 2 and not self._went_back:
                back.add(NOT_FINITE)
        restored = ""
        if back:
            # Before it is told: a checkpoint that turns out to be damaged must not be one that every start goes back to.
            restored = fallback()
            self._restore(restored)
            self._exposition.rolled_back()
            self._waiting |= back
            self.gone_back()
        for guard in sorted(begun | ended | back):
            on = guard in found
            self._tell(found[guard] if on else self._ringing[guard], on, step, restored if on else "")
        for guard in ended:
            del self._ringing[guard]
        for alarm in found.values():
            self._ring(replace(alarm, since_ms=int(time.time() * 1000)))
        self._show()

    def _look(self, metrics: Mapping[str, float], measure: Hashable) -> None:
        self._guards.see(metrics, measure)
        if metrics.get(NOT_FINITE):
            self._left_out += 1
        else:
            self._left_out, self._went_back = 0, False

    def _ring(self, alarm: Alarm) -> None:
        """Since then, or since it began to."""
        before = self._ringing.get(alarm.guard, alarm)
        self._ringing[alarm.guard] = replace(alarm, since_ms=before.since_ms)

    def _show(self) -> None:
        self._shown |= self._ringing.keys()
        for guard in self._shown:
            alarm = self._ringing.get(guard)
            self._exposition.alarm(guard, alarm.since_ms if alarm else None)

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
