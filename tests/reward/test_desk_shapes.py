"""What does not fit its struct is told by its place and its own value, not by all that was sent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.desk.shapes import taken
from reward.desk.wishes import Wish
from schemas.errors import InvalidRequest

MANY = {f"brand {n}": 1.5 for n in range(500)}


@pytest.mark.parametrize(
    ("fields", "what", "value", "bound", "remedy"),
    [
        ({"order": "much"}, "order", "much", "Expected `float | null`, got `str`", "correct it"),
        ({"scope": {"brands": ["a", 3]}}, "scope.brands[1]", 3, "Expected `str`", "correct it"),
        ({"scope": ["a"]}, "scope", ["a"], "Expected `object`", "correct it"),
        ({"scope": {"catgories": ["a"]}}, "scope.catgories", ["a"], "one of the fields brands, categories", "did you mean categories?"),
        ({"surprise": {"a": 1}}, "surprise", {"a": 1}, "one of the fields accept_clock_change, click", "leave it out"),
        ({"multipliers": {"brands": {**MANY, "Tessaro": "x"}}}, "multipliers.brands.Tessaro", "x", "Expected `float`", "correct it"),
        ({"order": 10**400}, "order", 10**400, "a finite number", "choose one within its bounds"),
        ([1], "the whole", [1], "Expected `object`", "correct it"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named_with_its_value(fields: Any, what: str, value: Any, bound: str, remedy: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        taken(fields, Wish)
    error = caught.value
    assert (error.what, error.value, error.remedy) == (what, value, remedy) and bound in error.bound
    assert len(str(error)) < 400


def test_a_missing_field_is_named() -> None:
    from console.api.decisions import DraftBody

    with pytest.raises(InvalidRequest, match="why is None, but must be given; add it"):
        taken({"wish": {"order": 8}}, DraftBody)


@given(st.dictionaries(st.text(), st.floats(0.5, 2.0)), st.text())
def test_the_one_wrong_entry_of_a_mapping_is_found(brands: dict[str, float], wrong: str) -> None:
    """Whatever its name: with dots, brackets or nothing in it."""
    with pytest.raises(InvalidRequest) as caught:
        taken({"multipliers": {"brands": {**brands, wrong: "much"}}}, Wish)
    assert (caught.value.what, caught.value.value) == (f"multipliers.brands.{wrong}", "much")
