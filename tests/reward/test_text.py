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
        ("दिन, दान", ["दिन", "दान"]),
        ("ที่นอน", ["ที่นอน"]),
        ("كِتَاب שָׁלוֹם", ["كِتَاب", "שָׁלוֹם"]),
        ("İstanbul", ["i\u0307stanbul"]),
        ("1\ufe0f\u20e3 ❤\ufe0f a\u0301", ["1", "á"]),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    """Punctuation parts words, numbers stay whole, ideographs stand alone, wide letters are narrow ones; vowel signs and
    accents belong to their letter, what chooses a glyph to nothing."""
    assert tokens(text) == words


@given(st.text(alphabet="दिनाकंאָלוֹมี่นa\u0307\u0301\u3099か1.", max_size=20))
def test_marks_stay_where_they_are_when_it_is_done_twice(query: str) -> None:
    assert normalise(normalise(query)) == normalise(query)


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
