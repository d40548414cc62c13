"""The tail of the learner's journal, kept up to date a read at a time."""

from __future__ import annotations

import threading
from collections import deque

import msgspec

from schemas.connections import Connections
from schemas.journal import GateDecision, StepResult
from schemas.log import scan
from schemas.topics import STEPS
from streams.integrity.hold import Hold, after

#: Gate decisions kept.
DECISIONS = 50


class Training(msgspec.Struct, frozen=True):
    """Steps and gate decisions, the oldest first; and why training stands still, when it does for a broken log."""

    steps: list[StepResult]
    gate: list[GateDecision]
    hold: Hold | None


class TrainingTail:
    """The last ``limit`` finished steps and the last gate decisions; a read takes only what is new."""

    def __init__(self, connections: Connections, limit: int) -> None:
        self._connections = connections
        self._next = 0
        self._steps: deque[StepResult] = deque(maxlen=limit)
        self._gate: deque[GateDecision] = deque(maxlen=DECISIONS)
        self._hold: Hold | None = None
        self._lock = threading.Lock()

    def read(self, last: int) -> Training:
        """At most ``last`` steps.

        Raises:
            Unavailable: Kafka does not answer.
        """
        with self._lock:
            for entry in scan(self._connections, STEPS, {0: self._next}):
                self._next, self._hold = entry.offset + 1, after(self._hold, entry.record)
                if isinstance(entry.record, StepResult):
                    self._steps.append(entry.record)
                elif isinstance(entry.record, GateDecision):
                    self._gate.append(entry.record)
            return Training(list(self._steps)[-last:], list(self._gate), self._hold)
