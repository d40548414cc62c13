"""Where a learner is: its process says so at every change, through a named pipe that outlives it.

A mark is 16 bytes: the time, and the phases that the process is in, outermost first. A pipe takes so few bytes whole or not at
all, and keeps what a killed process wrote, so the last mark says where it died.
"""

from __future__ import annotations

import functools
import os
import select
import statistics
import struct
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

START: Final = "start"
RECOVERY: Final = "recovery"
WAITING: Final = "waiting"
JOURNAL: Final = "journal"
STEP: Final = "step"  #: what of it is none of the next three: prompts, rewards, loss
ROLLOUT: Final = "rollout"
BACKWARD: Final = "backward"
OPTIMISER: Final = "optimiser"
FILES: Final = "checkpoint's files"
MANIFEST: Final = "manifest"
PUBLICATION: Final = "publication and gate"
BETWEEN: Final = "between"  #: none of them: the loop itself, the guards
PHASES: Final = (
    START, RECOVERY, WAITING, JOURNAL, STEP, ROLLOUT, BACKWARD, OPTIMISER, FILES, MANIFEST, PUBLICATION, BETWEEN
)  # fmt: skip
#: Phases that count for all that happens inside them: a rollout of a recovery is recovery.
WHOLE: Final = frozenset({RECOVERY, PUBLICATION})
_MARK = struct.Struct("<d8s")


class Mark(NamedTuple):
    """The process has been inside ``path`` since ``at`` (`time.monotonic`, which all processes of a machine share)."""

    at: float
    path: tuple[str, ...]

    @property
    def phase(self) -> str:
        """What it counts as."""
        if not self.path:
            return BETWEEN
        return self.path[0] if self.path[0] in WHOLE else self.path[-1]


class Teller:
    """The side of the process that is watched."""

    def __init__(self, pipe: Path) -> None:
        self._pipe, self._path = os.open(pipe, os.O_WRONLY), bytearray()

    @contextmanager
    def inside(self, phase: str) -> Iterator[None]:
        """The phase lasts as long as the block."""
        self._path.append(PHASES.index(phase) + 1)
        self._tell()
        try:
            yield
        finally:
            self._path.pop()
            self._tell()

    def during(self, owner: Any, name: str, phase: str, when: Callable[..., bool] = lambda *_: True) -> None:
        """Every call of ``owner.name`` from now on is this phase, as far as ``when`` says so of its arguments."""
        plain = getattr(owner, name)

        @functools.wraps(plain)
        def told(*given: Any, **named: Any) -> Any:
            if not when(*given):
                return plain(*given, **named)
            with self.inside(phase):
                return plain(*given, **named)

        setattr(owner, name, told)

    def _tell(self) -> None:
        os.write(self._pipe, _MARK.pack(time.monotonic(), bytes(self._path)))


class Trail:
    """The side that watches: the marks of one process after the other, and how long each phase usually lasts."""

    def __init__(self, pipe: Path) -> None:
        os.mkfifo(pipe)
        # Open for writing too, so that the pipe has no end when a process dies.
        self._pipe = os.open(pipe, os.O_RDWR | os.O_NONBLOCK)
        self._unread = b""
        self._lasted: defaultdict[str, list[float]] = defaultdict(list)
        self.now, self._entered = Mark(time.monotonic(), (START,)), time.monotonic()

    def begin(self) -> None:
        """A new process starts now; the one before is dead."""
        self.last()
        self.now, self._entered = Mark(time.monotonic(), (START,)), time.monotonic()

    def next(self, timeout_s: float) -> Mark | None:
        """The next mark, None when it does not come in time."""
        if len(self._unread) < _MARK.size:
            if not select.select([self._pipe], [], [], timeout_s)[0]:
                return None
            self._unread += os.read(self._pipe, 1 << 16)
        raw, self._unread = self._unread[: _MARK.size], self._unread[_MARK.size :]
        at, path = _MARK.unpack(raw)
        mark = Mark(at, tuple(PHASES[code - 1] for code in path.rstrip(b"\0")))
        if mark.phase != self.now.phase:
            self._lasted[self.now.phase].append(at - self._entered)
            self._entered = at
        self.now = mark
        return mark

    def last(self) -> Mark:
        """The newest mark: where the process is, or was when it died."""
        while self.next(0.0) is not None:
            pass
        return self.now

    def usual_s(self, phase: str) -> float:
        """Median seconds of a phase so far; a millisecond where it never ended."""
        return statistics.median(self._lasted[phase] or [0.001])

    def close(self) -> None:
        """Done."""
        os.close(self._pipe)
