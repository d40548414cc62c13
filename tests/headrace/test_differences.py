"""How differences of two topics are told: counts, and value by value for the first keys."""

from __future__ import annotations

from headrace.differences import difference_lines
from schemas.views import View, ViewItem, ViewStatus
from streams.replaying.changes import changes
from streams.replaying.diff import Difference, Example
from streams.replaying.span import Span


def page(revision: int, clicks: int, query: str = "shoe") -> View:
    item = ViewItem("a", 1, clicks=clicks, d_clicks=clicks)
    return View(f"r1:final:{revision}", "r1", ViewStatus.FINAL, revision, 7, 100 + revision, "u", query, (item,))


def test_values_that_are_compared_are_told_and_no_others() -> None:
    """The revision, its name, when it was told and the difference to the one before are no difference in what is said."""
    assert changes(page(1, 1), page(2, 1)) == {}
    assert changes(page(1, 0), page(2, 3, "")) == {"query": ("shoe", ""), "items[0] a.clicks": (0, 3)}
    longer = View("v", "r1", ViewStatus.FINAL, 1, 7, 8, "u", "shoe", (ViewItem("a", 1), ViewItem("b", 2)))
    assert changes(page(1, 0), longer)["items[1] b.position"] == (None, 2)


def test_the_first_keys_are_shown_value_by_value_below_the_counts() -> None:
    """Two of three keys, and of one that differs everywhere the first values."""
    moved = {"query": ("shoe", ""), "items[0] a.clicks": (0, 3)}
    many = {f"items[{n}] i{n}.clicks": (0, n) for n in range(20)}
    told = Difference("x", "y", "search.views", Span(), same=1, different=3, fields={"clicks": 3, "revision": 2})
    told.examples["different"] += [Example("r1", ["clicks", "page"], moved, 1, 2), Example("r2", ["clicks"], many, 1, 2)]
    lines = difference_lines(told, 2)
    assert lines[0].split() == ["x", "and", "y", "keys"]
    assert [line.split() for line in lines[3:5]] == [["by", "clicks", "3"], ["by", "revision", "2"]]
    assert lines[7:13] == [
        "",
        "x -> y, 2 of 3:",
        "  r1 (clicks, page)",
        "    query              shoe  ->  ''",
        "    items[0] a.clicks  0     ->  3",
        "  r2 (clicks)",
    ]
    assert lines[-1] == "    and 12 more: --json FILE has all"
    assert difference_lines(told, 0) == lines[:7]
