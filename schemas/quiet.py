"""One line per cause and interval, however often it happens: a log must not grow with the trouble it tells of."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable
from threading import Lock

#: Least time between two lines of one cause (s); what comes meanwhile is counted in the next one.
QUIET_S = 10.0
#: Causes remembered; past them the one told longest ago is forgotten.
CAUSES = 256


class Quiet:
    """Says when a line is due. ``clock`` is in seconds; thread-safe."""

    def __init__(self, every_s: float = QUIET_S, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s, self._clock = every_s, clock
        self._lock = Lock()
        #: Cause -> (when its last line was, how often it came since).
        self._causes: dict[Hashable, tuple[float, int]] = {}

    def due(self, cause: Hashable) -> int:
        """How often it has come since its last line, this time included; 0 while that line is too young for another."""
        with self._lock:
            now = self._clock()
            told, untold = self._causes.get(cause, (float("-inf"), 0))
            if now - told < self._every_s:
                self._causes[cause] = (told, untold + 1)
                return 0
            self._causes.pop(cause, None)
            if len(self._causes) >= CAUSES:
                del self._causes[next(iter(self._causes))]
            self._causes[cause] = (now, 0)
            return untold + 1
