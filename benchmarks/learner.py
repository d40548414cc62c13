"""Page views that the learner learns from in a second: the demo's small policy, default settings, a step after the other.

Without Kafka a step is the product's own (`trainers.step.advance`): prompts, rollouts, rewards, loss, the warm-start pairs mixed in, AdamW.
Through Kafka it is the learner as `headrace learn` starts it, on a real broker: it reads its examples, and journal, checkpoints, gate and
metrics are included. Either has a backlog, so that each page view of a step is one that was never seen before, and one thread, as in the
demo, where the other core serves. They take turns. CPU seconds are counted, all threads of the process, which a busy machine does not
stretch as it does the wall's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec
import structlog

from benchmarks.common import LEAST_REPEATS, Result, Row, finish, parser, row
from benchmarks.wishes.shop import SmallShop, small_shop
from benchmarks.wishes.started import Look, Started, with_metrics
from headrace.folder import RunFolder
from headrace.stack import open_stack
from schemas.journal import StepIntent
from schemas.weights import RewardWeights
from trainers import checkpoints
from trainers.follow import Arrival
from trainers.settings import LearnerSettings
from trainers.state import Versions, adopt, load_state
from trainers.step import advance
from trainers.tools import open_tools

#: Views a second that are asked for; steps before the measured ones; steps a repeat, and its seconds through Kafka: two checkpoints.
BOUND, WARM_UP, STEPS, SECONDS = 60.0, 5, 20, 30.0
ITEMS, QUICK_ITEMS = 2_000, 240


class Line:
    """A learner over a prepared shop, whose views come again and again as new ones."""

    def __init__(self, shop: SmallShop) -> None:
        self.settings: LearnerSettings = shop.settings.trainers.learner.model_copy(update={"held_out_share": 0.0})
        versions = Versions(shop.artefacts.relevance, shop.artefacts.identifiers)
        warm = checkpoints.read(shop.store, shop.artefacts.frozen)
        self.state = load_state(shop.store, warm, self.settings, versions)
        self.tools = open_tools(shop.store, shop.artefacts, self.state.policy, self.settings, shop.settings.reward)
        self.views = shop.examples

    def use(self, settings: LearnerSettings) -> None:
        """Take steps under these settings from now on."""
        self.tools = replace(self.tools, settings=settings)
        adopt(self.state, settings)

    def step(self) -> int:
        """One step on fresh views; how many it learned from."""
        number, first = self.state.step + 1, self.state.step * self.settings.prompts
        records = [self._arrival(first + n) for n in range(self.settings.prompts)]
        intent = StepIntent(number, {0: first + len(records)}, RewardWeights(), None, 0, number, 0)
        batch, _ = advance(self.tools, self.state, records, intent)
        if batch.fresh != self.settings.prompts or len(batch.views) != batch.fresh:
            raise AssertionError(f"step {number} learned from {len(batch.views)} views, {batch.fresh} of them fresh")
        return batch.fresh

    def rate(self, steps: int) -> float:
        """Views per CPU second of this many steps."""
        started = time.process_time()
        views = sum(self.step() for _ in range(steps))
        return views / (time.process_time() - started)

    def _arrival(self, offset: int) -> Arrival:
        view = self.views[offset % len(self.views)]
        fresh = msgspec.structs.replace(view, request_id=f"b{offset}", example_id=f"b{offset}:provisional:1")
        return Arrival(0, offset, fresh)


def measure(line: Line, started: Started, steps: int, seconds: float) -> tuple[list[float], list[tuple[Look, Look]]]:
    """In turn: views per CPU second of a line, and what a learner over the same shop said before and after."""
    for _ in range(WARM_UP):
        line.step()
    started.run(seconds)
    rates, runs = [], []
    for _ in range(LEAST_REPEATS):
        rates.append(line.rate(steps))
        runs.append(started.run(seconds))
    return rates, runs


def rows_of(name: str, rates: Sequence[float], runs: Sequence[tuple[Look, Look]]) -> list[Row]:
    """Without Kafka, through it, and through it by the wall."""
    views = [last.views - first.views for first, last in runs]
    cpu = [n / (last.cpu_s - first.cpu_s) for n, (first, last) in zip(views, runs, strict=True)]
    wall = [n / (last.at - first.at) for n, (first, last) in zip(views, runs, strict=True)]
    asked = f"bound {BOUND:g} views/s"
    return [
        row(name, [(rate, BOUND) for rate in rates], asked, "views/CPU s", higher_is_better=True),
        row(
            f"{name}, through Kafka",
            list(zip(cpu, rates, strict=True)),
            "without Kafka",
            "views/CPU s",
            higher_is_better=True,
        ),
        row(f"{name}, through Kafka, wall", [(rate, BOUND) for rate in wall], asked, "views/s", higher_is_better=True),
    ]


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    chosen = parser("learner", __doc__).parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    items = QUICK_ITEMS if chosen.quick else ITEMS
    with tempfile.TemporaryDirectory(prefix="headrace-learner-") as root:
        folder = RunFolder(Path(root))
        shop = small_shop(folder.root, warm_steps=20, items=items, policy={"text_vocabulary": 4_000})
        line = Line(shop)
        learner = line.settings
        name = f"demo's small policy, 1 of 2 cores, G {learner.group}"
        with open_stack(folder, with_metrics(shop.settings)) as stack:
            started = Started(stack, shop.examples)
            found = measure(line, started, 4 if chosen.quick else STEPS, 2.0 if chosen.quick else SECONDS)
            started.end()
    note = f"{learner.prompts} views a step and {learner.warm_start_batch} warm-start pairs; {items} items."
    return finish("learner", rows_of(name, *found), chosen, [note])


if __name__ == "__main__":
    main()
