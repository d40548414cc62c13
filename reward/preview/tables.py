"""A preview and an effect as tables of text: what the command line prints and the console's page shows, from one place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import msgspec

from reward.campaigns.force import RULE
from reward.preview.effect import Effect
from reward.preview.results import Expected, Moves, Preview

#: What each estimator is called.
ESTIMATORS: Final = {"sequence": "place by place", "list": "whole lists"}
INTERVAL: Final = "95 % interval"


class TextTable(msgspec.Struct, frozen=True):
    """Rows have a cell for each column; the first column names the row, the others hold its numbers."""

    title: str
    columns: tuple[str, ...] = ()
    rows: tuple[tuple[str, ...], ...] = ()
    caption: str = ""


def preview_tables(found: Preview) -> tuple[TextTable, ...]:
    """What changes for the learner, who gains and who loses, who meets, and what it would bring."""
    return tuple(_preview(found))


def effect_table(found: Effect) -> TextTable:
    """The two sides, and how the users were divided between them."""
    split = found.split
    rows = tuple(
        (name, f"{one.treated:.4f}", f"{one.control:.4f}", f"{one.change:+z.4f}", _interval(one.low, one.high))
        for name, one in found.values.items()
    )
    caption = f"control share of users: {_percent(split.found)}, set to {_percent(split.wanted)} (p = {split.p:.2g})"
    return TextTable("Per page, intervals over users", ("", "new", "control", "change", INTERVAL), rows, caption)


def _preview(found: Preview) -> Iterator[TextTable]:
    yield _rewards(found)
    yield from _moves("Categories that gain and lose", found.categories)
    if found.categories_by_places is not None:
        yield from _moves("Categories that gain and lose places", found.categories_by_places)
    yield from _moves("Queries that gain and lose", found.by_query)
    if found.overlaps:
        rows = tuple((one.first, one.second, ", ".join(sorted(one.wins)), f"{one.items:,}") for one in found.overlaps)
        yield TextTable("Campaigns that meet", ("", "wins over", "in", "items"), rows, RULE)
    yield from (_expected(one, found) for one in found.expected)
    if found.not_estimated:
        yield TextTable("Expected clicks, orders, revenue", caption=f"not estimated: {found.not_estimated}")


def _rewards(found: Preview) -> TextTable:
    rewards, change = found.rewards, found.rewards.change
    ranking, tau, places = found.ranking, found.ranking.tau, found.places
    rows = [
        ("mean reward of a shown item", f"{rewards.before:.4f}", f"{rewards.after:.4f}"),
        ("change: 5 %, median, 95 %", "", f"{change['q05']:+z.3f}, {change['q50']:+z.3f}, {change['q95']:+z.3f}"),
        *(
            (f"share of variance: {name}", _percent(share), _percent(found.term_shares_after[name]))
            for name, share in found.term_shares_before.items()
        ),
        ("pages whose items rank otherwise", "", _percent(ranking.changed)),
        ("pages with another best item", "", _percent(ranking.top_changed)),
        ("Kendall's tau of the rankings", "", "-" if tau is None else f"{tau:.3f}"),
    ]
    if places is not None:
        rows.append(("served: pages with another item on top", "", _percent(places.top_changed)))
        rows.append(("served: places kept by items of the page", "", _percent(places.kept)))
    return TextTable("What the learner sees", ("", "now", "draft"), tuple(rows))


def _moves(title: str, moves: Moves) -> Iterator[TextTable]:
    """From the largest gain down to the largest loss; nothing where nobody moves. Places are known of categories alone."""
    moved = (*moves.gaining, *reversed(moves.losing))
    if not moved:
        return
    placed = moved[0].places_before is not None
    rows = []
    for one in moved:
        cells = [one.name, f"{one.pages:,}", f"{one.before:.3f}", f"{one.after:.3f}", _signed(one.gain)]
        rows.append((*cells, _signed(one.places_gain)) if placed else tuple(cells))
    columns = ("", "pages", "reward now", "draft", "share of all", *(("places",) if placed else ()))
    yield TextTable(title, columns, tuple(rows))


def _expected(expected: Expected, found: Preview) -> TextTable:
    rows = tuple(
        (
            name,
            f"{one.logged:.4f}",
            f"{one.before:.4f}",
            f"{one.after:.4f}",
            f"{one.change:+z.4f}",
            _interval(one.low, one.high),
        )
        for name, one in expected.values.items()
    )
    caption = (
        f"{expected.effective:,.0f} effective of {found.support.used:,} pages; "
        f"largest weight {_percent(expected.largest)}, mean weight {expected.mean_weight:.2f}"
    )
    title = f"Expected per page, {ESTIMATORS.get(expected.estimator, expected.estimator)}"
    return TextTable(title, ("", "logged", "now", "draft", "change", INTERVAL), rows, caption)


def _percent(share: float) -> str:
    return f"{100 * share:z.1f} %"


def _signed(share: float) -> str:
    return f"{100 * share:+z.2f} %"


def _interval(low: float | None, high: float | None) -> str:
    return "-" if low is None or high is None else f"{low:+z.4f} to {high:+z.4f}"
