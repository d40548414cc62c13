"""The lexical index follows the items: BM25 by hand over what there is now, with words as rare as they were at first."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reward.text import stems
from schemas.catalogue import Catalogue
from schemas.events import ItemAdded
from tests.trainers import policy_toys
from trainers.identifiers.assortment import Assortment
from trainers.identifiers.trie import Trie
from trainers.policies.base import PromptContext
from trainers.policies.lexical import SPARE, LexicalIndex
from trainers.policies.prompts import PromptBuilder
from trainers.policies.settings import PromptSettings

TITLES = ("red lamp", "blue lamp large", "green rug", "red rug", "red red chair", "lamp", "blue rug")
SIDS = sorted(set(np.ndindex(*policy_toys.SIZES)))[: len(TITLES) + 4]
FREE = SIDS[len(TITLES) :]
WORDS = ("red", "lamp", "rug", "chair", "sofa", "velvet")
NAMES = (*(f"i{n}" for n in range(4)), "x", "y")


def shop() -> Assortment:
    count = len(TITLES)
    catalogue = Catalogue(
        tuple(f"i{n}" for n in range(count)), TITLES, ("",) * count, ("",) * count, np.ones(count, np.float32),
        np.arange(count), ({},) * count,
    )  # fmt: skip
    return Assortment(catalogue, Trie.build(np.array(SIDS[:count]), policy_toys.SIZES))


def slowly(query: str, limit: int, now: Assortment) -> tuple[tuple[str, int], ...]:
    """Okapi BM25 (k1 1.5, b 0.75) of every item that has an identifier; idf and mean length are those of `TITLES`. Each word's
    share is rounded to float32, and so is their sum, as the library does."""
    first = [stems(title) for title in TITLES]
    mean = sum(map(len, first)) / len(first)
    scored = []
    for row, title in enumerate(now.catalogue.titles):
        words, score = stems(title), np.float32(0)
        for word in stems(query):
            df = sum(word in other for other in first) or 1
            idf, tf = np.float32(math.log(1 + (len(first) - df + 0.5) / (df + 0.5))), words.count(word)
            score += np.float32(float(idf) * tf / (tf + 1.5 * (0.25 + 0.75 * len(words) / mean)))
        if score > 0 and now.trie.leaf_of([row])[0] >= 0:
            scored.append((-float(score), row))
    items, since = now.catalogue.items, now.catalogue.available_from_N
    return tuple((items[row], int(since[row])) for _, row in sorted(scored)[: limit * SPARE])


RECORDS = st.lists(
    st.builds(
        lambda item, sid, words, ts: ItemAdded(ts, item, " ".join(words), sid, "cb1"),
        st.sampled_from(NAMES),
        st.sampled_from([(), *FREE]),
        st.lists(st.sampled_from(WORDS), min_size=1, max_size=4),
        st.integers(10, 20),
    ),
    max_size=10,
)


@given(records=RECORDS, query=st.lists(st.sampled_from(WORDS), min_size=1, max_size=3), limit=st.integers(1, 3))
def test_what_is_found_is_bm25_over_what_there_is_now_in_one_go_and_one_by_one(
    records: list[ItemAdded], query: Sequence[str], limit: int
) -> None:
    """So the server, which takes records in as they come, and the learner, which works out the catalogue of a step, find the
    same. An item that takes back its first title is as it was."""
    text, first = " ".join(query), shop()
    index = LexicalIndex.of(first.catalogue)
    now, by_one = first, index
    for record in records:
        now = now.after([record])
        by_one = by_one.over(now, [record.item])
    at_once = index.over(first.after(records), [record.item for record in records])
    assert by_one.best(text, limit) == at_once.best(text, limit) == slowly(text, limit, now)
    assert index.best(text, limit) == slowly(text, limit, first)
    back = [ItemAdded(30, f"i{n}", TITLES[n], SIDS[n], "cb1") for n in range(4)]
    gone = [ItemAdded(30, item, "", (), "cb1") for item in ("x", "y")]
    assert at_once.over(now.after([*back, *gone]), NAMES).best(text, 9) == index.best(text, 9)


def test_an_index_that_learns_nothing_is_itself() -> None:
    """What a query found is then still good."""
    first = shop()
    index = LexicalIndex.of(first.catalogue)
    moved = first.after([ItemAdded(9, "i1", TITLES[1], FREE[0], "cb1")])
    assert index.over(moved, ["i1", "nobody"]) is index
    gone = first.after([ItemAdded(9, "i1", "", (), "cb1")])
    without = index.over(gone, ["i1"])
    assert without.over(gone, ["i1"]) is without is not index


def test_a_change_touches_no_title_but_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """However large the catalogue: one title is cut into words for one changed item, none for one that moved or went."""
    first, cut = shop(), list[str]()
    index = LexicalIndex.of(first.catalogue)

    def counted(text: str) -> list[str]:
        cut.append(text)
        return stems(text)

    monkeypatch.setattr("trainers.policies.lexical.stems", counted)
    now = first.after([ItemAdded(9, "x", "velvet sofa", FREE[0], "cb1"), ItemAdded(9, "i0", "", (), "cb1")])
    index = index.over(now, ["x", "i0"])
    assert cut == ["velvet sofa"]
    later = now.after([ItemAdded(9, "y", "red sofa", FREE[1], "cb1")])
    index.over(later, ["y"])
    assert cut == ["velvet sofa", "red sofa"]


def test_a_prompt_names_what_is_there_now() -> None:
    """A new item by its identifier, a retitled one where its new words are, a removed one nowhere; the builder before stays as
    it was, and no query is embedded again."""
    first, tokenizer, encoder = shop(), policy_toys.toy_tokenizer(), policy_toys.HashEncoder()
    settings = PromptSettings(lexical_items=2, recent_items=0)
    before = PromptBuilder(
        tokenizer, policy_toys.query_sids, encoder, first.sid_of, settings, None, LexicalIndex.of(first.catalogue)
    )

    def named(builder: PromptBuilder, query: str) -> list[list[int]]:
        [tokens] = builder.build([PromptContext(query)]).tokens_BS.tolist()
        found = tokens[6 + len(tokenizer.text(query, 32)) : -2]
        return [found[n : n + 5] for n in range(0, len(found), 5)]

    wanted = {"lamp": ["i5", "i0"], "rug": ["i2", "i3"]}
    for query, items in wanted.items():
        assert named(before, query) == [tokenizer.sid(SIDS[int(item[1:])]) for item in items]
    records = [
        ItemAdded(9, "i5", "rug", FREE[0], "cb1"),  # the shortest lamp is the shortest rug now
        ItemAdded(9, "i2", "", (), "cb1"),
        ItemAdded(9, "x", "lamp", FREE[1], "cb1"),
    ]
    now = first.after(records)
    after = before.over(now, [record.item for record in records])
    assert named(after, "lamp") == [tokenizer.sid(FREE[1]), tokenizer.sid(SIDS[0])]
    assert named(after, "rug") == [tokenizer.sid(FREE[0]), tokenizer.sid(SIDS[3])]
    for query, items in wanted.items():
        assert named(before, query) == [tokenizer.sid(SIDS[int(item[1:])]) for item in items]
    assert encoder.texts == 2
