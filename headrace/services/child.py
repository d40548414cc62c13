"""What a child process is: its command, how one sees that it is ready, and what happens when it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Restart:
    """Start again after an unwanted end: soon, then ever later; at most ``most`` times within ``window_s`` seconds."""

    most: int = 10
    window_s: float = 120.0
    first_s: float = 0.2
    longest_s: float = 5.0

    def delay_s(self, recent: int) -> float:
        """Seconds to wait before the next start, when there were ``recent`` restarts in the window."""
        return float(min(self.longest_s, self.first_s * 2**recent))


@dataclass(frozen=True)
class Child:
    """A process to keep running. ``ready`` is asked until it says yes; ``before`` runs before every start. ``grace_s``: from
    SIGTERM to SIGKILL. ``beside``: at the end of all it is told to end together with its neighbours that are so, too; any other is
    told when what was started after it has ended."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    cwd: Path | None = None
    ready: Callable[[], bool] | None = None
    ready_timeout_s: float = 180.0
    grace_s: float = 10.0
    beside: bool = False
    restart: Restart | None = Restart()
    before: Callable[[], None] | None = None
