"""The workers of a stage: kept running by the product's supervisor, ready when they have recovered a partition."""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import replace
from pathlib import Path

from benchmarks.plane.worker import Spec, worker
from headrace.process import Status
from headrace.services.child import Restart
from headrace.supervisor import State, Supervisor
from schemas.errors import ServiceFailed

#: Every end is followed by a start at once: ends are what is tested.
AGAIN = Restart(most=1_000_000, first_s=0.0)
#: Longest wait for a worker to recover, on a busy machine (s).
READY_S = 180.0


class Crew:
    """Workers of one group. Leaving its context ends all."""

    def __init__(self, run: Path, spec: Spec) -> None:
        self._supervisor = Supervisor(run, every_s=0.05)
        self._run, self._spec = run, spec
        self._began: dict[str, int] = {}

    def start(self, name: str, static: bool = False, again: bool = True) -> None:
        """Start a worker. ``static``: under its name as a member of the group; ``again``: and after each of its ends."""
        spec = self._spec.model_copy(update={"instance": name if static else ""})
        one = worker(name, self._run, spec, AGAIN if again else None)

        def size() -> int:
            return one.log.stat().st_size if one.log.exists() else 0

        def before() -> None:
            self._began[name] = size()

        def ready() -> bool:
            return b" recovered " in one.log.read_bytes()[self._began[name] :]

        self._supervisor.start(replace(one.child, before=before, ready=ready), wait=False)

    def watch(self) -> None:
        """Start again whatever ends, from now on."""
        self._supervisor.watch()

    def await_ready(self, name: str, restarts: int = 0) -> None:
        """Wait until the worker has recovered a partition, after so many restarts at least.

        Raises:
            ServiceFailed: it takes too long.
        """
        deadline = time.monotonic() + READY_S
        while (state := self.state(name)).status is not Status.READY or state.restarts < restarts:
            if time.monotonic() > deadline:
                raise ServiceFailed(name, f"not recovered after {READY_S:g} s, {state}", str(self.log(name)))
            time.sleep(0.02)

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to the worker that runs under this name; restarts after which it is a new one.

        Raises:
            ServiceFailed: none runs for long.
        """
        deadline = time.monotonic() + READY_S
        while (state := self.state(name)).pid is None:
            if time.monotonic() > deadline:
                raise ServiceFailed(name, f"does not run, {state}", str(self.log(name)))
            time.sleep(0.02)
        os.kill(state.pid, number)
        return state.restarts + 1

    def stop(self, name: str) -> int | None:
        """SIGTERM for good; its exit code."""
        self._supervisor.stop(name)
        return self.state(name).last_exit

    def state(self, name: str) -> State:
        """What is known of the worker."""
        return next(state for state in self._states() if state.name == name)

    def owner(self) -> str:
        """The worker that was the last to recover a partition; the log's times are in seconds."""
        times = {
            state.name: re.findall(rb"(?m)^(.{19}).* recovered ", self.log(state.name).read_bytes())
            for state in self._states()
        }
        return max(times, key=lambda name: max(times[name], default=b""))

    def log(self, name: str) -> Path:
        """The worker's log."""
        return self._run / "logs" / f"{name}.log"

    def _states(self) -> list[State]:
        return self._supervisor.states()

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        self._supervisor.stop_all()
