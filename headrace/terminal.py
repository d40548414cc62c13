"""The one way to the terminal. Text is printed as it was typed: square brackets and colons mean nothing here.

Colour is put on by `coloured`, never by markup within a text: most texts hold words that somebody else chose.
"""

from __future__ import annotations

from rich.console import Console
from rich.text import Text


def terminal(*, stderr: bool = False) -> Console:
    """Where commands print. Tables, titles and cells of it are taken as they are, too."""
    return Console(stderr=stderr, markup=False, emoji=False)


def coloured(*parts: str | tuple[str, str]) -> Text:
    """A text of parts; a part that has a colour or a style is a pair (text, style)."""
    return Text.assemble(*parts)
