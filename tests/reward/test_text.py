"""Query keys: one form for what is the same query."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.text import normalise, stem, tokens


@given(st.text(max_size=40))
def test_normalising_twice_changes_nothing(query: str) -> None:
    assert normalise(normalise(query)) == normalise(query)


@given(st.text(alphabet="abcXYZ 0123", max_size=30))
def test_case_and_spaces_do_not_matter(query: str) -> None:
    assert normalise(f"  {query.upper()}\t") == normalise(query)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Rust-Oleum 3/4 in. Pipe", ["rust", "oleum", "3/4", "in", "pipe"]),
        ("2x4 1.5gal", ["2x4", "1.5", "gal"]),
        ("红色鞋", ["红", "色", "鞋"]),
        ("ＡＢＣ", ["abc"]),
        (" .,! ", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """Punctuation parts words, numbers stay whole, ideographs stand alone, wide letters are narrow ones."""
    assert tokens(text) == words


@pytest.mark.parametrize(
    ("word", "reduced"),
    [
        ("shoes", "shoe"),
        ("batteries", "battery"),
        ("brushes", "brush"),
        ("boxes", "box"),
        ("glass", "glass"),
        ("gas", "gas"),
    ],
)
def test_stems(word: str, reduced: str) -> None:
    assert stem(word) == reduced
