"""The tables of a preview and an effect: the rows by hand, from the largest gain to the largest loss."""

from __future__ import annotations

import msgspec
import pytest

from reward.preview.effect import Difference, Effect, Split
from reward.preview.preview import preview
from reward.preview.rates import Rates
from reward.preview.results import Move, Moves, Preview
from reward.preview.tables import TextTable, effect_table, preview_tables
from reward.settings import RewardSettings
from schemas.weights import RewardWeights
from tests.reward import preview_toys
from tests.reward.preview_toys import NOW_MS

NOBODY = Moves((), ())


def move(name: str, gain: float, places: tuple[float, float] | None = None) -> Move:
    """A mean reward of 2 that becomes 2.5, 25 % of all the reward before."""
    return Move(name, 1_200, 4_800, 2.0, 2.5, 0.25, 0.25 + gain, *(places or (None, None)))


@pytest.fixture(scope="module")
def found() -> Preview:
    toys = preview_toys.make(20)
    draft, settings = RewardWeights(version=2, relevance=2.0), RewardSettings()
    return preview(
        toys.examples, toys.pools, RewardWeights(), draft, toys.row, toys.facts, settings, NOW_MS, Rates(0, None, None)
    )


def titled(found: Preview, title: str) -> list[TextTable]:
    return [one for one in preview_tables(found) if one.title == title]


def test_queries_go_from_the_largest_gain_to_the_largest_loss(found: Preview) -> None:
    """Gains and losses are each largest first: 9 and 2 % up, 8 and 1 % down are read 9, 2, -1, -8."""
    by_query = Moves((move("lamp", 0.09), move("rug", 0.02)), (move("mug", -0.08), move("cup", -0.01)))
    (table,) = titled(msgspec.structs.replace(found, by_query=by_query), "Queries that gain and lose")
    assert table.columns == ("", "pages", "reward now", "draft", "share of all")
    assert [(row[0], row[-1]) for row in table.rows] == [
        ("lamp", "+9.00 %"), ("rug", "+2.00 %"), ("cup", "-1.00 %"), ("mug", "-8.00 %")
    ]  # fmt: skip
    assert table.rows[0][1:4] == ("1,200", "2.000", "2.500")


def test_categories_have_their_places_too_and_who_does_not_move_has_no_table(found: Preview) -> None:
    """Half of the reward's gain and a loss of places can go together; both are told."""
    lamps = move("lamps", 0.01, (0.5, 0.25))
    told = msgspec.structs.replace(
        found, categories=Moves((lamps,), ()), categories_by_places=Moves((), (lamps,)), by_query=NOBODY
    )
    for title in ("Categories that gain and lose", "Categories that gain and lose places"):
        (table,) = titled(told, title)
        assert table.columns[-2:] == ("share of all", "places") and table.rows[0][-2:] == ("+1.00 %", "-25.00 %")
    assert titled(told, "Queries that gain and lose") == []


def test_every_row_has_a_cell_for_each_column(found: Preview) -> None:
    """Of a whole preview, with an estimate and without one."""
    for told in (found, msgspec.structs.replace(found, expected=(), not_estimated="acts through learning", places=None)):
        tables = preview_tables(told)
        assert tables[0].title == "What the learner sees" and all(
            len(row) == len(table.columns) for table in tables for row in table.rows
        )
    assert tables[-1] == TextTable("Expected clicks, orders, revenue", caption="not estimated: acts through learning")


def test_an_effect_is_a_row_a_value_and_says_how_users_were_divided() -> None:
    found = Effect(
        3, 2, NOW_MS, 90, 10, 45, 5, {"clicks": Difference(0.5, 0.4, 0.1, 0.05, 0.15), "orders": Difference(0, 0, 0, None, None)},
        Split(0.1, 0.125, 0.5, 0), (),
    )  # fmt: skip
    table = effect_table(found)
    assert table.rows == (
        ("clicks", "0.5000", "0.4000", "+0.1000", "+0.0500 to +0.1500"),
        ("orders", "0.0000", "0.0000", "+0.0000", "-"),
    )
    assert table.caption == "control share of users: 12.5 %, set to 10.0 % (p = 0.5)"
