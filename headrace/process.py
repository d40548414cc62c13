"""One supervised child: its life from start to end, and when it may start again."""

from __future__ import annotations

import subprocess
import time
from collections import deque
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path

import structlog

from headrace.services import leash, lock
from headrace.services.child import Child

log = structlog.get_logger(__name__)

#: Seconds between two looks at a process that was told to end.
LOOK_S = 0.02


class Status(StrEnum):
    """Where a child is in its life."""

    STARTING = "starting"  #: runs, not seen ready yet
    READY = "ready"
    WAITING = "waiting"  #: ended, will be started again
    FAILED = "failed"  #: ended too often, given up
    ENDED = "ended"  #: ended, and is not to be restarted
    STOPPED = "stopped"  #: we ended it


class Process:
    """State machine of one child. The supervisor holds its lock around everything but `check`, `terminate`, `gone` and `stop`."""

    def __init__(self, child: Child, run: Path, env: Mapping[str, str]) -> None:
        self.child = child
        self.run = run
        self.log = run / "logs" / f"{child.name}.log"
        self.status = Status.WAITING
        self.restarts = 0
        self.last_exit: int | None = None
        self._env = dict(env) | dict(child.env)
        self._popen: subprocess.Popen[bytes] | None = None
        self._ends: deque[float] = deque()
        self._due = 0.0
        self._wanted = True
        self._told = 0.0

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        popen = self._popen
        return popen.pid if popen is not None and popen.returncode is None else None

    def start(self) -> None:
        """Start it now.

        Raises:
            OSError: its folder or its log cannot be opened.
        """
        self.log.parent.mkdir(parents=True, exist_ok=True)
        if self.child.before is not None:
            self.child.before()
        self._popen = leash.spawn(self.child.argv, self._env, self.child.cwd or Path.cwd(), self.log)
        self.status = Status.STARTING
        lock.note(self.run, self.child.name, self._popen.pid)
        log.debug("started", child=self.child.name, pid=self._popen.pid)

    def check(self) -> bool:
        """Whether it runs and is ready; asks it while it is not known yet."""
        if self.status is Status.STARTING and self.pid is not None:
            popen = self._popen
            ready = self.child.ready is None or self.child.ready()
            if ready and self._popen is popen and self.status is Status.STARTING:
                self.status = Status.READY
        return self.status is Status.READY

    def poll(self) -> bool:
        """Notice its end, or start it again when that is due; True when it ended since the last look."""
        if not self._wanted:
            return False
        if self.status is Status.WAITING and time.monotonic() >= self._due:
            return self._again()
        if self.status not in (Status.STARTING, Status.READY) or self._popen is None:
            return False
        self.last_exit = leash.end(self._popen)
        if self.last_exit is None:
            return False
        self._after_end()
        return True

    def _again(self) -> bool:
        self.restarts += 1
        try:
            self.start()
        except OSError as error:  # a full disk, say: that counts as an end, and is tried again later
            log.error("cannot be started", child=self.child.name, error=str(error))
            self._after_end()
            return True
        return False

    def _after_end(self) -> None:
        policy, now = self.child.restart, time.monotonic()
        if policy is None:
            self.status = Status.ENDED
            lock.forget(self.run, self.child.name)
            return
        while self._ends and now - self._ends[0] > policy.window_s:
            self._ends.popleft()
        recent = len(self._ends)
        self._ends.append(now)
        if recent >= policy.most:
            self.status = Status.FAILED
            log.error("given up", child=self.child.name, exit=self.last_exit, restarts=self.restarts, log=str(self.log))
            return
        self.status = Status.WAITING
        self._due = now + policy.delay_s(recent)
        log.warning("ended, will be restarted", child=self.child.name, exit=self.last_exit, log=str(self.log))

    def stopping(self) -> None:
        """From now on its end is wanted: `poll` does not start it again, whatever `check` finds meanwhile."""
        self._wanted = False

    def stop(self) -> None:
        """End it: SIGTERM, then SIGKILL when the grace is over."""
        self.terminate()
        while not self.gone():
            time.sleep(LOOK_S)

    def terminate(self) -> None:
        """Tell it to end, by SIGTERM. Its grace begins."""
        if self._popen is not None and leash.end(self._popen) is None:
            self._popen.terminate()
        self._told = time.monotonic()

    def gone(self, at_once: bool = False) -> bool:
        """Whether it has ended, which was wanted; by SIGKILL when its grace is over, or ``at_once``."""
        popen = self._popen
        if popen is not None and leash.end(popen) is None:
            waited_s = time.monotonic() - self._told
            if waited_s <= self.child.grace_s and not at_once:
                return False
            log.warning("killed", child=self.child.name, waited_s=round(waited_s, 1), grace_s=self.child.grace_s)
            leash.kill(popen)
        if popen is not None:
            self.last_exit = popen.returncode
        self.status = Status.STOPPED
        lock.forget(self.run, self.child.name)
        return True
