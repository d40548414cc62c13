"""Page views that the learner learns from in a second: the demo's small policy, default settings, a step after the other.

A step is the product's own (`trainers.step.advance`): prompts, rollouts, rewards, loss, the warm-start pairs mixed in, AdamW. There is a
backlog, so that each of its page views is one that was never seen before. Journal and checkpoints are left out. The learner has one thread, as in the
demo, where the other core serves; its CPU seconds are counted, which a busy machine does not stretch as it does the wall's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec
import structlog

from benchmarks.common import LEAST_REPEATS, Result, Row, finish, parser, row
from benchmarks.wishes.shop import SmallShop, small_shop
from schemas.journal import StepIntent
from schemas.weights import RewardWeights
from trainers import checkpoints
from trainers.follow import Arrival
from trainers.settings import LearnerSettings
from trainers.state import Versions, load_state
from trainers.step import advance
from trainers.tools import open_tools

#: Views a second that are asked for; steps before the measured ones; steps a repeat.
BOUND, WARM_UP, STEPS = 60.0, 5, 20
ITEMS, QUICK_ITEMS = 2_000, 240


class Line:
    """A learner over a prepared shop, whose views come again and again as new ones."""

    def __init__(self, shop: SmallShop) -> None:
        self.settings: LearnerSettings = shop.settings.trainers.learner.model_copy(update={"held_out_share": 0.0})
        versions = Versions(shop.artefacts.relevance, shop.artefacts.identifiers)
        warm = checkpoints.read(shop.store, shop.artefacts.frozen)
        self.state = load_state(shop.store, warm, self.settings, versions)
        self._tools = open_tools(shop.store, shop.artefacts, self.state.policy, self.settings, shop.settings.reward)
        self._views = shop.examples

    def step(self) -> int:
        """One step on fresh views; how many it learned from."""
        number, first = self.state.step + 1, self.state.step * self.settings.prompts
        records = [self._arrival(first + n) for n in range(self.settings.prompts)]
        intent = StepIntent(number, {0: first + len(records)}, RewardWeights(), None, 0, number, 0)
        batch, _ = advance(self._tools, self.state, records, intent)
        if batch.fresh != self.settings.prompts or len(batch.views) != batch.fresh:
            raise AssertionError(f"step {number} learned from {len(batch.views)} views, {batch.fresh} of them fresh")
        return batch.fresh

    def rate(self, steps: int) -> float:
        """Views per CPU second of this many steps."""
        started = time.process_time()
        views = sum(self.step() for _ in range(steps))
        return views / (time.process_time() - started)

    def _arrival(self, offset: int) -> Arrival:
        view = self._views[offset % len(self._views)]
        fresh = msgspec.structs.replace(view, request_id=f"b{offset}", example_id=f"b{offset}:provisional:1")
        return Arrival(0, offset, fresh)


def measure(line: Line, name: str, steps: int) -> Row:
    """The row of a line."""
    for _ in range(WARM_UP):
        line.step()
    rates = [(line.rate(steps), BOUND) for _ in range(LEAST_REPEATS)]
    return row(name, rates, f"bound {BOUND:g} views/s", "views/CPU s", higher_is_better=True)


def main(arguments: Sequence[str] | None = None) -> Result:
    """Measure, print, write."""
    chosen = parser("learner", __doc__).parse_args(arguments)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(30))
    policy = {"text_vocabulary": 4_000}
    with tempfile.TemporaryDirectory(prefix="headrace-learner-") as folder:
        shop = small_shop(Path(folder), warm_steps=20, items=QUICK_ITEMS if chosen.quick else ITEMS, policy=policy)
        line = Line(shop)
        settings = line.settings
        name = f"demo's small policy, 1 of 2 cores, G {settings.group}"
        made = measure(line, name, 4 if chosen.quick else STEPS)
    note = f"{settings.prompts} views a step and {settings.warm_start_batch} warm-start pairs; {QUICK_ITEMS if chosen.quick else ITEMS} items."
    return finish("learner", [made], chosen, [note])


if __name__ == "__main__":
    main()
