"""Keeps child processes running: starts them in order, restarts whatever dies, stops them in reverse (`Child.beside`: together),
counts their memory.

Thread-safe. `poll` does one round; `watch` runs rounds in a thread until `stop_all`, beside any event loop of the caller.
What it does *not* do: decide whether a run may go on without a child it gave up on (`failures` tells).
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from headrace.memory import Memory, proportional
from headrace.process import LOOK_S, Process, Status
from headrace.services.child import Child
from schemas.errors import Conflict, ServiceFailed

log = structlog.get_logger(__name__)

#: Reading what each process shares takes the kernel a few milliseconds (s).
MEMORY_EVERY_S = 2.0
#: Of a log, in which its last line is looked for.
TAIL_BYTES = 2_000
#: From when on a wait for an end is told (s).
TELL_S = 1.0


@dataclass(frozen=True)
class State:
    """What is known of one child now. ``last_exit``: exit code of its last end, minus the signal when one killed it."""

    name: str
    status: Status
    pid: int | None
    restarts: int
    last_exit: int | None


@dataclass(frozen=True)
class Patience:
    """With what ends. ``over``, once set: whatever is waited for, now or later, is killed at once, be its grace ever so long.
    ``tell`` hears the names that are waited for, each time they are others."""

    over: threading.Event = field(default_factory=threading.Event)
    tell: Callable[[Sequence[str]], None] = lambda names: None


class Supervisor:
    """The children of one run; their logs are ``<run>/logs/NAME.log``, their pids ``<run>/pids/NAME``."""

    def __init__(
        self, run: Path, env: Mapping[str, str] | None = None, every_s: float = 0.1, patience: Patience | None = None
    ) -> None:
        self.run = run
        self._patience = patience or Patience()
        self._env = dict(os.environ) | dict(env or {})
        self._every_s = every_s
        self._processes: dict[str, Process] = {}
        self._lock = threading.RLock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._memory = Memory({}, 0)
        self._peak = 0
        self._sampled = 0.0

    def start(self, *children: Child, wait: bool = True) -> None:
        """Start children in this order; with ``wait`` only return when each is ready.

        Raises:
            ServiceFailed: one is not ready within its time, or was given up; the error names its log.
            Conflict: a child of that name runs.
        """
        for child in children:
            with self._lock:
                present = self._processes.get(child.name)
                if present is not None and present.pid is not None:
                    raise Conflict(f"the name {child.name}", f"process {present.pid}", "stop that child first")
                process = Process(child, self.run, self._env)
                self._processes[child.name] = process
                process.start()
        if wait:
            self.wait(child.name for child in children)

    def wait(self, names: Iterable[str]) -> None:
        """Wait until those children are ready.

        Raises:
            ServiceFailed: as `start`.
        """
        for name in names:
            process = self._processes[name]
            deadline = time.monotonic() + process.child.ready_timeout_s
            while not self._is_ready(process):
                if time.monotonic() > deadline:
                    raise ServiceFailed(name, f"not ready after {process.child.ready_timeout_s:g} s", str(process.log))
                time.sleep(0.05)

    def _is_ready(self, process: Process) -> bool:
        with self._lock:
            process.poll()
            status, name = process.status, process.child.name
        if status in (Status.FAILED, Status.ENDED, Status.STOPPED):
            raise ServiceFailed(
                name, f"it is {status.value}, last exit code {process.last_exit}{last_words(process.log)}", str(process.log)
            )
        return process.check()

    def poll(self) -> list[str]:
        """One round: notice ends, start again what is due, measure memory now and then; names of those that ended."""
        with self._lock:
            ended = [name for name, process in self._processes.items() if process.poll()]
            starting = [process for process in self._processes.values() if process.status is Status.STARTING]
        for process in starting:
            process.check()
        if time.monotonic() - self._sampled >= MEMORY_EVERY_S:
            self.memory()
        return ended

    def watch(self) -> None:
        """Poll in a thread from now on."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
            self._thread.start()

    def _watch(self) -> None:
        while not self._stop.wait(self._every_s):
            self.poll()

    def stop(self, name: str) -> None:
        """End one child: SIGTERM, after its grace SIGKILL; it is not started again until `start`."""
        self._end([self._processes[name]])

    def _end(self, processes: Sequence[Process]) -> None:
        with self._lock:
            for process in processes:
                process.stopping()
        for process in processes:
            process.terminate()
        left, said, began = list(processes), list[Process](), time.monotonic()
        while left := [process for process in left if not process.gone(self._patience.over.is_set())]:
            if left != said and time.monotonic() - began > TELL_S:
                self._patience.tell([process.child.name for process in left])
                said = left
            time.sleep(LOOK_S)

    def stop_all(self) -> None:
        """End the thread and all children, the last started first; neighbours that are `Child.beside` each other together."""
        self._stop.set()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join()
            self._thread = None
        with self._lock:
            processes = list(self._processes.values())
        for beside, group in groupby(reversed(processes), lambda process: process.child.beside):
            for together in [list(group)] if beside else [[process] for process in group]:
                self._end(together)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop_all()

    def pid(self, name: str) -> int | None:
        """Process id of a child, None while it is down."""
        return self._processes[name].pid

    def states(self) -> list[State]:
        """All children in order of their start."""
        with self._lock:
            return [
                State(name, process.status, process.pid, process.restarts, process.last_exit)
                for name, process in self._processes.items()
            ]

    @property
    def restarts(self) -> dict[str, int]:
        """How often each child was started again."""
        return {state.name: state.restarts for state in self.states()}

    def failures(self) -> list[ServiceFailed]:
        """Children given up on, because they ended too often; empty when all is well."""
        with self._lock:
            failed = [process for process in self._processes.values() if process.status is Status.FAILED]
        return [
            ServiceFailed(p.child.name, f"ended {p.restarts + 1} times, given up{last_words(p.log)}", str(p.log))
            for p in failed
        ]

    def memory(self) -> Memory:
        """Bytes of this process and all below it, now; pages that they share (libraries) count once (PSS)."""
        self._memory = proportional(self._pids())
        self._sampled = time.monotonic()
        self._peak = max(self._peak, self._memory.total)
        return self._memory

    def _pids(self) -> dict[str, int]:
        return {"self": os.getpid()} | {s.name: s.pid for s in self.states() if s.pid is not None}

    @property
    def peak_bytes(self) -> int:
        """Largest total that `memory` has seen; `watch` looks every `MEMORY_EVERY_S`."""
        return self._peak


def last_words(log: Path) -> str:
    """The last line of a child's log, behind words that lead to it; nothing where it has said nothing."""
    if not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - TAIL_BYTES))
        lines = file.read().decode(errors="replace").split("\n")
    said = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; it said last: {said}" if said else ""
