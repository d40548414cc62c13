"""The lexicon finds phrases by longest match, on word borders; the speller finds the nearest known word."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.keyword_types import KeywordType, type_of_attribute, type_of_phrase
from reward.lexicon import Lexicon, Phrase, build_lexicon
from reward.speller import Speller, distance, reach
from reward.text import tokens
from schemas.catalogue import Catalogue
from schemas.errors import Corrupt

E = KeywordType.ENTITY


def catalogue(titles: list[str], brands: list[str], attributes: list[dict[str, str]]) -> Catalogue:
    n = len(titles)
    return Catalogue(
        items=tuple(f"i{row}" for row in range(n)),
        titles=tuple(titles),
        categories=("garden",) * n,
        brands=tuple(brands),
        prices_N=np.ones(n, dtype=np.float32),
        available_from_N=np.zeros(n, dtype=np.int64),
        attributes=tuple(attributes),
    )


def test_the_longest_phrase_wins() -> None:
    """ "light switch cover" beats "light switch" and "switch"; what is left is matched by itself."""
    lexicon = Lexicon([Phrase(text, E, 1) for text in ("light", "switch", "light switch", "light switch cover", "cover")])
    assert [p.text for p in lexicon.keywords("Light switch cover, white light")] == ["light switch cover", "light"]
    assert [p.text for p in lexicon.keywords("cover light switch")] == ["cover", "light switch"]


def test_phrases_end_at_word_borders() -> None:
    """ "oak" is not in "soak" or "oaken"."""
    lexicon = Lexicon([Phrase("oak", E, 1)])
    assert lexicon.match("soak oaken") == []
    assert [(m.start, m.stop) for m in lexicon.match("oak oak")] == [(0, 1), (1, 2)]


phrases = st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map(" ".join), unique=True, max_size=8)


def by_hand(texts: list[str], words: list[str]) -> list[tuple[str, int]]:
    """The oracle: try every span, longest first, then leftmost."""
    free, found = [True] * len(words), []
    for length in range(len(words), 0, -1):
        for start in range(len(words) - length + 1):
            text = " ".join(words[start : start + length])
            if text in texts and all(free[start : start + length]):
                free[start : start + length] = [False] * length
                found.append((text, start))
    return sorted(found, key=lambda entry: entry[1])


@given(phrases, st.lists(st.sampled_from("abc"), max_size=10))
def test_matches_are_those_of_trying_every_span(texts: list[str], words: list[str]) -> None:
    """The automaton gives what trying every span, longest first, gives."""
    lexicon = Lexicon([Phrase(text, E, 1) for text in texts])
    found = [(lexicon.phrases[match.phrase].text, match.start) for match in lexicon.match(" ".join(words))]
    assert found == by_hand(texts, words)


def test_a_catalogue_gives_attributes_brands_and_mined_phrases() -> None:
    """Structured values keep their attribute's type; n-grams of titles count if they cohere and are no mixture."""
    lexicon = build_lexicon(
        catalogue(
            ["Kelda light switch white", "Kelda light switch", "Brisko light switch 5 m", "Brisko bench 5 m"],
            ["Kelda", "Kelda", "Brisko", "Brisko"],
            [{"color": "snow white"}, {}, {}, {"entity": "bench", "audience": "adult dogs"}],
        )
    )
    types = {phrase.text: phrase.type for phrase in lexicon.phrases}
    assert types["kelda"] == KeywordType.BRAND and types["snow white"] == KeywordType.COLOUR
    assert types["bench"] == E and types["garden"] == E and types["adult dogs"] == KeywordType.AUDIENCE
    assert types["light switch"] == E  # ends two of its three noun phrases
    assert types["5 m"] == KeywordType.SPECIFICATION
    assert "switch white" not in types and "kelda light" not in types  # a typed word beside another
    assert {p.text: p.items for p in lexicon.phrases}["light switch"] == 3
    assert Lexicon.from_bytes(lexicon.to_bytes()).version == lexicon.version
    assert len(build_lexicon(catalogue(["a b"], ["x"], [{}]), most=1)) == 1


