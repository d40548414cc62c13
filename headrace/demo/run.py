"""`headrace demo` from start to end. Each stage is a function; what they find is put together by `headrace.demo.collect`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from rich.text import Text

from headrace.demo.collect import collect
from headrace.demo.profile import demo_settings, live_minutes, slowness
from headrace.demo.watch import Watch, wait_until_taken
from headrace.errand import run_errand
from headrace.folder import RunFolder
from headrace.logs import configure_logs
from headrace.processes import until_stopped
from headrace.report.page import render
from headrace.report.tables import quality_table
from headrace.settings import Settings
from headrace.shop.delivery import Delivery
from headrace.shop.driver import Driver, LiveLog
from headrace.shop.sink import KafkaSink
from headrace.stack import Stack, open_stack
from headrace.story import Story
from headrace.supervisor import Patience
from headrace.terminal import coloured
from headrace.up import patience_of, stay_up
from headrace.world import World
from headrace.worlds import open_run_world
from schemas.artefacts import Artefacts
from schemas.errors import InvalidSetting
from schemas.store import Store

#: What the operator decides half-way: relevance counts double, in the order of a page and in what is learned.
CHANGE = ("relevance=2",)
WHY = "people complain about items they did not ask for"
#: Longest wait for the workers to take what was sent (s).
SETTLE_S = 60.0


@dataclass
class DemoResult:
    """``ok``: the loop closed and nothing was lost; else ``why`` says what is missing."""

    folder: RunFolder
    report: dict[str, Any] = field(default_factory=dict)
    ok: bool = False
    why: str = ""


def run_demo(
    data: str | None,
    minutes: float,
    seed: int | None,
    items: int | None,
    report: Path | None,
    keep: bool,
    own_services: bool = False,
) -> DemoResult:
    """Run the demo; see `headrace demo --help`.

    Raises:
        HeadraceError: a service did not come up, the data are not as documented, or the loop broke.
    """
    story, started = Story(), time.time()
    settings, planned = demo_settings(data, minutes, seed, items, own_services)
    world, settings = open_demo_world(story, settings)
    folder = RunFolder.new()
    target = (report or folder.root).resolve()
    folder.create()
    configure_logs(folder.logs / "headrace.log")
    told = f" demo, data {settings.data}, seed {settings.seed}; run folder {folder.root}"
    story.say(coloured(("Headrace", "bold"), told))
    patience = patience_of(story)
    with ExitStack() as context:
        stack = services(story, context, folder, settings, patience)
        prepared = prepare(story, stack)
        driver = start(story, stack, world)
        slow = slowness(settings, prepared["seconds"]["warm_start"])
        log = live(story, stack, driver, live_minutes(minutes, planned, time.time() - started, settings.data, slow))
        settle(story, stack, driver)
        if not keep:
            stack.supervisor.stop("learner")
            stack.supervisor.stop("server")
        quality = evaluate(story, stack)
        result = DemoResult(folder)
        with story.stage("report", "Report"):
            result.report = collect(stack, driver, log, quality, prepared, story.seconds, started)
            result.ok, result.why = result.report["closed"], result.report["why"]
            write_report(result.report, target)
        story.console.print(quality_table(quality))
        story.say(verdict(result))
        story.say(coloured((str(target / "report.html"), "bold")))
        if keep:
            stack.start_console()
            stay_up(story, stack, until_stopped(patience.over))
    return result


def verdict(result: DemoResult) -> Text:
    """The summary on the terminal."""
    report = result.report
    closed = ("The loop closed", "green") if result.ok else ("The loop did not close", "red")
    learner, events = report["learner"], report["events"]
    return coloured(
        closed,
        "" if result.ok else f" ({result.why})",
        f": {learner['steps']} gradient steps, {learner['promoted']} of {learner['checkpoints']} checkpoints promoted, "
        f"{events['lost']} events lost, {events['quarantined']} in quarantine, {report['seconds']['total']:.0f} s in all",
    )


def services(story: Story, context: ExitStack, folder: RunFolder, settings: Settings, patience: Patience) -> Stack:
    """Kafka, Redis and the database, up until ``context`` ends."""
    with story.stage("services", "Kafka, Redis, database") as stage:
        stack = context.enter_context(open_stack(folder, settings, patience))
        stage.update(1.0, f"Kafka {stack.settings.kafka}")
    return stack


def open_demo_world(story: Story, settings: Settings) -> tuple[World, Settings]:
    """The world, and settings that keep its logged past from the learner: the warm start has that.

    It comes before anything is started, so that data which are not as documented are told at once.

    Raises:
        InvalidSetting, InvalidData: there are no such data, or not as documented, or nobody shops live in them.
    """
    with story.stage("data", f"Data {settings.data}") as stage:
        world = open_run_world(settings)
        stage.update(1.0, f"{len(world.catalogue)} items")
    if next(world.requests(), None) is None:
        name, share = "shop.folder.log_history_share", settings.shop.folder.log_history_share
        raise InvalidSetting(name, share, "low enough to leave page views for the live part", "lower it, or log more")
    learner = settings.trainers.learner.model_copy(update={"learn_from_ms": world.live_ms})
    trainers = settings.trainers.model_copy(update={"learner": learner})
    return world, settings.model_copy(update={"trainers": trainers})


def prepare(story: Story, stack: Stack) -> dict[str, Any]:
    """Identifiers, relevance scorer and warm start, in a process of their own."""
    texts = {"identifiers": "Identifiers and relevance scorer", "warm_start": "Warm start on logged clicks"}
    with story.errand() as tell:
        result = run_errand(
            ("prepare", "--run", str(stack.folder.root)),
            stack.folder.logs / "prepare.log",
            lambda stage, share, note: tell(texts[stage], share, note),
            stack.settings.secret_environment(),
        )
    prepared: dict[str, Any] = result
    story.seconds.update(prepared["seconds"])
    for note in prepared["notes"]:
        story.say(note)
    return prepared


def start(story: Story, stack: Stack, world: World) -> Driver:
    """Workers, learner and server come up while the logged past goes through the stream."""
    settings, store = stack.settings, Store(stack.settings.store)
    sids = _identifiers(store)
    delivery = Delivery(KafkaSink(settings.connections), settings.delivery, settings.seed)
    driver = Driver(world, delivery, settings.delivery, sids, Artefacts.load(store).identifiers)
    with story.stage("start", "Workers, learner and server; the logged past replayed") as stage:
        stack.start_workers()
        stack.start_learner()
        stack.start_server(wait=False)
        driver.replay_history()
        stage.update(0.5, f"{sum(driver.delivery.sent.values())} records")
        stack.supervisor.wait(["server"])
    return driver


def _identifiers(store: Store) -> dict[str, tuple[int, ...]]:
    """Identifier of every item, read without torch or faiss."""
    import io

    import numpy as np

    from schemas.catalogue import Catalogue

    version = Artefacts.load(store).identifiers
    with np.load(io.BytesIO(store.read(f"identifiers/{version}/arrays.npz")), allow_pickle=False) as arrays:
        sids = arrays["sids"].tolist()
    return dict(zip(Catalogue.load(store).items, map(tuple, sids), strict=True))


def live(story: Story, stack: Stack, driver: Driver, minutes: float) -> LiveLog:
    """People shop; half-way the operator changes the weights by the command line."""
    watch = Watch(stack, driver)
    started = time.monotonic()
    with story.live() as table:
        watch.start(table)
        try:
            half_way = partial(change_weights, story, stack)
            log = asyncio.run(driver.shop(stack.server, minutes, watch.on_round, half_way))
        finally:
            watch.stop()
    story.seconds["live"] = time.monotonic() - started
    told = f"Live stream: {len(log.searches)} searches, the clock ran {log.speed:,.0f} times faster than the wall's "
    story.done(told, f"({story.seconds['live']:.1f} s)")
    return log


def change_weights(story: Story, stack: Stack) -> None:
    """What an operator would type."""
    command = [
        sys.executable,
        "-m",
        "headrace.cli",
        "weights",
        "set",
        *CHANGE,
        "--why",
        WHY,
        "--run",
        str(stack.folder.root),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    said = (done.stdout or done.stderr).strip()
    story.say(coloured((f"headrace weights set {' '.join(CHANGE)}", "yellow"), f" → {said}"))
    if done.returncode != 0:
        raise RuntimeError(done.stderr)


def settle(story: Story, stack: Stack, driver: Driver) -> None:
    """The clock runs to the present, every window closes, and the learner takes the last views."""
    with story.stage("settle", "Windows close, the last views are learned") as stage:
        driver.drain(stack.settings.now_ms)
        stage.update(0.3)
        left = wait_until_taken(stack.settings, SETTLE_S)
        stage.update(1.0, "all taken" if not left else f"{left} records left")


def evaluate(story: Story, stack: Stack) -> dict[str, Any]:
    """Online against frozen and the yardsticks, in a process of its own."""
    with story.stage("evaluation", "Online against frozen, BM25 and a click memory") as stage:
        quality: dict[str, Any] = run_errand(
            ("evaluate", "--run", str(stack.folder.root)),
            stack.folder.logs / "evaluate.log",
            lambda text, share, note: stage.update(share, text),
            stack.settings.secret_environment(),
        )
    return quality


def write_report(report: dict[str, Any], target: Path) -> None:
    """report.json and report.html."""
    import msgspec

    target.mkdir(parents=True, exist_ok=True)
    (target / "report.json").write_bytes(msgspec.json.format(msgspec.json.encode(report), indent=1))
    (target / "report.html").write_text(render(report))
