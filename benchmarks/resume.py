"""kill -9 of the learner at any moment: its weights, optimiser and metrics against those of the undisturbed run.

The product's own learner over a small shop whose views keep coming, while weights, settings and items change. Its process says in which
phase it is; kills are aimed at each of them, at a random moment after it began, and some at any moment of its life. Some of the newest
checkpoints are harmed besides. Then the journalled steps are taken once more, in one process without a break, and everything is compared
bit by bit. ``ours`` is the number of faults survived with an identical result, ``peer`` the number of faults made.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import structlog

from benchmarks.common import Row, finish, parser
from benchmarks.resume_faults.marks import BACKWARD, BETWEEN, FILES, PHASES
from benchmarks.resume_faults.news import News, with_orders
from benchmarks.resume_faults.stage import Fault, Recovery, Stage, stage
from benchmarks.resume_faults.undisturbed import Verdict
from benchmarks.wishes.feed import as_new, steady_feed
from benchmarks.wishes.shop import TINY, small_shop
from schemas.errors import ServiceFailed
from schemas.journal import JournalRecord, StepIntent
from trainers import checkpoints
from trainers.journal import read_journal

#: Kills of a full run: at least so many, and in each phase; of a run that still lacks one then, at most.
KILLS, LEAST, MOST = 40, 3, 120
#: Where the kills of a quick run are aimed; share of the kills of a full one that are aimed at no phase.
QUICK, UNAIMED = (FILES, BACKWARD), 0.2
#: Records of views a second.
RATE = 20.0
POLICY = {"text_vocabulary": 4_000}  #: the demo's


def cut_manifest(folder: Path) -> None:
    """As a full disk would leave it."""
    file = folder / checkpoints.MANIFEST
    file.write_bytes(file.read_bytes()[:-20])


def alter_manifest(folder: Path) -> None:
    """One bit of its middle."""
    file = folder / checkpoints.MANIFEST
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)


def cut_optimiser(folder: Path) -> None:
    """The manifest is whole, a file that it names is not."""
    file = folder / checkpoints.TRAINING_FILES[0]
    file.write_bytes(file.read_bytes()[:-1])


HARMS: dict[str, Callable[[Path], None]] = {
    "torn manifest": cut_manifest,
    "altered manifest": alter_manifest,
    "truncated optimiser": cut_optimiser,
}


def aims(one: Stage, quick: bool) -> Iterator[str]:
    """Where the next kill is to fall, until enough have fallen everywhere; empty is any moment.

    Raises:
        ServiceFailed: some phase is not hit.
    """
    if quick:
        yield from QUICK
        return
    while True:
        made = Counter(fault.where for fault in one.faults if fault.where)
        lacking = [phase for phase in PHASES if phase != BETWEEN and made[phase] < LEAST]
        if made.total() >= KILLS and not lacking:
            return
        if made.total() >= MOST:
            raise ServiceFailed("kills", f"{dict(made)} after {made.total()}", str(one.folder))
        yield one.rng.choice(lacking) if lacking and one.rng.random() >= UNAIMED else ""


def disturb(one: Stage, news: News, quick: bool) -> None:
    """All faults, and what changes in between."""
    kills, changes = len(QUICK) if quick else KILLS, len(news)
    harms = list(HARMS.items())[: 1 if quick else None]
    at_harm = {kills * n // (len(harms) + 1): harm for n, harm in enumerate(harms, start=1)}
    one.settle()
    for number, aim in enumerate(aims(one, quick), start=1):
        one.kill(aim)
        while len(news) and changes - len(news) < changes * number // kills:
            one.say(news.send())
        if number == kills // 2:
            one.settings = "changed"
            one.say("settings change")
        if number in at_harm:
            one.harm(*at_harm[number])
    one.go_on()


def reached(faults: Sequence[Fault], journal: Sequence[JournalRecord]) -> list[int]:
    """The last step that had been decided when each fault came."""
    intents = [record for record in journal if isinstance(record, StepIntent)]
    return [max((i.step for i in intents if i.created_ms <= fault.at_ms), default=0) for fault in faults]


def survived(at: Sequence[int], verdict: Verdict) -> list[bool]:
    """Whether all is identical up to the fault after each of these, which came at steps ``at``; up to the end for the last."""
    return [until <= verdict.identical for until in (*at[1:], verdict.steps)]


def identical(case: str, outcomes: Sequence[bool]) -> Row:
    """The row of these faults: which of them were survived."""
    made, well = len(outcomes), sum(outcomes)
    return Row(case, float(well), float(made), "faults made", well / made, "faults", made)


def rows_of(outcomes: Sequence[tuple[Fault, bool]]) -> list[Row]:
    """All faults, then by where they fell."""
    rows = [identical("identical", [well for _, well in outcomes])]
    for phase in PHASES:
        if found := [well for fault, well in outcomes if fault.where == phase]:
            rows.append(identical(f"identical, kill -9 in {phase}", found))
    for kind in HARMS:
        if found := [well for fault, well in outcomes if fault.kind == kind]:
            rows.append(identical(f"identical, {kind}", found))
    return rows


def notes_of(verdict: Verdict, recoveries: Sequence[Recovery], resume_s: float) -> list[str]:
    """What was compared, and what recovery costs."""
    p50, p95 = np.percentile([recovery.seconds for recovery in recoveries], [50, 95])
    steps = [recovery.steps for recovery in recoveries]
    return [
        verdict.difference or f"{verdict.steps} steps and {verdict.checkpoints} checkpoints, all identical.",
        f"{len(verdict.refused)} folders without a good manifest: written when a kill came, or harmed.",
        f"From kill -9 to the end of the recovery: p50 {p50:.2f} s, p95 {p95:.2f} s, {len(recoveries)} recoveries; all but "
        f"{resume_s:.2f} s (median) is the start of the process. {sum(steps)} steps taken again, at most {max(steps)} at once.",
    ]


def measure(run: Path, seed: int, quick: bool) -> tuple[list[Row], list[str]]:
    """Rows and notes."""
    shop = small_shop(run, warm_steps=20, policy=TINY if quick else POLICY)
    with stage(run, shop, seed) as one:
        with steady_feed(with_orders(as_new(shop.examples)), one.connections, RATE):
            disturb(one, News(shop, one.connections), quick)
        verdict = one.compare()
        well = survived(reached(one.faults, read_journal(one.connections)), verdict)
        outcomes = [(f, same and one.passed_over(f.checkpoint)) for f, same in zip(one.faults, well, strict=True)]
        return rows_of(outcomes), notes_of(verdict, one.recoveries, one.resume_s)


def main(arguments: Sequence[str] | None = None) -> int:
    """Kill, compare, print, write; 0 when every result was identical, else 1, and the folder is kept."""
    options = parser("resume", __doc__)
    options.add_argument("--seed", type=int, default=1, help="of the moments of faults")
    options.add_argument("--keep", action="store_true", help="keep the folder with logs, store and broker")
    chosen = options.parse_args(arguments)
    run = Path(tempfile.mkdtemp(prefix="headrace-resume-"))
    print(f"folder {run}", flush=True)
    with (run / "undisturbed.log").open("a") as said:
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(said))
        rows, notes = measure(run, chosen.seed, chosen.quick)
        structlog.reset_defaults()
    finish("resume", rows, chosen, notes)
    wrong = any(row.ours < row.peer for row in rows)
    if wrong or chosen.keep:
        print(f"kept {run}")
    else:
        shutil.rmtree(run)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
