"""The lexicon: phrases of a catalogue with their keyword type, found in any text by longest match.

Phrases come from the catalogue's structured attributes, brands and categories, and from n-grams mined in its titles.
Both the identifiers (keyword enhancement) and the keyword agent read it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Iterable, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any, Final, NamedTuple

import ahocorasick
import msgspec

from reward.keyword_types import KeywordType, type_of_attribute, type_of_phrase
from reward.text import tokens
from schemas.catalogue import Catalogue
from schemas.codec import UNREADABLE
from schemas.errors import Corrupt
from schemas.store import sha256

#: Longest phrase, in words.
WORDS: Final = 4

_STOP: Final = """
a an and are as at be by for from in into is it its of on or per that the this to with without not no x included you your
all any
"""
STOP_WORDS: Final = frozenset(_STOP.split())


class Phrase(NamedTuple):
    """``items``: how many items' titles or attributes hold it."""

    text: str
    type: KeywordType
    items: int


class Match(NamedTuple):
    """A phrase in a text: words ``start`` to ``stop`` of its tokens. ``phrase`` is its number."""

    phrase: int
    start: int
    stop: int


class Lexicon:
    """Immutable, phrases in alphabetical order."""

    def __init__(self, phrases: Iterable[Phrase]) -> None:
        self.phrases: tuple[Phrase, ...] = tuple(sorted(phrases))
        self.index: dict[str, int] = {phrase.text: n for n, phrase in enumerate(self.phrases)}
        self.version = sha256(self.to_bytes())[:12]

    def __len__(self) -> int:
        return len(self.phrases)

    def match(self, text: str) -> list[Match]:
        """The phrases of a text, in its order: longest first in words, then leftmost; matches do not overlap."""
        words = tokens(text)
        if not self.phrases or not words:
            return []
        # Word borders are spaces, so that "oak" is not found in "soak".
        padded = " " + " ".join(words) + " "
        borders = accumulate((len(word) + 1 for word in words), initial=0)
        word_at = {border: number for number, border in enumerate(borders)}
        found = []
        for end, index in self._automaton.iter(padded):
            length = len(self.phrases[index].text)
            start = word_at[end - length - 1]
            found.append(Match(index, start, word_at[end]))
        found.sort(key=lambda match: (match.start - match.stop, match.start))
        used: set[int] = set()
        kept = []
        for match in found:
            span = range(match.start, match.stop)
            if used.isdisjoint(span):
                used.update(span)
                kept.append(match)
        return sorted(kept, key=lambda match: match.start)

    def keywords(self, text: str) -> list[Phrase]:
        """The phrases of a text, each once."""
        return [self.phrases[index] for index in dict.fromkeys(match.phrase for match in self.match(text))]

    @cached_property
    def words(self) -> dict[str, int]:
        """Every word of the phrases with the most items of a phrase that holds it."""
        words: dict[str, int] = {}
        for phrase in self.phrases:
            for word in phrase.text.split():
                words[word] = max(words.get(word, 0), phrase.items)
        return words

    def to_bytes(self) -> bytes:
        """As JSON."""
        return msgspec.json.encode(self.phrases)

    @classmethod
    def from_bytes(cls, data: bytes, path: str = "lexicon") -> Lexicon:
        """Read what `to_bytes` wrote.

        Raises:
            Corrupt: it does not have that form.
        """
        try:
            return cls(msgspec.json.decode(data, type=list[Phrase]))
        except UNREADABLE as error:
            raise Corrupt(path, str(error), "rebuild the identifiers") from error

    @cached_property
    def _automaton(self) -> Any:
        automaton = ahocorasick.Automaton()
        for index, phrase in enumerate(self.phrases):
            automaton.add_word(f" {phrase.text} ", index)
        automaton.make_automaton()
        return automaton


def build_lexicon(catalogue: Catalogue, min_count: int = 2, most: int = 20_000) -> Lexicon:
    """The lexicon of a catalogue.

    Args:
        catalogue: titles, brands, categories and attributes are read.
        min_count: a mined phrase must be in at least so many titles; structured values are always in.
        most: phrases kept at most, the most frequent ones; of equal ones the first in the alphabet.
    """
    votes = _structured(catalogue)
    titles = [tokens(title) for title in catalogue.titles]
    counts = _ngrams(titles)
    heads = _heads(titles)
    phrases = []
    for text, kinds in votes.items():
        # The type that most items give it; of equal ones the first in the alphabet.
        kind = min(kinds, key=lambda kind: (-kinds[kind], kind))
        phrases.append(Phrase(text, kind, max(counts[text], kinds.total())))
    for text, count in counts.items():
        if count >= min_count and text not in votes and _worth(text, count, counts, votes):
            phrases.append(Phrase(text, _mined_type(text, count, heads), count))
    phrases.sort(key=lambda phrase: (-phrase.items, phrase.text))
    return Lexicon(phrases[:most])


def _structured(catalogue: Catalogue) -> dict[str, Counter[KeywordType]]:
    votes: dict[str, Counter[KeywordType]] = {}

    def vote(value: str, kind: KeywordType) -> None:
        words = tokens(value)
        if 0 < len(words) <= WORDS and not all(word in STOP_WORDS for word in words):
            votes.setdefault(" ".join(words), Counter())[kind] += 1

    for brand, category, attributes in zip(catalogue.brands, catalogue.categories, catalogue.attributes, strict=True):
        vote(brand, KeywordType.BRAND)
        for part in category.split("/"):
            vote(part, KeywordType.ENTITY)
        for name, value in attributes.items():
            vote(value, type_of_attribute(name))
    return votes


def _ngrams(titles: Sequence[Sequence[str]]) -> Counter[str]:
    """In how many titles each n-gram of up to three words is; none holds a stop word."""
    counts: Counter[str] = Counter()
    for words in titles:
        seen = set()
        for start in range(len(words)):
            for stop in range(start + 1, min(start + 3, len(words)) + 1):
                if words[stop - 1] in STOP_WORDS:
                    break
                seen.add(" ".join(words[start:stop]))
        counts.update(seen)
    return counts


def _heads(titles: Sequence[Sequence[str]]) -> Counter[str]:
    """How often each word ends a title's noun phrase: it stands last, or before the first "with", "in", "for"..."""
    heads: Counter[str] = Counter()
    for words in titles:
        stop = next((n for n, word in enumerate(words) if n and word in STOP_WORDS), len(words))
        if stop:
            heads[words[stop - 1]] += 1
    return heads


def _worth(text: str, items: int, counts: Counter[str], typed: Container[str]) -> bool:
    """Whether an n-gram of titles is a phrase.

    A single word of at least two letters is, a bare number is not. Several words are if they are a good part of their
    rarest word's appearances, and no word has a type of its own: "light switch", but not "white switch".
    """
    words = text.split()
    if len(words) == 1:
        return len(text) > 1 and not text.replace(".", "").isdigit()
    if type_of_phrase(text) is KeywordType.SPECIFICATION:
        return True
    if any(word in typed or type_of_phrase(word) is not None or word.isdigit() for word in words):
        return False
    return items >= 0.3 * min(counts[word] for word in words)


def _mined_type(text: str, count: int, heads: Counter[str]) -> KeywordType:
    """By its words; else an entity if it often ends a noun phrase, else a modifier."""
    known = type_of_phrase(text)
    if known is not None:
        return known
    last = text.rsplit(" ", 1)[-1]
    return KeywordType.ENTITY if heads[last] >= 0.3 * count else KeywordType.MODIFIER
