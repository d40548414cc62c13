"""What somebody typed is shown as they typed it, brackets and all, by every listing and by the errors."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from headrace import cli
from headrace.commands import deciding
from headrace.commands.common import console
from headrace.preview_tables import preview_tables
from headrace.story import Story
from headrace.terminal import coloured, terminal
from reward.preview.results import Move, Moves, Preview
from schemas.campaigns import Campaign, Scope
from schemas.decisions import Actor, AuditEntry, Change, Decision, Overlap, Role, Standing, State
from schemas.errors import InvalidRequest
from tests.reward.preview_toys import a_preview

typed = st.text(st.characters(categories=("L", "N", "P", "S")) | st.sampled_from("[]/\\: a"), min_size=1).map(
    lambda text: " ".join(text.split()) or "x"
)


def printed(show: Callable[[], object]) -> str:
    """What ``show`` prints, on a terminal that is wide enough for every cell."""
    width = console.width
    console.width = 20_000
    try:
        with console.capture() as caught:
            show()
        return caught.get()
    finally:
        console.width = width


@given(typed)
@example("see [/wiki/sale]")
@example("[red]x[/red]")
@example(":smile: [b] \\[c]")
def test_listings_of_decisions_show_what_was_typed(text: str) -> None:
    """Why, name, owner, category, a person's name; in standings, revisions, changes, overlaps, warnings and the audit."""
    body = Campaign("sale", 1, text, text, Scope(categories=(text,)), order=8.0)
    made = Decision("sale", 1, 0, State.DRAFT, body, text, Role.EDITOR, text, 0)
    line = AuditEntry(1, 0, text, Role.EDITOR, "draft", text, 1, 0, text, (Change("name", None, text),), False)
    for times, show in (
        (1, lambda: deciding.show_standings([Standing("sale", State.DRAFT, 1, None, made)], "Campaigns")),
        (4, lambda: deciding.show_revisions([made], text)),
        (2, lambda: deciding.show_changes([Change("name", text, text)])),
        (2, lambda: deciding.show_overlaps([Overlap(text, "other", 1, {"order": text})])),
        (1, lambda: deciding.show_warnings([text])),
        (3, lambda: deciding.show_audit([line])),
    ):
        assert printed(show).count(text) >= times
