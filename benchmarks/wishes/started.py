"""The learner as `headrace learn` starts it, on a real broker, with always enough new page views waiting."""

from __future__ import annotations

import time
import urllib.request
from typing import NamedTuple

import psutil
from prometheus_client.parser import text_string_to_metric_families

from benchmarks.wishes.feed import as_new
from headrace.services.ports import free_port
from headrace.settings import Settings
from headrace.shop.sink import KafkaSink, partition_of
from headrace.stack import Stack
from schemas.codec import encode
from schemas.errors import Unavailable
from schemas.examples import TrainingExample
from schemas.topics import EXAMPLES
from trainers.batches import CROWDED, is_held_out

#: Seconds between two looks at it, and longest wait for its first step.
LOOK_S, PATIENCE_S = 0.1, 180.0


def with_metrics(settings: Settings) -> Settings:
    """These, and a port for the learner's metrics."""
    learner = settings.trainers.learner.model_copy(update={"metrics_port": free_port()})
    return settings.model_copy(update={"trainers": settings.trainers.model_copy(update={"learner": learner})})


class Look(NamedTuple):
    """What its metrics say at one moment."""

    at: float  #: seconds of this machine's clock
    cpu_s: float  #: of its process, all threads
    views: float  #: fresh ones that steps have learned from


class Started:
    """The learner of a stack `with_metrics`. It stands still but for `run`."""

    def __init__(self, stack: Stack, views: tuple[TrainingExample, ...]) -> None:
        """Start it and wait for its first steps.

        Raises:
            Unavailable: it takes none.
        """
        self._settings, self._log = stack.settings.trainers.learner, str(stack.folder.logs / "learner.log")
        self._sink = KafkaSink(stack.settings.connections)
        self._partitions = self._sink.partitions(EXAMPLES.name)
        self._views, self._sent = as_new(views), 0
        self._top_up(0)
        stack.start_learner()
        deadline = time.monotonic() + PATIENCE_S
        while (found := self._look()) is None or not found.views:
            if time.monotonic() > deadline:
                raise Unavailable("the learner's first step", f"none in {PATIENCE_S:g} s", f"read {self._log}")
            time.sleep(LOOK_S)
        self._process = psutil.Process(stack.supervisor.pid("learner"))
        self._process.suspend()

    def run(self, seconds: float) -> tuple[Look, Look]:
        """Let it learn for so long; what it said before and after.

        Raises:
            Unavailable: it has ended.
        """
        self._process.resume()
        first = last = self._seen()
        while last.at - first.at < seconds:
            self._top_up(last.views)
            time.sleep(LOOK_S)
            last = self._seen()
        self._process.suspend()
        return first, last

    def end(self) -> None:
        """Let it end in good order with its stack."""
        self._process.resume()

    def _top_up(self, learned: float) -> None:
        """So many unlearned views that each step takes all its prompts from them, and none goes to the window without a turn."""
        wanted = (CROWDED * self._settings.prompts + self._settings.max_backlog) / 2
        while self._sent - learned < wanted:
            view = next(self._views)
            key = view.user.encode()
            self._sink.send(EXAMPLES.name, partition_of(key, self._partitions), key, encode(view))
            self._sent += not is_held_out(view.request_id, self._settings.held_out_share)
        self._sink.flush()

    def _seen(self) -> Look:
        found = self._look()
        if found is None:
            raise Unavailable("the learner", "it does not answer any more", f"read {self._log}")
        return found

    def _look(self) -> Look | None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._settings.metrics_port}/metrics", timeout=30) as answer:
                said = answer.read().decode()
        except OSError:
            return None
        return look_of(said, time.monotonic())


def look_of(said: str, at: float) -> Look:
    """What the learner's metrics say, as they were told at this time."""
    values = {s.name: s.value for family in text_string_to_metric_families(said) for s in family.samples if not s.labels}
    return Look(at, values["process_cpu_seconds_total"], values["headrace_learner_examples_total"])
