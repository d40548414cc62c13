"""The other ranks of a learner on this machine: child processes that end when this one does, however it does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Event, Thread
from typing import Final

import structlog

from headrace.services.ports import free_port
from schemas.errors import InvalidRequest

log = structlog.get_logger(__name__)

#: Set for a child: its standard input ends when rank 0 does.
VARIABLE: Final = "HEADRACE_RANK_CHILD"
#: Longest that rank 0 goes on after a child has failed (s). Once all have met they notice by themselves; before, nobody would.
NOTICE_S = 10.0
#: Longest that a child may take to end after rank 0 has told it to (s).
GRACE_S = 30.0


@contextmanager
def others(size: int, command: Sequence[str]) -> Iterator[None]:
    """Inside, this process is rank 0 of ``size``, and ``command`` runs as each of the others, in torchrun's environment.

    Leaving it in good order waits for them; an error ends them at once, and one of them that fails ends this process.

    Raises:
        InvalidRequest: this process is a rank already.
    """
    if size == 1:
        yield
        return
    if "RANK" in os.environ:
        raise InvalidRequest("--ranks", size, "1 under torchrun", "let torchrun alone start the ranks")
    group = {"WORLD_SIZE": str(size), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    os.environ.update(group, RANK="0")
    children = [
        subprocess.Popen(command, env={**os.environ, "RANK": str(rank), VARIABLE: "1"}, stdin=subprocess.PIPE)
        for rank in range(1, size)
    ]
    over = Event()
    for rank, child in enumerate(children, start=1):
        Thread(target=_watch, args=(rank, child, over), name=f"rank {rank}", daemon=True).start()
    try:
        yield
    except BaseException:
        over.set()
        for child in children:
            child.kill()
        raise
    finally:
        over.set()
        for child in children:
            _end(child)
        for name in (*group, "RANK"):
            del os.environ[name]


def _watch(rank: int, child: subprocess.Popen[bytes], over: Event) -> None:
    if (status := child.wait()) == 0 or over.is_set():
        return
    log.error("a rank of the learner has ended", rank=rank, exit=status)
    if not over.wait(NOTICE_S):
        os._exit(1)  # waiting for it in gloo, which no exception reaches; there is nothing that a kill could harm


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdin is not None:
        child.stdin.close()


def end_with_rank_0() -> None:
    """In a child of `others`: end as soon as rank 0 is gone, wherever this process is. It has nothing to save."""

    def watch() -> None:
        # Returns when the other end is closed. Not by sys.stdin: its lock would abort an interpreter that ends meanwhile.
        os.read(0, 1)
        os._exit(1)

    if os.environ.pop(VARIABLE, ""):
        Thread(target=watch, name="rank 0's end", daemon=True).start()
