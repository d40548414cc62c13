"""The demo's story in the terminal: one line a stage with its time, progress while it runs, a live table of the loop."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table
from rich.text import Text

from headrace.terminal import coloured, terminal

#: Without a terminal the live table is printed at most this often (s).
PLAIN_EVERY_S = 15.0


class Story:
    """Tells what happens; keeps the seconds of each stage for the report."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or terminal()
        self.seconds: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str, text: str) -> Iterator[Stage]:
        """A stage with a progress bar; its seconds are added up under ``name``."""
        started = time.monotonic()
        with self._progress() as progress:
            stage = Stage(progress, progress.add_task(text, total=1.0, note=""))
            yield stage
        took = time.monotonic() - started
        self.seconds[name] = self.seconds.get(name, 0.0) + took
        self._done(text, stage.note, took)

    @contextmanager
    def errand(self) -> Iterator[Callable[[str, float, str], None]]:
        """Stages told by another process: call with (text, share, note); a new text ends the stage before it."""
        with self._progress() as progress:
            stages: dict[str, Stage] = {}
            begun: dict[str, float] = {}

            def end() -> None:
                if stages:
                    text = next(reversed(stages))
                    self._done(text, stages[text].note, time.monotonic() - begun[text])

            def tell(text: str, share: float, note: str) -> None:
                if text not in stages:
                    end()
                    begun[text] = time.monotonic()
                    stages[text] = Stage(progress, progress.add_task(text, total=1.0, note=""))
                stages[text].update(share, note)

            yield tell
            end()

    def _progress(self) -> Progress:
        bar = (BarColumn(24), _words("{task.fields[note]}"), TimeElapsedColumn())
        columns = (SpinnerColumn(), _words("{task.description}"), *bar)
        return Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal)

    def _done(self, text: str, note: str, seconds: float) -> None:
        self.done(f"{text} ", f"{note} ({seconds:.1f} s)")

    def done(self, text: str, note: str) -> None:
        """One line about something that is done, and a note on it."""
        self.say(coloured(("✓", "green"), f" {text}", (note, "dim")))

    def say(self, text: str | Text) -> None:
        """One line, now."""
        self.console.print(text, highlight=False)

    @contextmanager
    def live(self) -> Iterator[LiveTable]:
        """The table of the live stream."""
        table = LiveTable(self.console)
        if self.console.is_terminal:
            with Live(console=self.console, refresh_per_second=2, transient=True) as live:
                table.show = partial(live.update, refresh=True)
                yield table
        else:
            yield table


def _words(form: str) -> TextColumn:
    return TextColumn(form, markup=False)


class Stage:
    """One running stage."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress, self._task = progress, task
        self.note = ""

    def update(self, done: float, note: str = "") -> None:
        """``done`` in [0, 1]."""
        self.note = note or self.note
        self._progress.update(self._task, completed=min(done, 1.0), note=self.note)


class LiveTable:
    """Rows of name and value; on a terminal in place, otherwise as a line now and then."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._printed = 0.0
        self.show: Callable[[Table], None] = self._plain

    def update(self, rows: Mapping[str, str]) -> None:
        """Show these rows."""
        table = Table(show_header=False, title="live")
        for name, value in rows.items():
            table.add_row(name, value)
        self._rows = rows
        self.show(table)

    def _plain(self, _: Table) -> None:
        if time.monotonic() - self._printed >= PLAIN_EVERY_S:
            self._printed = time.monotonic()
            self._console.print("  " + " · ".join(f"{name} {value}" for name, value in self._rows.items()), highlight=False)
