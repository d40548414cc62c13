"""A stage: a broker of its own, one log of events, workers, the undisturbed run beside them, and rounds of faults."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.delivery_faults.crew import Crew
from benchmarks.delivery_faults.flow import Flow, Log
from benchmarks.delivery_faults.undisturbed import Undisturbed, Verdict
from benchmarks.plane.broker import broker
from benchmarks.plane.standing import drained
from benchmarks.plane.worker import Spec
from headrace.process import Process
from streams.accounting import accounted
from streams.settings import AttributionSettings, RuntimeSettings

RULES = AttributionSettings(click_window_s=30, order_window_s=60, return_window_s=90, lateness_s=10, tick_grid_s=20)
#: Small chunks and frequent snapshots, in many parts: more moments to be hit in.
RUNTIME = RuntimeSettings(
    snapshot_records=3_000, linger_ms=20, quiet_ms=50, fetch_bytes=65_536, fetch_records=500, snapshot_part_bytes=50_000,
    session_timeout_s=2,
)  # fmt: skip
#: Longest wait for the workers to have committed everything (s).
DRAINED_S = 300.0


@dataclass(frozen=True)
class Kind:
    """A kind of fault. ``make(stage)`` makes one, ends when it is over and says what it did; ``events`` flow meanwhile, for
    ``seconds`` at least."""

    name: str
    make: Callable[[Stage], str]
    events: int
    seconds: float


@dataclass(frozen=True)
class Tally:
    """Faults of one kind, those after which the output was identical, events that flowed meanwhile."""

    kind: str
    made: int
    survived: int
    events: int


class Stage:
    """What faults are made on. ``rng`` draws their moments."""

    def __init__(self, folder: Path, process: Process, spec: Spec, seed: int) -> None:
        self.folder, self.broker, self.spec = folder, process, spec
        self.connections = spec.connections
        self.rng = random.Random(seed)
        self.crew = Crew(folder, spec)
        self.log = Log(seed, spec.rules, spec.connections.partitions)
        self.flow = Flow(spec.connections)
        self._undisturbed = Undisturbed(spec.connections, spec.rules)
        self._kept = 0

    def round(self, kind: Kind, faults: int, static: bool = False) -> Tally:
        """So many faults under a flow of events, then the comparison. ``static``: the worker is a static member.

        Raises:
            Unavailable: the workers do not come to the end of the inputs.
        """
        self.crew.start("one", static=static)
        self.crew.await_ready("one")
        for number in range(faults):
            entries = self.log.take(kind.events)
            with self.flow.during(entries, kind.seconds):
                self.say(f"{kind.name} {number + 1} of {faults}: {kind.make(self)}")
            self._kept += len(entries)
        verdict = self._compare(kind.name)
        self._end()
        return Tally(kind.name, faults, 0 if verdict.difference else faults, kind.events * faults)

    def close(self) -> bool:
        """Send what is left, let every window close, compare; whether all is identical and accounted for."""
        self.crew.start("one")
        rest = self.log.rest()
        with self.flow.during(rest, 0):
            self.crew.await_ready("one")
        self._kept += len(rest)
        verdict = self._compare("the end")
        self._end()
        counters = drained(self.connections, DRAINED_S).counters
        whole = (
            accounted(counters) == self._kept
            and counters["pending"] == 0
            and counters["views.provisional"] == counters["impressions"] > 0
            and counters == dict(self._undisturbed.counters)
        )
        self.say(f"{self._kept:,} records sent, {accounted(counters):,} accounted for; {'whole' if whole else counters}")
        return whole and not verdict.difference

    def say(self, text: str) -> None:
        """To the terminal and to the log of faults, with the time."""
        line = f"{datetime.now(UTC).strftime('%H:%M:%S.%f')[:-3]} {text}"
        print(line, flush=True)
        with (self.folder / "faults.log").open("a") as file:
            file.write(line + "\n")

    def wait(self, least_s: float, most_s: float) -> float:
        """Sleep for a drawn time; how long it was."""
        seconds = self.rng.uniform(least_s, most_s)
        time.sleep(seconds)
        return seconds

    def _compare(self, name: str) -> Verdict:
        drained(self.connections, DRAINED_S)
        verdict = self._undisturbed.check()
        said = f"DIFFERENT: {verdict.difference}" if verdict.difference else "identical"
        self.say(f"{name}: {verdict.views:,} views, {verdict.quarantined:,} in quarantine, {said}")
        return verdict

    def _end(self) -> None:
        # A worker that is just starting has no handlers yet, and SIGTERM would end it at once: that, too, must do no harm.
        self.crew.stop("one")


@contextmanager
def stage(
    folder: Path,
    seed: int,
    partitions: int = 2,
    rules: AttributionSettings = RULES,
    runtime: RuntimeSettings = RUNTIME,
) -> Iterator[Stage]:
    """A stage in this folder; the broker's files lie in ``folder/kafka``. All its processes end with the context."""
    with broker(folder, folder / "kafka", partitions=partitions) as (process, connections):
        spec = Spec(connections=connections, group="delivery", rules=rules, runtime=runtime)
        one = Stage(folder, process, spec, seed)
        with one.crew:
            one.crew.watch()
            yield one
