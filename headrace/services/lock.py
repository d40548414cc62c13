"""Who holds a run folder: one process at a time, by a lock that the kernel drops when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from schemas.errors import Conflict


@contextmanager
def hold(run: Path) -> Iterator[None]:
    """Hold the run folder; children that a killed holder left behind are ended first.

    Raises:
        Conflict: a living process holds it; the message names its pid, command and start.
    """
    run.mkdir(parents=True, exist_ok=True)
    # "a+": opening must not empty what the present holder wrote into it.
    with (run / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(f"run folder {run}", _holder(run / "lock"), "stop that process, or use another --run") from None
        file.truncate(0)
        file.write(
            json.dumps({"pid": os.getpid(), "command": " ".join(sys.argv), "since": time.strftime("%Y-%m-%d %H:%M:%S")})
        )
        file.flush()
        reap(run)
        try:
            yield
        finally:
            file.truncate(0)


def is_held(run: Path) -> bool:
    """Whether a living process holds the run folder."""
    try:
        with (run / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _holder(lock: Path) -> str:
    try:
        said = json.loads(lock.read_text())
        return f"process {said['pid']} ({said['command']}) since {said['since']}"
    except (ValueError, KeyError):
        return "a process that has just started or is just ending"


def note(run: Path, name: str, pid: int) -> None:
    """Keep a child's pid and start time in the run folder, for `reap`."""
    folder = run / "pids"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        started = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return
    (folder / name).write_text(json.dumps({"pid": pid, "started": started}))


def forget(run: Path, name: str) -> None:
    """Drop what `note` kept."""
    (run / "pids" / name).unlink(missing_ok=True)


def reap(run: Path) -> list[str]:
    """Kill children that outlived an earlier holder, drop their pid files; returns the names of the killed ones.

    Call it only while holding the folder. A pid that now belongs to another process is left alone: start times differ.
    """
    killed = []
    for file in sorted((run / "pids").glob("*")):
        try:
            said = json.loads(file.read_text())
            process = psutil.Process(said["pid"])
            if abs(process.create_time() - said["started"]) < 0.05:
                process.kill()
                process.wait(10)
                killed.append(file.name)
        except (ValueError, KeyError, psutil.NoSuchProcess):
            pass  # half a file, or nobody there any more: nothing to kill
        file.unlink(missing_ok=True)
    return killed
