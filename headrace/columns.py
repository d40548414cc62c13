"""A table as plain text: a line a row, aligned, never wrapped, so that a pipe can read it and a narrow terminal too."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rich.console import Console

_GAP, _CUT = "  ", "…"


class Column(NamedTuple):
    """``spare``: where room is short, columns with the highest number go first; those with 0 stay."""

    title: str
    right: bool = False  #: numbers
    spare: int = 0


def aligned(columns: Sequence[Column], rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Header and rows. With a ``width``, spare columns are left out until a line fits, and what still is longer is cut."""
    table = [[column.title for column in columns], *rows]
    sizes = [max(len(row[n]) for row in table) for n in range(len(columns))]
    shown = list(range(len(columns)))
    while width is not None and sum(sizes[n] + len(_GAP) for n in shown) - len(_GAP) > width:
        worst = max(shown, key=lambda n: columns[n].spare)
        if not columns[worst].spare:
            break
        shown.remove(worst)
    made = (
        _GAP.join(row[n].rjust(sizes[n]) if columns[n].right else row[n].ljust(sizes[n]) for n in shown).rstrip()
        for row in table
    )
    return [line if width is None or len(line) <= width else line[: width - 1] + _CUT for line in made]


def room(console: Console) -> int | None:
    """The width of a terminal; None where nobody looks and a line may be as long as it is."""
    return console.width if console.is_terminal else None


def put(console: Console, lines: Sequence[str]) -> None:
    """Print the lines as they are, without wrapping."""
    console.print("\n".join(lines), highlight=False, soft_wrap=True)