def test_types_come_from_names_or_words() -> None:
    """An attribute's name decides; else known words, measures and model numbers."""
    assert type_of_attribute("Color Finish") == KeywordType.COLOUR
    assert type_of_attribute("season") == KeywordType.SEASON
    assert type_of_attribute("wattage") == KeywordType.MODIFIER
    assert type_of_phrase("striped") == KeywordType.PATTERN
    assert type_of_phrase("12 in") == KeywordType.SPECIFICATION
    assert type_of_phrase("dcd771c2") == KeywordType.MODEL
    assert type_of_phrase("bench") is None


def test_a_broken_lexicon_is_refused() -> None:
    """A stored lexicon of another form is not used."""
    with pytest.raises(Corrupt):
        Lexicon.from_bytes(b'{"a": 1}')


def test_typos_go_to_the_nearest_known_word() -> None:
    """One edit for short words, two from 8 letters on, none below 4 letters; the more frequent word wins a tie."""
    speller = Speller({"faucet": 5, "dishwasher": 2, "sofa": 1, "soft": 9, "lamp": 1})
    assert speller.correct("fuacet") == "faucet"  # a swap is one edit
    assert speller.correct("facet") == "faucet"
    assert speller.correct("fuact") is None  # two edits from a short word
    assert speller.correct("dishwaser") == "dishwasher"
    assert speller.correct("dishvaser") == "dishwasher"
    assert speller.correct("sofe") == "soft"  # one edit from "sofa" too, which is rarer
    assert speller.correct("lam") is None
    assert speller.correct("lamp") == "lamp"


words = st.text("abcd", min_size=1, max_size=10)


@given(st.lists(words, unique=True, max_size=12), words)
def test_the_index_finds_what_comparing_with_every_word_finds(known: list[str], word: str) -> None:
    """Deletion forms lose no candidate."""
    near = [
        (distance(word, other), other)
        for other in known
        if distance(word, other) <= (min(reach(word), reach(other)) if other != word else 0)
    ]
    expected = min(near)[1] if near else None
    assert Speller(dict.fromkeys(known, 1)).correct(word) == expected


def test_distance_by_hand() -> None:
    """Insertion, deletion, replacement and a swap of neighbours cost one each."""
    assert [distance("abc", other) for other in ("abc", "acb", "ab", "abcd", "axc", "cab", "")] == [0, 1, 1, 1, 1, 2, 3]


def test_tokens_carry_the_lexicon() -> None:
    """A phrase is its tokens joined by single spaces, so matching and storing agree."""
    assert tokens("Light  SWITCH") == ["light", "switch"]


def test_every_type_comes_from_attributes_and_most_from_titles_alone() -> None:
    """An attribute of each of the 18 types makes a phrase of it; words of titles give 15, all but brand, anchor and series,
    of which only the shop can know."""
    given = {kind.value: f"thing{chr(97 + n)}" for n, kind in enumerate(KeywordType)}
    none = np.zeros(1, np.int64)
    alone = Catalogue(("i",), ("x",), ("",), ("",), none.astype(np.float32), none, (given,))
    assert {phrase.text: phrase.type for phrase in build_lexicon(alone).phrases if phrase.text in given.values()} == {
        text: KeywordType(name) for name, text in given.items()
    }
    title = "red oak vintage waterproof kitchen kids camping 5 ft cheap dcd771c2 bestseller winter striped oddish lamp"
    several = np.zeros(3, np.int64)
    mined = Catalogue(("a", "b", "c"), (title,) * 3, ("",) * 3, ("",) * 3, several.astype(np.float32), several, ({},) * 3)
    found = {phrase.type for phrase in build_lexicon(mined).phrases}
    assert found == set(KeywordType) - {KeywordType.BRAND, KeywordType.ANCHOR, KeywordType.SERIES}
