"""Tables as plain text: aligned, one line a row, and narrow where the terminal is."""

from __future__ import annotations

from headrace.columns import Column, aligned

COLUMNS = (Column("name"), Column("n", right=True), Column("note", spare=1), Column("more", spare=2))
ROWS = [("a", "10", "x", "y"), ("bcd", "2", "long note", "z")]


def test_without_a_width_everything_stands_in_one_line_a_row() -> None:
    """Widths 4, 2, 9, 4 with two spaces between; numbers end under each other."""
    assert aligned(COLUMNS, ROWS) == [
        "name   n  note       more",
        "a     10  x          y",
        "bcd    2  long note  z",
    ]


def test_where_room_is_short_the_most_spare_column_goes_first_and_what_cannot_go_is_cut() -> None:
    """25 fit everything; 24 not `more`, 18 not `note` either; at 6 the 8 that must stay are cut."""
    assert aligned(COLUMNS, ROWS, 25) == aligned(COLUMNS, ROWS)
    assert aligned(COLUMNS, ROWS, 24)[2] == "bcd    2  long note"
    assert aligned(COLUMNS, ROWS, 18) == ["name   n", "a     10", "bcd    2"]
    assert aligned(COLUMNS, ROWS, 6) == ["name …", "a    …", "bcd  …"]
