"""Plays what is not played yet, in as many processes as asked for, and puts all results together."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import msgspec

from headrace.ablation.arms import Arm
from headrace.ablation.combine import combine
from headrace.ablation.lab import Lab, open_lab
from headrace.ablation.loop import play
from headrace.ablation.results import ArmResult, Column, code, load, path_of, save, write_whole
from headrace.ablation.settings import LoopSettings, arm_key, base_settings, prepared_key, setup_of
from headrace.services import leash
from headrace.settings import Settings
from reward.text import normalise

#: (searches answered, searches in all, what has just been done)
Tell = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Plan:
    """What is asked for. ``root``: where worlds, arms and the summary are kept."""

    root: Path
    data: str
    seeds: tuple[int, ...]
    arms: tuple[Arm, ...]
    loop: LoopSettings
    items: int | None = None
    quick: bool = False
    runs: int = 1  #: of every arm with a learner, each with draws of its own

    def tasks(self) -> list[Task]:
        """Every run of every arm of every seed, those of a seed together."""
        return [task for seed in self.seeds for arm in self.arms for task in self._runs(seed, arm)]

    def _runs(self, seed: int, arm: Arm) -> Iterator[Task]:
        base = base_settings(self.data, seed, self.loop, self.items, self.quick)
        first = setup_of(base, self.loop, arm).settings.trainers.learner.seed
        for run in range(self.runs if arm.trained else 1):
            rerun = arm.rerun(first + run) if run else arm
            yield Task(self.root, base, self.loop, rerun, arm_key(setup_of(base, self.loop, rerun), rerun), run)


@dataclass(frozen=True)
class Task:
    """One run of an arm of one seed."""

    root: Path
    base: Settings
    loop: LoopSettings
    arm: Arm
    key: str
    run: int = 0

    @property
    def name(self) -> str:
        """For the progress."""
        return f"seed {self.base.seed} {self.arm.name}" + (f" run {self.run + 1}" if self.run else "")

    @property
    def path(self) -> Path:
        """Where its result is, or will be."""
        return path_of(self.root, self.base.seed, self.arm, self.key)


def run_study(plan: Plan, jobs: int = 1, tell: Tell = lambda *_: None) -> dict[str, Any]:
    """Play every arm that has no result under its key, then combine all; also writes ``ablation.json`` below the root.

    A result is written when its arm is done: what is interrupted loses the arms that are being played, and goes on from there.

    Raises:
        Corrupt: an earlier result cannot be read.
        Otherwise as `headrace.ablation.lab.open_lab` and `headrace.ablation.loop.play`.
    """
    tasks = plan.tasks()
    left = [task for task in tasks if load(task.path) is None]
    (play_here if jobs == 1 or len(left) < 2 else play_apart)(left, jobs, tell)
    found = combine([result for task in tasks if (result := load(task.path)) is not None], plan.loop.model_dump(mode="json"))
    write_whole(plan.root / "ablation.json", msgspec.json.format(msgspec.json.encode(found), indent=1) + b"\n")
    return found


def play_here(tasks: Sequence[Task], jobs: int, tell: Tell) -> None:
    total = sum(task.loop.requests for task in tasks)
    before = 0
    for task in tasks:
        _play(task, partial(tell, before, total), partial(_told, tell, before, total, task.name))
        before += task.loop.requests


def _told(tell: Tell, before: int, total: int, name: str, searches: int) -> None:
    tell(before + searches, total, name)


def play_apart(tasks: Sequence[Task], jobs: int, tell: Tell) -> None:
    """In ``jobs`` processes; a failure, Ctrl-C or the end of this one ends them all."""
    context = multiprocessing.get_context("spawn")
    said: Queue[tuple[str, int]] = context.Queue()
    each, at = max(task.loop.requests for task in tasks), dict[str, int]()
    with ProcessPoolExecutor(jobs, context, _begin, (said, os.getpid())) as pool:
        waiting = {pool.submit(_play_there, task): task for task in tasks}
        try:
            while waiting:
                done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
                while not said.empty():
                    name, searches = said.get()
                    at[name] = max(searches, at.get(name, 0))
                for future in done:
                    future.result()
                    at[waiting.pop(future).name] = each
                tell(sum(at.values()), len(tasks) * each, ", ".join(name for name, n in at.items() if n < each))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _play(task: Task, about: Callable[[str], None], tell: Callable[[int], None]) -> None:
    lab = _lab(task, about)
    began = time.process_time()
    played = play(lab, task.arm, setup_of(task.base, task.loop, task.arm), tell)
    result = ArmResult(
        key=task.key,
        data=task.base.data if task.base.data == "shop" else Path(task.base.data).name,
        seed=task.base.seed,
        arm=task.arm,
        loop=setup_of(task.base, task.loop, task.arm).loop,
        code=code(),
        facts=lab.facts,
        stream=_plain(played.stream.columns),
        probe_query=[normalise(request.query) for request in lab.probes],
        probes=_plain(played.probes.columns),
        valid_sid_rate=played.valid_sid_rate,
        curves=_plain(played.curves),
        publications=played.publications,
        refused=played.refused,
        cpu_s=time.process_time() - began,
        run=task.run,
    )
    save(result, task.path)


def _plain(columns: Mapping[str, Sequence[float]]) -> dict[str, Column]:
    return {name: list(column) for name, column in columns.items()}


#: The lab opened last in this process: tasks come seed by seed.
_OPEN: dict[str, Lab] = {}


def _lab(task: Task, about: Callable[[str], None]) -> Lab:
    name = f"{task.root} {prepared_key(task.base, task.loop)} {task.loop.requests} {task.loop.probes}"
    if name not in _OPEN:
        _OPEN.clear()
        _OPEN[name] = open_lab(task.root, task.base, task.loop, lambda stage, _, note: about(f"{stage}: {note}"))
    return _OPEN[name]


#: In a process of `play_apart`: where it tells what it has done.
_SAID: list[Queue[tuple[str, int]]] = []


def _begin(said: Queue[tuple[str, int]], parent: int) -> None:
    leash.die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C reaches this process too: it ends without a word
    _SAID[:] = [said]


def _play_there(task: Task) -> None:
    _play(task, lambda _: None, lambda searches: _SAID[0].put((task.name, searches)))
