"""Bodies that are no JSON: told by the field where a number is to blame, and as text, never as Python writes bytes."""

from __future__ import annotations

import pytest

from console.api.reading import plain
from schemas.errors import InvalidRequest, InvalidWeight


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "9" * 5_000])
def test_a_number_that_is_not_finite_is_told_by_its_field_and_as_it_was_written(number: str) -> None:
    """In an object of an object, and in a list; what stands before it is no matter."""
    for body, field in (
        (f'{{"why": "NaN", "wish": {{"ctr": 1, "relevance": {number}}}}}', "wish.relevance"),
        (f'{{"changes": [2.5, {{"order": {number}}}]}}', "changes[1].order"),
    ):
        with pytest.raises(InvalidWeight) as refused:
            plain(body.encode())
        told = refused.value
        assert (told.what, told.value, told.bound) == (field, number, "a finite number")
        assert str(told).startswith(f"{field} is ") and number[:20] in str(told)


@pytest.mark.parametrize("raw", ['{"wünsche": 1,', '{"order": 5, "order": 6}', '{"order": NaN', "\x00"])
def test_what_is_no_json_is_shown_as_text(raw: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        plain(raw.encode())
    assert (refused.value.what, refused.value.value) == ("the body", raw)
    assert "b'" not in str(refused.value) and "JSON" in refused.value.bound


def test_bytes_that_are_no_text_and_depths_that_nobody_reads_are_refused_alike() -> None:
    for raw in (b'"\xff"', b"[" * 100_000, b"[" * 900 + b"NaN" + b"]" * 900):
        with pytest.raises(InvalidRequest) as refused:
            plain(raw)
        assert "b'" not in str(refused.value)
