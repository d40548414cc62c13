"""Exactly once, whatever is done to workers, broker and disk: committed output against the undisturbed run.

Attribution under a flow of dirty events. After each round of faults, when everything is committed, views (in their order)
and quarantine (as a multiset) are compared byte by byte with a pure core that reads the inputs straight through. ``ours`` is the number of
faults survived with an identical result, ``peer`` the number of faults made. The take-over is timed from kill -9 to the first new
commit that a reader sees.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import structlog

from benchmarks.common import Row, finish, parser
from benchmarks.delivery_faults import full_disk, takeover
from benchmarks.delivery_faults.kinds import BROKER, DISK, KILL, PAUSE, SECOND, TERM
from benchmarks.delivery_faults.stage import Kind, Stage, Tally, stage

#: Kind, rounds, faults a round. A comparison ends a round; static members every other one.
FULL: tuple[tuple[Kind, int, int], ...] = ((KILL, 10, 5), (BROKER, 5, 1), (SECOND, 5, 2), (TERM, 5, 2), (PAUSE, 5, 1))
QUICK: tuple[tuple[Kind, int, int], ...] = ((KILL, 1, 2), (TERM, 1, 1), (SECOND, 1, 1))
#: What only a full run does besides.
DISK_FULL, TAKE_OVER = DISK.name, "take-over"
OPEN_VIEWS, TAKEOVERS, BOUND_S = 100_000, 7, 5.0


def rounds(one: Stage, plan: Sequence[tuple[Kind, int, int]]) -> list[Tally]:
    """Every round of the plan, then the end of the log, whose difference would be everybody's."""
    tallies = [one.round(kind, faults, static=n % 2 == 1) for kind, times, faults in plan for n in range(times)]
    if one.close():
        return tallies
    return [Tally(tally.kind, tally.made, 0, tally.events) for tally in tallies]


def identical(case: str, tallies: Sequence[Tally]) -> Row:
    """The row of these rounds."""
    made, survived = sum(tally.made for tally in tallies), sum(tally.survived for tally in tallies)
    return Row(case, float(survived), float(made), "faults made", survived / made, "faults", made)


def taken(case: str, seconds: Sequence[float]) -> Row:
    """The row of these take-overs."""
    p50 = statistics.median(seconds)
    return Row(case, p50, BOUND_S, "bound", BOUND_S / p50, "s", len(seconds))


def kinds(quick: bool) -> list[str]:
    """What a run consists of, by the names that ``--only`` takes."""
    return [kind.name for kind, _, _ in (QUICK if quick else FULL)] + [DISK_FULL, TAKE_OVER] * (not quick)


def main(arguments: Sequence[str] | None = None) -> int:
    """Break, compare, measure, print, write; 0 when every result was identical, else 1, and the folder is kept."""
    options = parser("delivery", __doc__)
    options.add_argument("--seed", type=int, default=1, help="of events, mishaps and the moments of faults")
    options.add_argument("--only", metavar="KIND", help=f"one of: {', '.join(kinds(quick=False))}")
    options.add_argument("--keep", action="store_true", help="keep the folder with logs and broker")
    chosen = options.parse_args(arguments)
    if chosen.only not in (None, *(known := kinds(chosen.quick))):
        options.error(f"--only {chosen.only!r}: must be one of {', '.join(known)}" + " (with --quick)" * chosen.quick)
    run = Path(tempfile.mkdtemp(prefix="headrace-delivery-"))
    print(f"folder {run}", flush=True)
    # What the supervisor says of every end and start goes to a file beside the log of faults.
    with (run / "supervisor.log").open("a") as said:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(said))
        rows, notes = measure(run, chosen.seed, chosen.quick, chosen.only)
        structlog.reset_defaults()
    result = finish("delivery", rows, chosen, notes)
    wrong = any(row.ours < row.peer for row in result.rows if row.unit == "faults")
    if wrong or chosen.keep:
        print(f"kept {run}")
    else:
        shutil.rmtree(run)
    return int(wrong)


def measure(run: Path, seed: int, quick: bool, only: str | None) -> tuple[list[Row], list[str]]:
    """Rows and notes."""
    plan = [entry for entry in (QUICK if quick else FULL) if only in (None, entry[0].name)]
    tallies: list[Tally] = []
    notes: list[str] = []
    rows: list[Row] = []
    if plan:
        with stage(run / "faults", seed) as one:
            tallies += rounds(one, plan)
    if not quick and only in (None, DISK_FULL):
        tally = full_disk.survive(run / "disk", seed)
        if tally is None:
            notes.append("disk full: left out, as no small file system can be mounted here (needs root, or user namespaces)")
        else:
            tallies.append(tally)
    if tallies:
        rows.append(identical("identical", tallies))
        kinds = dict.fromkeys(tally.kind for tally in tallies)
        rows += [identical(f"identical, {kind}", [t for t in tallies if t.kind == kind]) for kind in kinds]
        notes += [f"{kind}: during {sum(t.events for t in tallies if t.kind == kind):,} events" for kind in kinds]
    if not quick and only in (None, TAKE_OVER):
        times = takeover.measure(run / "takeover", seed, OPEN_VIEWS, TAKEOVERS)
        rows += [taken(f"take-over {how}, p50, {OPEN_VIEWS // 1_000}k open views", said) for how, said in times.items()]
        notes += [f"take-over {how}: {' '.join(f'{s:.2f}' for s in sorted(said))} s" for how, said in times.items()]
    return rows, notes


if __name__ == "__main__":
    sys.exit(main())
