"""A preview and an effect as text of at most 80 columns."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator

from rich.console import RenderableType
from rich.table import Table

from headrace.terminal import coloured
from reward.preview.effect import Effect
from reward.preview.results import Expected, Move, Moves, Preview

#: What each estimator is called.
ESTIMATORS = {"sequence": "place by place", "list": "whole lists"}


def preview_tables(found: Preview) -> Iterator[RenderableType]:
    """What changes for the learner, who gains, what it would bring, and what to mind."""
    yield coloured(
        ("Preview", "bold"),
        f" against version {found.current}: {found.pages:,} pages of {found.queries:,} queries, "
        f"{_time(found.from_ms)} to {_time(found.to_ms)}; campaigns as of {_time(found.at_ms)}",
    )
    yield _rewards(found)
    for title, moves in (("Categories", found.categories), ("Queries", found.by_query)):
        if moves.gaining or moves.losing:
            yield _moves(title, moves)
    if found.overlaps:
        table = _table("Campaigns that meet", "", "wins over", "in", "items")
        for one in found.overlaps:
            table.add_row(one.first, one.second, ", ".join(sorted(one.wins)), f"{one.items:,}")
        table.caption = "higher priority, then narrower scope, then later start, then id"
        yield table
    for expected in found.expected:
        yield _expected(expected, found)
    if found.not_estimated:
        yield f"Expected clicks, orders, revenue: not estimated: {found.not_estimated}"
    yield from (coloured(("!", "yellow"), f" {warning}") for warning in found.warnings)


def effect_tables(found: Effect) -> Iterator[RenderableType]:
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
    table = _table("Per page, 95 % interval over users", "", "new", "control", "change", "95 % interval")
    for name, one in found.values.items():
        table.add_row(name, f"{one.treated:.4f}", f"{one.control:.4f}", f"{one.change:+.4f}", _interval(one.low, one.high))
    yield table
    split = found.split
    yield f"control share of users: {100 * split.found:.1f} %, set to {100 * split.wanted:.1f} % (p = {split.p:.2g})"
    yield from (coloured(("!", "yellow"), f" {warning}") for warning in found.warnings)


def _rewards(found: Preview) -> Table:
    table = _table("What the learner sees", "", "now", "draft")
    rewards, change = found.rewards, found.rewards.change
    table.add_row("mean reward of a shown item", f"{rewards.before:.4f}", f"{rewards.after:.4f}")
    table.add_row("change: 5 %, median, 95 %", "", f"{change['q05']:+.3f}, {change['q50']:+.3f}, {change['q95']:+.3f}")
    for name, share in found.term_shares_before.items():
        table.add_row(f"share of variance: {name}", _percent(share), _percent(found.term_shares_after[name]))
    ranking, tau = found.ranking, found.ranking.tau
    table.add_row("pages whose items rank otherwise", "", _percent(ranking.changed))
    table.add_row("pages with another best item", "", _percent(ranking.top_changed))
    table.add_row("Kendall's tau of the rankings", "", "-" if tau is None else f"{tau:.3f}")
    if found.places is not None:
        table.add_row("served: pages with another item on top", "", _percent(found.places.top_changed))
        table.add_row("served: places kept by items of the page", "", _percent(found.places.kept))
    return table


def _moves(title: str, moves: Moves) -> Table:
    table = _table(f"{title} that gain and lose", "", "pages", "reward now", "draft", "share of all", "places")
    for group in (moves.gaining, tuple(reversed(moves.losing))):
        for move in group:
            places = "" if move.places_before is None else _signed(move.places_gain)
            row = (f"{move.pages:,}", f"{move.before:.3f}", f"{move.after:.3f}", _signed(move.gain), places)
            table.add_row(_short(move), *row)
    return table


def _expected(expected: Expected, found: Preview) -> Table:
    title = f"Expected per page, {ESTIMATORS.get(expected.estimator, expected.estimator)}"
    table = _table(title, "", "logged", "now", "draft", "change", "95 % interval")
    for name, one in expected.values.items():
        numbers = (f"{one.logged:.4f}", f"{one.before:.4f}", f"{one.after:.4f}", f"{one.change:+.4f}")
        table.add_row(name, *numbers, _interval(one.low, one.high))
    table.caption = (
        f"{expected.effective:,.0f} effective of {found.support.used:,} pages; "
        f"largest weight {100 * expected.largest:.1f} %, mean weight {expected.mean_weight:.2f}"
    )
    return table


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", caption_justify="left")
    for n, name in enumerate(names):
        table.add_column(name, justify="right" if n else "left", overflow="fold")
    return table


def _short(move: Move) -> str:
    return move.name if len(move.name) <= 24 else f"{move.name[:23]}…"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _signed(share: float) -> str:
    return f"{100 * share:+.2f} %"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:+.4f} to {high:+.4f}"


def _time(ms: int) -> str:
    return dt.datetime.fromtimestamp(ms / 1000, dt.UTC).strftime("%Y-%m-%d %H:%M")
