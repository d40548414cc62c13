"""What kills fall on: a broker, a prepared shop with views that keep coming, and the product's learner, started again after each."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.plane.broker import broker
from benchmarks.resume_faults.marks import OPTIMISER, PUBLICATION, RECOVERY, START, STEP, Mark, Trail
from benchmarks.resume_faults.undisturbed import Verdict, compare
from benchmarks.wishes.shop import SmallShop
from headrace.services import leash
from headrace.settings import Settings
from headrace.stack import LEAN
from headrace.topics_admin import create_topics
from schemas.connections import Connections
from schemas.errors import Corrupt, ServiceFailed, Unavailable
from schemas.store import Store
from trainers import checkpoints
from trainers.learner import Learner
from trainers.policies.base import Policy
from trainers.settings import GateSettings, LearnerSettings
from trainers.tools import Tools, open_tools

ROOT = Path(__file__).parents[2]
#: Small steps and a checkpoint after a few: more moments to be hit in. Old ones are pruned in between.
LEARNER = LearnerSettings(
    group=8, prompts=8, warm_start_batch=8, window_size=256, held_out_share=0.2, held_out_size=64, wait_s=0.2, idle_steps=0,
    checkpoint_every_steps=6, checkpoint_every_s=3600, keep_checkpoints=8, catalogue_every_s=0.0,
)  # fmt: skip
#: What an operator changes half way.
CHANGED = LEARNER.model_copy(update={"learning_rate": 1e-3, "window_size": 128, "group": 6})
GATE = GateSettings(views=16, min_views=8, beam=8, repeats=100, margin=0.5)
#: Longest wait for a learner to come to where it is wanted, on a busy machine (s); longest time it is left alone before a kill (s).
PATIENCE_S, ALONE_S = 180.0, 2.0


@dataclass(frozen=True)
class Fault:
    """``where``: the phase that a kill fell into; empty for a harmed checkpoint, which is named then. ``at_ms``: wall time."""

    kind: str
    at_ms: int
    where: str = ""
    checkpoint: str = ""


@dataclass(frozen=True)
class Recovery:
    """From the last kill to the end of the recovery, and the steps that it took again."""

    seconds: float
    steps: int


class Stage:
    """One line of training. ``rng`` draws the moments."""

    def __init__(self, folder: Path, shop: SmallShop, connections: Connections, seed: int) -> None:
        self.folder, self.connections, self.rng = folder, connections, random.Random(seed)
        self.log = folder / "learner.log"
        self.faults: list[Fault] = []
        self.recoveries: list[Recovery] = []
        self._artefacts, self._untouched = shop.artefacts, folder / "untouched"
        shutil.copytree(connections.store, self._untouched)
        self._settings = {
            name: _settings(shop, connections, one) for name, one in (("first", LEARNER), ("changed", CHANGED))
        }
        for name, settings in self._settings.items():
            (folder / f"{name}.json").write_text(settings.model_dump_json())
        self.settings = "first"  #: under which the next process starts
        self._trail = Trail(folder / "marks")
        self._child: subprocess.Popen[bytes] | None = None
        self._killed_at = 0.0
        self._retaken = 0

    def settle(self) -> None:
        """Start the first process, and let it learn until everything has happened twice."""
        self._start()
        for _ in range(2):
            self._until(lambda before, mark: before == PUBLICATION != mark.phase)

    def kill(self, aim: str = "") -> Fault:
        """kill -9 of the learner that runs, else of a new one: in this phase or soon after it, without ``aim`` at any moment.

        Raises:
            ServiceFailed: the learner has ended by itself, or does not come to the phase.
        """
        if self._child is None:
            self._start()
        self._come_to(aim)
        if self._child is None or leash.end(self._child) is not None:
            raise ServiceFailed("learner", "has ended by itself", str(self.log))
        self._killed_at, at_ms = time.monotonic(), int(time.time() * 1000)
        self._child.kill()
        self._child.wait()
        self._child, died = None, self._trail.last()
        fault = Fault("kill -9", at_ms, died.phase)
        self.faults.append(fault)
        late_ms = 1000 * (self._killed_at - died.at)
        inside = " > ".join(died.path) or died.phase
        self.say(
            f"fault {len(self.faults)}, kill -9 aimed at {aim or 'any moment'}: {inside}, {late_ms:.1f} ms after it began"
        )
        return fault

    def harm(self, kind: str, hurt: Callable[[Path], None]) -> None:
        """Do something to the newest good checkpoint while nobody runs."""
        store = Store(self.connections.store)
        good = checkpoints.newest(store, lambda *_: None)
        if good is None or good.step == 0:
            raise Unavailable("a checkpoint to harm", f"none is good in {store.url}", "let the learner make some first")
        hurt(checkpoints.policy_folder(store, good.checkpoint))
        try:
            checkpoints.verify(store, good.checkpoint)
        except Corrupt as error:
            self.say(f"fault {len(self.faults) + 1}, {kind}: {error}")
        else:
            raise AssertionError(f"{kind}: {good.checkpoint} still passes its checks")
        self.faults.append(Fault(kind, int(time.time() * 1000), checkpoint=good.checkpoint))

    def go_on(self) -> None:
        """The last process: recovers, learns on until it has made another checkpoint, and ends in good order."""
        self._start()
        self._until(lambda before, mark: before == RECOVERY != mark.phase)
        self._until(lambda before, mark: before == PUBLICATION != mark.phase)
        self.end()

    def end(self) -> None:
        """SIGTERM, and the exit status 0.

        Raises:
            ServiceFailed: another status, or none.
        """
        child = self._child
        if child is None:
            return
        child.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + PATIENCE_S
        while (status := leash.end(child)) is None and time.monotonic() < deadline:
            self._trail.next(0.05)
        if status != 0:
            child.kill()
            raise ServiceFailed("learner", f"exit status {status} after SIGTERM", str(self.log))
        self._child = None

    def compare(self) -> Verdict:
        """The undisturbed run, from the warm start, held against this one."""
        store, settings = Store(str(self._untouched)), self._settings["first"]
        connections = self.connections.model_copy(update={"store": store.url})

        def tools(policy: Policy, chosen: LearnerSettings) -> Tools:
            return open_tools(store, self._artefacts, policy, chosen, settings.reward)

        learner = Learner(connections, store, self._artefacts, settings.trainers, tools)
        try:
            return compare(self.connections, Store(self.connections.store), learner)
        finally:
            learner.close()

    @property
    def resume_s(self) -> float:
        """Median seconds of a whole `Learner.resume`: steps taken again, and what a publication had left open."""
        return self._trail.usual_s(RECOVERY)

    def passed_over(self, checkpoint: str) -> bool:
        """Whether a learner has said that it does not take this checkpoint; where none is named, none has to."""
        if not checkpoint:
            return True
        lines = self.log.read_text().splitlines()
        said = [json.loads(line) for line in lines if line.startswith("{")]
        return any(one["event"] == "checkpoint refused" and one["checkpoint"] == checkpoint for one in said)

    def say(self, text: str) -> None:
        """To the terminal and to the log of faults, with the time."""
        line = f"{datetime.now(UTC).strftime('%H:%M:%S.%f')[:-3]} {text}"
        print(line, flush=True)
        with (self.folder / "faults.log").open("a") as file:
            file.write(line + "\n")

    def close(self) -> None:
        """End what runs."""
        if self._child is not None and leash.end(self._child) is None:
            self._child.kill()
            self._child.wait()
        self._trail.close()

    def _start(self) -> None:
        argv = (
            sys.executable, "-m", "benchmarks.resume_faults.worker",
            str(self.folder / f"{self.settings}.json"), str(self.folder / "marks"),
        )  # fmt: skip
        self._trail.begin()
        self._retaken = 0
        self._child = leash.spawn(argv, {**os.environ, **LEAN}, ROOT, self.log)

    def _come_to(self, aim: str) -> None:
        """Wait until it is time to kill. A learner that has recovered already meets its start and recovery no more: any moment then."""
        at_start = self._trail.now.phase == START
        if aim in ("", START) or (aim == RECOVERY and not at_start):
            self._alone(self.rng.uniform(0, self._trail.usual_s(START) + (0 if aim else 2 * ALONE_S)))
            return
        if aim != RECOVERY:
            if at_start:
                self._until(lambda before, mark: before == RECOVERY != mark.phase)
            self._alone(self.rng.uniform(0, ALONE_S))
        self._until(lambda before, mark: before != aim == mark.phase)
        time.sleep(self.rng.uniform(0, self._trail.usual_s(aim)))

    def _next(self, timeout_s: float) -> tuple[str, Mark] | None:
        """The phase before, and the mark that has come; what recoveries cost is noted on the way."""
        before = self._trail.now
        mark = self._trail.next(timeout_s)
        if mark is None:
            return None
        if mark.path == (RECOVERY, STEP, OPTIMISER):
            self._retaken += 1
        if before.phase == RECOVERY != mark.phase and self._killed_at:
            self.recoveries.append(Recovery(mark.at - self._killed_at, self._retaken))
        return before.phase, mark

    def _until(self, condition: Callable[[str, Mark], bool]) -> None:
        """Until a mark comes of which it holds, told the phase before it."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self._next(1.0)) is None or not condition(*found):
            if self._child is None or leash.end(self._child) is not None or time.monotonic() > deadline:
                raise ServiceFailed("learner", "has ended by itself, or does not go on", str(self.log))

    def _alone(self, seconds: float) -> None:
        """Watch for so long."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            self._next(left)


def _settings(shop: SmallShop, connections: Connections, learner: LearnerSettings) -> Settings:
    """The shop's, with a learner of these settings on this broker."""
    where = {"kafka": connections.kafka, "store": connections.store, "partitions": connections.partitions}
    trainers = shop.settings.trainers.model_copy(update={"learner": learner, "gate": GATE})
    return shop.settings.model_copy(update={**where, "trainers": trainers})


@contextmanager
def stage(folder: Path, shop: SmallShop, seed: int) -> Iterator[Stage]:
    """A stage over a shop that was prepared in this folder. All its processes end with the context."""
    with broker(folder, folder / "kafka", partitions=2) as (_, connections):
        create_topics(connections)
        one = Stage(folder, shop, connections, seed)
        try:
            yield one
        finally:
            one.close()
