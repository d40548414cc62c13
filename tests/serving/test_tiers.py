"""Remembered tiers are the scorer's, whatever was asked before, and each is asked for once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import tiers
from serving.tiers import KnownTiers

ROWS = 40


class Letters:
    """A scorer whose tiers hang on query and row alone; it notes every pair it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def tiers(self, query: str, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.asked += [(query, int(row)) for row in rows]
        return np.array([tier(query, int(row)) for row in rows], np.int8), np.ones(len(rows), np.float32)


def tier(query: str, row: int) -> int:
    return (7 * row + len(query)) % 4


pools = st.lists(
    st.tuples(st.sampled_from(["a", "bb", "ccc"]), st.lists(st.integers(0, ROWS - 1), unique=True)), max_size=12
)


@given(pools)
def test_they_are_the_scorers_and_each_is_asked_once(asked: list[tuple[str, list[int]]]) -> None:
    scorer = Letters()
    known = KnownTiers(scorer)
    for query, rows in asked:
        assert known.of(query, np.array(rows, np.int64)).tolist() == [tier(query, row) for row in rows]
    assert len(scorer.asked) == len(set(scorer.asked))
    assert set(scorer.asked) == {(query, row) for query, rows in asked for row in rows}


def test_a_query_is_the_same_however_it_is_written() -> None:
    scorer = Letters()
    known = KnownTiers(scorer)
    rows = np.arange(5, dtype=np.int64)
    assert known.of("Red  Shoe", rows).tolist() == known.of("red shoe", rows).tolist()
    assert len(scorer.asked) == 5


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiers, "QUERIES", 2)
    monkeypatch.setattr(tiers, "ITEMS", 4)
    scorer = Letters()
    known = KnownTiers(scorer)

    def asks(query: str, *rows: int) -> list[int]:
        scorer.asked.clear()
        known.of(query, np.array(rows, np.int64))
        return [row for _, row in scorer.asked]

    assert asks("a", 0, 1, 2) == [0, 1, 2]
    assert asks("a", 2, 3, 4) == [3, 4]  # five would be too many: 0, 1 and 2 are forgotten
    assert asks("a", 0, 3) == [0]
    asks("b", 0)
    assert asks("a", 0) == []
    asks("c", 0)  # the third: b, asked longest ago, goes
    assert asks("a", 0) == []
    assert asks("b", 0) == [0]
