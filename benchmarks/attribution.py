"""The attribution worker against other ways to do the same join, all reading the same topics of the same broker.

Speed is events a CPU second of the whole process (user and system, every thread), from the first record in the join until
everything is written and committed; imports and the join of the group count for nobody. Each run is a fresh process
under a fresh group with a fresh state. The peers' joins are easier: what each leaves out stands in its file.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from benchmarks.attribution_peers import latency
from benchmarks.attribution_peers.stage import Stage, Tally, stage
from benchmarks.attribution_peers.systems import PEERS_PYTHON, Spent, System
from benchmarks.attribution_peers.workload import FEW_TOPICS, RULES, SPAN_MS, TABLES, events_of, make_log, of_few_users, save
from benchmarks.common import LEAST_REPEATS, Result, Row, finish, parser, row
from headrace.logs import configure_logs
from schemas.topics import VIEWS

PARTITIONS = 2
#: Bounds of what has no peer.
MOST_GIB, MOST_S = 1.5, 1.0
GIB = 2**30
#: Part of our views that a keyed peer must have emitted: the last ones of each user stay open there, and in a small log
#: the watermark of bytewax, which reads a thousand records at a time, is far behind.
LEAST_VIEWS = 0.6


class Sizes(NamedTuple):
    """How much is run: events in the log, of them for plain Faust, open views, seconds of a stretch of the latency case.

    ``side_by_side``: the peers of a round run at the same time, and memory is measured while the first rounds begin. Most of
    the peers' time is waiting for their groups; what they cost is told in CPU seconds, which waiting does not use.
    """

    events: int
    faust: int
    views: int
    stretch_s: int
    side_by_side: bool = False


QUICK, FULL = Sizes(10_000, 500, 20_000, 1, side_by_side=True), Sizes(300_000, 20_000, 1_000_000, 10)


@dataclass(frozen=True)
class Run:
    """One run of a system: events a CPU second and a wall second, and what it wrote when that was looked at."""

    a_cpu_second: float
    a_second: float
    tally: Tally | None = None


class Runs:
    """Runs each system over the log again and again, each time under a new name; the first run's views are counted."""

    def __init__(self, at: Stage, sizes: Sizes) -> None:
        self._at = at
        log = make_log(sizes.events, seed=1, start_ms=int(time.time() - 172_800) * 1_000, partitions=PARTITIONS)
        few = of_few_users(log, sizes.faust)
        at.make(*FEW_TOPICS)
        at.fill(log)
        at.fill(few, FEW_TOPICS)
        self._log = at.folder / "log.msgpack"
        save(log, self._log)
        self.records, self.events, self.few = len(log), events_of(log), len(few)
        self._ran: Counter[str] = Counter()

    def ours(self, system: System) -> Run:
        """The worker, until it has committed the ends of its inputs."""
        name, before = self._name(system), self._at.ends(VIEWS.name)
        job = {
            "connections": self._at.connections.model_dump(),
            "name": name,
            "rules": RULES,
            "log": self._path(name, ".log"),
        }
        spent = system.run(job, lambda: self._at.caught_up(name))
        return self._run(system, spent, self.events, VIEWS.name, before)

    def loop(self, system: System) -> Run:
        """The core alone."""
        spent = system.run({"log": str(self._log), "partitions": PARTITIONS, "rules": RULES})
        return Run(self.events / spent.cpu_s, self.events / spent.wall_s)

    def peer(self, system: System) -> Run:
        """One that reads Kafka and ends by itself."""
        name = self._name(system)
        out, few = f"bench.views.{name}", system.name == "faust_join"
        events = self.few if few else self.events
        self._at.make(out, *(f"{name}-{table}-changelog" for table in TABLES if few))
        job = {"kafka": self._at.connections.kafka, "name": name, "out": out, "state": self._path(name, ".state")}
        spent = system.run({**job, "partitions": PARTITIONS, "records": self.records, "events": events})
        return self._run(system, spent, events, out, {})

    def _run(self, system: System, spent: Spent, events: int, out: str, since: dict[tuple[str, int], int]) -> Run:
        tally = self._at.tally(out, since) if self._ran[system.name] == 1 else None
        return Run(events / spent.cpu_s, events / spent.wall_s, tally)

    def _name(self, system: System) -> str:
        self._ran[system.name] += 1
        return f"{system.name.replace('_', '-')}-{self._ran[system.name]}"

    def _path(self, name: str, suffix: str) -> str:
        return str(self._at.folder / f"{name}{suffix}")


#: Case -> module, and how the peer is called.
PEERS = {
    "chunks": ("faust_join", "plain Faust agent"),
    "quixstreams": ("quixstreams_join", "quixstreams"),
    "bytewax": ("bytewax_join", "bytewax, recovery on"),
}


