"""Progress of a long command: on a terminal a bar, the share done and the time left; elsewhere a line a minute on stderr."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from headrace.commands.common import console
from headrace.terminal import terminal

#: Without a terminal a line is written at most this often (s), and none before: what is short needs no word.
LINE_EVERY_S = 60.0


class Watched(Protocol):
    """Call with what is done, of how much, and on what: a stage, an arm."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None: ...


@contextmanager
def watched(title: str) -> Iterator[Watched]:
    """Gives the function that moves the bar, or writes the lines."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    if not console.is_terminal:
        yield lines(title, terminal(stderr=True).print, time.monotonic)
        return
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(title, total=None)

        def tell(done: int, total: int, note: str = "", /) -> None:
            progress.update(task, description=_named(title, note), completed=done, total=max(total, 1))

        yield tell


def lines(title: str, write: Callable[[str], None], clock: Callable[[], float]) -> Watched:
    """Progress as lines: how much of it is done and for how long it has run, at most every `LINE_EVERY_S`."""
    begun = said = clock()

    def tell(done: int, total: int, note: str = "", /) -> None:
        nonlocal said
        now = clock()
        if now - said >= LINE_EVERY_S:
            said = now
            write(f"{_named(title, note)}: {done / max(total, 1):.0%} after {now - begun:.0f} s")

    return tell


def _named(title: str, note: str) -> str:
    return f"{title}, {note}" if note else title
