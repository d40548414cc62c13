"""Training stands still while the log is broken: told once in log and journal, and as long as it lasts in the metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator

import structlog

from schemas.codec import encode
from schemas.journal import KEPT, JournalRecord, TrainingHold
from schemas.quarantine import RAW_LIMIT, Quarantined, Reason
from schemas.topics import EXAMPLES
from trainers.breaker import Breaker
from trainers.exposition import Exposition
from trainers.follow import Arrival
from trainers.journal import Journal

log = structlog.get_logger()


class Holding:
    """Asks a breaker, and tells what it answers when that changes."""

    def __init__(self, breaker: Breaker, journal: Journal, exposition: Exposition) -> None:
        self._breaker, self._journal, self._exposition = breaker, journal, exposition
        self._window: int | None = None  # for which training stands still
        self._since_ms = 0

    def recall(self, records: Iterable[JournalRecord]) -> None:
        """Know what the learner before this one had told, from the journal behind the checkpoint: holds come between steps."""
        for told in records:
            if isinstance(told, TrainingHold):
                self._since_ms = told.created_ms if self._window is None else self._since_ms
                self._window = told.window if told.held else None

    @property
    def still(self) -> bool:
        """Whether training stood still when last asked."""
        return self._window is not None

    def on(self, step: int) -> bool:
        """Whether training stands still after ``step``."""
        verdict, newest = self._breaker.holding, self._breaker.newest
        window = verdict.start if verdict else None
        if window != self._window and newest is not None:
            now_ms = int(time.time() * 1000)
            self._since_ms = now_ms if self._window is None else self._since_ms
            self._window = window
            checks = verdict.failed if verdict else ()
            self._journal.append(TrainingHold(step, verdict is not None, newest.start, checks, now_ms))
            if verdict is None:
                log.info("training goes on", step=step, window=newest.start)
            else:
                said = {check.name: str(check) for check in checks}
                events = {check.name: [f"{s.topic}/{s.partition}@{s.offset}" for s in check.samples] for check in checks}
                log.warning(
                    "training stands still: the log is broken",
                    window=window,
                    step=step,
                    checks=said,
                    events=events,
                    kept=KEPT,
                )
        self._exposition.held(0.0 if window is None else max(0.0, time.time() - self._since_ms / 1000))
        return window is not None


def quarantined(records: Iterable[Arrival]) -> Iterator[Quarantined]:
    """Examples of a stretch in which the log was broken, as what they become in quarantine."""
    for partition, offset, example, timestamp, _ in records:
        if example is None:
            continue
        raw = encode(example)
        detail = f"its page was shown at {example.ts}, in or before a broken window; see `headrace integrity status`"
        yield Quarantined(
            "learner", EXAMPLES.name, partition, offset, Reason.BROKEN_WINDOW, detail, raw[:RAW_LIMIT], len(raw), timestamp
        )
