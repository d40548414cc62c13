"""What is done to the workers and to the broker, one fault at a time. Each returns a word on what it did."""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from pathlib import Path

from benchmarks.delivery_faults.stage import Kind, Stage
from benchmarks.plane.broker import READY_S, await_ready
from schemas.errors import ServiceFailed


def kill(stage: Stage) -> str:
    """kill -9 of the only worker: mostly at work, one time in four while it starts, joins or recovers."""
    if stage.rng.random() < 0.25:
        waited = stage.wait(0, 3)
        early = "whatever it did, "
    else:
        stage.crew.await_ready("one")
        waited, early = stage.wait(0, 1.5), ""
    again = stage.crew.signal("one", signal.SIGKILL)
    if not early:
        stage.crew.await_ready("one", again)
    return f"killed {early}after {waited:.2f} s"


def terminate(stage: Stage) -> str:
    """SIGTERM of the only worker, and its restart."""
    stage.crew.await_ready("one")
    waited = stage.wait(0, 1.5)
    again = stage.crew.signal("one", signal.SIGTERM)
    stage.crew.await_ready("one", again)
    return f"SIGTERM after {waited:.2f} s"


def second_worker(stage: Stage) -> str:
    """A second worker joins, works for a while and leaves by SIGTERM."""
    stage.crew.start("two", static=stage.rng.random() < 0.5)
    stage.crew.await_ready("two")
    waited = stage.wait(0, 2)
    return f"worked for {waited:.2f} s, ended with status {stage.crew.stop('two')}"


def pause(stage: Stage) -> str:
    """SIGSTOP of the owner beyond its session; a second worker takes over; the first wakes up."""
    stage.crew.await_ready("one")
    stage.wait(0, 1)
    stage.crew.signal("one", signal.SIGSTOP)
    paused = time.monotonic()
    stage.crew.start("two")
    stage.crew.await_ready("two")
    waited = stage.wait(0, 2)
    stage.crew.signal("one", signal.SIGCONT)
    slept = time.monotonic() - paused
    stage.wait(0, 3)
    code = stage.crew.stop("two")
    return f"paused for {slept:.1f} s, woken {waited:.2f} s after the take-over; the second ended with status {code}"


def restart_broker(stage: Stage) -> str:
    """kill -9 of the broker, and its restart with the same files."""
    stage.wait(0, 2)
    process = stage.broker
    if process.pid is not None:
        os.kill(process.pid, signal.SIGKILL)
    while not process.poll():
        time.sleep(0.01)
    waited = stage.wait(0, 8)
    process.start()
    await_ready(process)
    return f"away for {waited:.1f} s and its start"


def fill_disk(stage: Stage) -> str:
    """The file system with the broker's files runs full until the broker ends; then there is room again, and it starts."""
    stage.wait(0, 2)
    ballast = stage.folder / "kafka" / "ballast"
    grown = _fill(ballast)
    deadline = time.monotonic() + READY_S
    while not stage.broker.poll():
        if time.monotonic() > deadline:
            raise ServiceFailed("kafka", "goes on with a full disk", str(stage.broker.log))
        grown += _fill(ballast)
        time.sleep(0.05)
    code = stage.broker.last_exit
    waited = stage.wait(0, 3)
    ballast.unlink()
    stage.broker.start()
    await_ready(stage.broker)
    return f"{grown / 2**20:.0f} MiB of ballast; the broker ended with {code}, room again after {waited:.1f} s"


def _fill(file: Path) -> int:
    """Append to the file until nothing more goes in; bytes it has grown by."""
    grown = 0
    with file.open("ab", buffering=0) as ballast, suppress(OSError):
        for size in (2**20, 2**12):
            with suppress(OSError):
                while True:
                    grown += ballast.write(bytes(size))
    return grown


KILL = Kind("kill -9", kill, events=4_000, seconds=3)
BROKER = Kind("broker restart", restart_broker, events=4_000, seconds=12)
SECOND = Kind("second worker", second_worker, events=4_000, seconds=6)
TERM = Kind("SIGTERM", terminate, events=3_000, seconds=4)
PAUSE = Kind("SIGSTOP", pause, events=5_000, seconds=10)
DISK = Kind("disk full", fill_disk, events=10_000, seconds=15)
