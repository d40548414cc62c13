"""A preview and an effect as text of at most 80 columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from headrace.terminal import coloured
from reward.preview.effect import Effect
from reward.preview.results import Preview
from reward.preview.tables import TextTable, effect_table, preview_tables


def told_preview(found: Preview) -> Iterator[RenderableType]:
    """What changes for the learner, who gains, what it would bring, and what to mind."""
    yield coloured(
        ("Preview", "bold"),
        f" against version {found.current}: {found.pages:,} pages of {found.queries:,} queries, "
        f"{_time(found.from_ms)} to {_time(found.to_ms)}; campaigns as of {_time(found.at_ms)}",
    )
    yield from map(_shown, preview_tables(found))
    yield from (coloured(("!", "yellow"), f" {warning}") for warning in found.warnings)


def told_effect(found: Effect) -> Iterator[RenderableType]:
    """The two sides, and what to mind."""
    yield coloured(
        ("Effect", "bold"),
        f" of version {found.version} against version {found.before} since {_time(found.since_ms)}: "
        f"{found.treated_pages:,} pages of {found.treated_users:,} users against {found.control_pages:,} of "
        f"{found.control_users:,} in the control share",
    )
    if found.made_by:
        yield f"version {found.version} was made by {found.made_by}"
        yield f'"new": pages that version {found.version} ordered; "control": those that version {found.before} did'
    yield _shown(effect_table(found))
    yield from (coloured(("!", "yellow"), f" {warning}") for warning in found.warnings)


def _shown(one: TextTable) -> RenderableType:
    """A table whose names give way to its numbers; what has no rows is a sentence."""
    if not one.rows:
        return f"{one.title}: {one.caption}"
    table = Table(title=one.title, caption=one.caption or None, title_justify="left", caption_justify="left")
    for n, name in enumerate(one.columns):
        table.add_column(name, justify="right" if n else "left", overflow="fold")
    for cells in one.rows:
        table.add_row(*cells)
    return table


def _time(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")
