"""Two hours of dirty events at a steady rate: memory flat, lag bounded, nothing lost.

One attribution worker with windows so small that its state reaches its steady size in the first minutes, a broker of
its own that keeps ten minutes, and a paced feeder, each a process. Memory is the median of the last fifth of the
samples against that of the second fifth. Every committed view is read back and counted.

    python -m benchmarks.soak --minutes 120 --rate 5000 --json benchmarks/results/soak.json
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.common import Result, Row, finish, parser
from benchmarks.plane.broker import broker
from benchmarks.plane.feeder import Plan, Said, feeder
from benchmarks.plane.standing import Standing, drained, standing
from benchmarks.plane.worker import Spec, worker
from headrace.memory import proportional, resident
from headrace.process import Process
from headrace.services.child import Restart
from schemas.connections import Connections
from schemas.errors import ServiceFailed, Unavailable
from schemas.topics import VIEWS
from streams.accounting import accounted
from streams.runtime.log import LogReader
from streams.settings import AttributionSettings, RuntimeSettings

EVERY_S = 10.0
#: Much longer than a snapshot grows old (a minute or two), so that a recovery finds its inputs.
RETENTION_S = 600
#: The bounds: growth of the memory, seconds of flow that may lie uncommitted.
GROWTH, LAG_S = 1.05, 10
#: Small segments, or retention and compaction would have nothing to delete. Kafka deletes a minute after it decides.
SMALL = {
    "log.segment.bytes": str(16 * 2**20),
    "log.retention.check.interval.ms": "10000",
    "log.segment.delete.delay.ms": "1000",
    "log.cleaner.backoff.ms": "5000",
}


@dataclass(frozen=True)
class Sample:
    """One look: seconds since the start, worker's resident and proportional bytes, records, seconds."""

    at_s: float
    rss: int
    pss: int
    lag: int
    age_s: float
    end: int

    def line(self, views: int) -> str:
        """For the terminal."""
        now = datetime.now(UTC).strftime("%H:%M:%S")
        return (
            f"{now} {self.at_s:6.0f} s  rss {self.rss / 2**20:6.1f} MiB  pss {self.pss / 2**20:6.1f} MiB  lag {self.lag:7,}  "
            f"watermark {self.age_s:5.1f} s  records {self.end:11,}  views {views:10,}"
        )


class Reader:
    """Counts the committed records of `search.views`, from where it was to where the topic ends."""

    def __init__(self, connections: Connections) -> None:
        self._reader, self._next = LogReader(connections, 60), dict.fromkeys(range(connections.partitions), 0)
        self.count = 0

    def read_on(self) -> None:
        """Count what has come since.

        Raises:
            Unavailable: the broker does not answer.
            Corrupt: retention was quicker.
        """
        for partition, start in self._next.items():
            end = self._reader.bounds(VIEWS.name, partition)[1]
            for batch in self._reader.read(VIEWS.name, partition, start, end):
                self.count += len(batch)
                self._next[partition] = batch[-1].offset + 1
            self._next[partition] = end


def rules(seconds: float) -> AttributionSettings:
    """Windows of 60, 120 and 300 s, or shorter, so that the longest way through them is a fifth of the run."""
    scale = min(1.0, seconds / 5 / 480)
    return AttributionSettings(
        click_window_s=max(1, round(60 * scale)),
        order_window_s=max(1, round(120 * scale)),
        return_window_s=max(1, round(300 * scale)),
        lateness_s=max(2, round(10 * scale)),
        tick_grid_s=max(1, round(20 * scale)),
        future_tolerance_s=3_600,  # the feeder ends by letting all windows close, ahead of the clock
    )


def watch(one: Process, feeding: Process, connections: Connections, every_s: float) -> tuple[list[Sample], Reader]:
    """Sample until the feeder has ended. A look that the broker did not answer is said and left out."""
    began, samples, views = time.monotonic(), list[Sample](), Reader(connections)
    while not feeding.poll():
        time.sleep(max(0.0, began + every_s * (len(samples) + 1) - time.monotonic()))
        one.poll()
        try:
            now = standing(connections)
            views.read_on()
        except Unavailable as error:
            print(f"no sample: {error}", flush=True)
            began += every_s
            continue
        samples.append(look(one, now, time.monotonic() - began))
        print(samples[-1].line(views.count), flush=True)
    if feeding.last_exit:
        raise ServiceFailed("feeder", f"ended with {feeding.last_exit}", str(feeding.log))
    return samples, views


def look(one: Process, now: Standing, at_s: float) -> Sample:
    """A sample; memory is 0 while the worker is down, the age 0 before its first commit."""
    pids = {} if one.pid is None else {"worker": one.pid}
    age_s = time.time() - now.watermark / 1_000 if now.watermark else 0.0
    return Sample(at_s, resident(pids).total, proportional(pids).total, now.lag, age_s, now.end)


