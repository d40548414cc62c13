"""Progress of a long command, on a terminal: a bar, the share done and the time left."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from headrace.commands.common import console


@contextmanager
def watched(title: str) -> Iterator[Callable[[int, int], None]]:
    """Gives the function ``(done, total)`` that moves the bar. Where nobody looks, nothing is drawn."""
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TaskProgressColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=max(total, 1))