def speed(at: Stage, ours: System, sizes: Sizes, repeats: int) -> tuple[list[Row], list[str], float]:
    """Rows and notes of the speed cases, and our events a CPU second."""
    runs = Runs(at, sizes)
    there = {case: peer for case, peer in PEERS.items() if case == "chunks" or PEERS_PYTHON.is_file()}
    found: dict[str, list[Run]] = {case: [] for case in ("ours", "plain loop", *there)}
    with ExitStack() as stack:
        each = stack.enter_context(ThreadPoolExecutor(len(there))).map if sizes.side_by_side else map
        loop = stack.enter_context(System("loop", at.folder))
        peers = {
            case: stack.enter_context(System(module, at.folder, None if case == "chunks" else PEERS_PYTHON))
            for case, (module, _) in there.items()
        }
        for _ in range(repeats):
            found["ours"].append(runs.ours(ours))
            found["plain loop"].append(runs.loop(loop))
            for case, run in zip(peers, each(runs.peer, peers.values()), strict=True):
                found[case].append(run)
    _check_joins(found)
    names = {"plain loop": "the core without Kafka"} | {case: name for case, (_, name) in there.items()}
    rows = [
        row(case, _pairs(found["ours"], found[case]), name, "events/CPU s", higher_is_better=True)
        for case, name in names.items()
    ]
    notes = [
        f"{runs.events:,} events over {SPAN_MS // 60_000} min of event time, {PARTITIONS} partitions,"
        f" {runs.records - runs.events:,} ticks; plain Faust reads {runs.few:,} of them, those of some users.",
        *(_said(name, found[case][0]) for case, name in {"ours": "ours", **names}.items()),
    ]
    if len(there) < len(PEERS):
        notes.append(
            "quixstreams and bytewax are not installed, their cases are left out: `make bench-peers` installs them."
        )
    return rows, notes, rows[0].ours


def _check_joins(found: dict[str, list[Run]]) -> None:
    """Raise unless the peers on the whole log joined about what ours did: fewer views, as some of theirs stay open, with
    as many clicks a view."""
    ours = found["ours"][0].tally
    for case in ("quixstreams", "bytewax"):
        for run in found.get(case, [])[:1]:
            theirs = run.tally
            assert ours is not None and theirs is not None
            clicks = (theirs.clicks / max(1, theirs.views)) / (ours.clicks / ours.views)
            if not LEAST_VIEWS * ours.views <= theirs.views <= ours.views or abs(clicks - 1) > 0.1:
                raise AssertionError(f"{case} joined {theirs}, ours {ours}")


def _pairs(ours: Sequence[Run], peer: Sequence[Run]) -> list[tuple[float, float]]:
    return [(a.a_cpu_second, b.a_cpu_second) for a, b in zip(ours, peer, strict=True)]


def _said(name: str, run: Run) -> str:
    wall = f"{name}, first run: {run.a_second:,.0f} events a second of wall time"
    tally = run.tally
    if tally is None:
        return wall + "."
    return wall + f"; {tally.views:,} views with {tally.clicks:,} clicks and {tally.orders:,} orders when they closed."


def memory(at: Stage, views: int) -> list[Row]:
    """Rows of the memory cases."""
    with System("memory", at.folder) as system:
        grown = [system.run({"views": views}).told for _ in range(LEAST_REPEATS)]
    cases = {"views": "memory per million open views", "clicked": "memory per million open views, a click each"}
    return [
        row(case, [(told[key] / GIB * 1e6 / views, MOST_GIB) for told in grown], f"bound {MOST_GIB} GiB", "GiB")
        for key, case in cases.items()
    ]


def delay(at: Stage, worker: System, feeder: System, rate: float, stretch_s: int) -> tuple[list[Row], str]:
    """Rows of the latency cases at that rate (events/s), and a note."""
    at.empty()
    found, sent = latency.delays(at, worker, feeder, rate, stretch_s)
    bound = f"bound {MOST_S:g} s"
    rows = [
        row("event to view p99", [(d.p99, MOST_S) for d in found], bound, "s"),
        row("event to view p99, from the exact end of its window", [(d.p99_whole, MOST_S) for d in found], bound, "s"),
    ]
    p50 = sorted(d.p50 for d in found)[len(found) // 2]
    return rows, f"latency at {sent:,.0f} events/s of {rate:,.0f} wanted, half of the full load: p50 {p50:.3f} s."


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    options = parser("attribution", __doc__)
    chosen = options.parse_args(arguments)
    configure_logs(level=logging.WARNING)
    sizes = QUICK if chosen.quick else FULL
    with stage(PARTITIONS) as at, System("ours", at.folder) as ours, ThreadPoolExecutor(1) as aside:
        held = aside.submit(memory, at, sizes.views) if sizes.side_by_side else None
        rows, notes, full = speed(at, ours, sizes, LEAST_REPEATS)
        rows += held.result() if held else memory(at, sizes.views)
        with System("feed", at.folder) as feeder:
            late, note = delay(at, ours, feeder, full / 2, sizes.stretch_s)
    return finish("attribution", [*rows, *late], chosen, [*notes, note])


if __name__ == "__main__":
    main()