def fifth(samples: Sequence[Sample], number: int) -> float:
    """Median resident bytes of one fifth of the samples, counted from 1."""
    cut = [round(len(samples) * n / 5) for n in (number - 1, number)]
    return statistics.median(sample.rss for sample in samples[slice(*cut)])


def judge(samples: Sequence[Sample], last: Standing, said: Said, views: int, rate: float) -> tuple[list[Row], list[str]]:
    """The rows, and what is wrong. A ratio of at least 1 is within the bound."""
    growth, lag = fifth(samples, 5) / fifth(samples, 2), max(sample.lag for sample in samples)
    told = sum(n for name, n in last.counters.items() if name.startswith("views."))
    rows = [
        Row("memory, last fifth to second", growth, GROWTH, "bound", GROWTH / growth, "times", len(samples)),
        Row("lag at most", lag, LAG_S * rate, "bound", LAG_S * rate / max(1, lag), "records", len(samples)),
        equal("input records accounted for", accounted(last.counters), said.kept, "records kept"),
        equal("views read back", views, told, "views counted"),
    ]
    wrong = [f"{r.case}: {r.ours:,.6g} of {r.peer:,.6g}" for r in rows[:2] if r.ratio < 1]
    wrong += [f"{r.case}: {r.ours:,.0f}, not {r.peer:,.0f}" for r in rows[2:] if r.ours != r.peer]
    if last.end != said.kept:
        wrong.append(f"the inputs end at {last.end:,} records, but {said.kept:,} were kept")
    if last.counters["pending"] or last.counters["views.provisional"] != last.counters["impressions"]:
        wrong.append(f"not every view has come out: {last.counters}")
    return rows, wrong


def equal(case: str, ours: int, peer: int, name: str) -> Row:
    """A row of two counts that have to be the same."""
    return Row(case, ours, peer, name, ours / max(1, peer), "records", 1)


def soak(chosen: argparse.Namespace, run: Path) -> tuple[list[Row], list[str], list[str]]:
    """Rows, what is wrong, notes."""
    seconds = chosen.minutes * 60
    windows = rules(seconds)
    with broker(run, run / "kafka", SMALL, RETENTION_S) as (_, connections):
        spec = Spec(connections=connections, group="soak", rules=windows, runtime=RuntimeSettings(), instance="one")
        plan = Plan(
            connections=connections,
            rules=windows,
            rate=chosen.rate,
            seconds=seconds,
            seed=chosen.seed,
            said=run / "said.json",
        )
        one, feeding = worker("worker", run, spec, Restart()), feeder(run, plan)
        try:
            one.start()
            feeding.start()
            samples, views = watch(one, feeding, connections, min(EVERY_S, seconds / 50))
            last = drained(connections, 300)
            views.read_on()
        finally:
            feeding.stop()
            one.stop()
    said = Said.model_validate_json(plan.said.read_text())
    rows, wrong = judge(samples, last, said, views.count, chosen.rate)
    if one.restarts or one.last_exit:
        wrong.append(f"the worker was restarted {one.restarts} times and ended with {one.last_exit}: {one.log}")
    events, lost = said.kept - said.sent["ticks"], last.end - accounted(last.counters)
    notes = [
        f"{events:,} events and {said.sent['ticks']:,} ticks in {seconds / 60:g} minutes, {events / seconds:,.0f} a second; "
        f"the feeder was {said.behind_s:.1f} s behind at most",
        f"lost: {lost}; counters: {last.counters}",
        f"watermark {max(s.age_s for s in samples):.1f} s old at most, of which {windows.lateness_s} s are the lateness; "
        f"proportional memory {samples[len(samples) // 4].pss / 2**20:.0f} MiB after a quarter, {samples[-1].pss / 2**20:.0f} "
        "at the end",
    ]
    return rows, wrong, notes


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, write; 0 when every bound holds, else 1, and the folder is kept."""
    options = parser("soak", __doc__)
    options.add_argument("--minutes", type=float, default=120, help="how long events flow")
    options.add_argument("--rate", type=float, default=5_000, help="true events a second; mishaps come on top")
    options.add_argument("--seed", type=int, default=1, help="of traffic and mishaps")
    options.add_argument("--keep", action="store_true", help="keep the folder with logs and broker")
    chosen = options.parse_args(arguments)
    if chosen.quick:
        chosen.minutes = 0.5
    run = Path(tempfile.mkdtemp(prefix="headrace-soak-"))
    print(f"folder {run}", flush=True)
    rows, wrong, notes = soak(chosen, run)
    result: Result = finish("soak", rows, chosen, [*notes, *(f"WRONG: {line}" for line in wrong)])
    if wrong or chosen.keep:
        print(f"{result.name}: kept {run}")
    else:
        shutil.rmtree(run)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
