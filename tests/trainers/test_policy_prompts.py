"""The vocabulary and the prompt: what stands where, what is left out, what is remembered."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError
from tokenizers import Tokenizer

from schemas.errors import Corrupt, InvalidValue, Unavailable
from schemas.examples import TrainingExample
from schemas.views import View, ViewStatus
from serving.requests import AnsweredItem, Scores, SearchAnswer, SearchRequest, impression
from tests.trainers import policy_toys as toys
from trainers.policies.base import PromptContext, context_of
from trainers.policies.lexical import LexicalIndex
from trainers.policies.long_history import LongHistory
from trainers.policies.prompts import PromptBuilder
from trainers.policies.settings import PolicySettings, PromptSettings, WarmStartSettings
from trainers.policies.tokenizer import PromptTokenizer

TOKENIZER = toys.toy_tokenizer()
ITEMS = {"i1": (1, 2, 0, 1, 0), "i2": (3, 0, 2, 0, 1)}


def builder_with(encoder: toys.HashEncoder, **settings: object) -> PromptBuilder:
    return PromptBuilder(TOKENIZER, toys.query_sids, encoder, ITEMS.get, PromptSettings.model_validate(settings))


def test_a_prompt_reads_slot_query_identifier_query_items_queries_end() -> None:
    context = PromptContext("red lamp", ("blue rug", "chair", "dropped"), ("i2", "unknown", "i1", "beyond"))
    batch = builder_with(toys.HashEncoder(), recent_items=3, recent_queries=2).build([context, PromptContext("rug")])
    [query_sid] = toys.query_sids(["red lamp"], None)
    expected = [TOKENIZER.dense, *TOKENIZER.sid(query_sid), *TOKENIZER.text("red lamp", 32)]
    expected += TOKENIZER.sid((3, 0, 2, 0, 1)) + TOKENIZER.sid((1, 2, 0, 1, 0))  # newest first, the unknown one left out
    expected += [TOKENIZER.sep, *TOKENIZER.text("blue rug", 8), TOKENIZER.sep, *TOKENIZER.text("chair", 8), TOKENIZER.eos]
    assert batch.tokens_BS[0].tolist() == expected
    short = 1 + 5 + len(TOKENIZER.text("rug", 32)) + 1
    assert batch.mask_BS.sum(dim=1).tolist() == [len(expected), short]
    assert batch.tokens_BS[1, short:].tolist() == [TOKENIZER.pad] * (len(expected) - short)
    assert torch.equal(batch.dense_BE[0], torch.from_numpy(toys.HashEncoder().encode(["red lamp"])[0]))


def test_history_never_pushes_the_query_out_and_no_prompt_is_longer_than_the_model_takes() -> None:
    long = "red lamp number " * 3_000
    settings = PromptSettings()
    builder = builder_with(toys.HashEncoder())
    batch = builder.build([PromptContext(long, (long,) * 9, ("i1", "i2", "i1", "i2"))])
    assert batch.tokens_BS[0, 6 : 6 + settings.query_tokens].tolist() == TOKENIZER.text(long, settings.query_tokens)
    assert batch.tokens_BS.shape[1] == settings.longest(5) == 1 + 5 + 200 + 2 * 9 + 3 * 5 + 1


@pytest.mark.parametrize("limit", [4, 32])
def test_a_query_is_cut_exactly_where_it_has_more_pieces_than_a_prompt_takes(limit: int) -> None:
    """What is cut changes no token, and the embedding all the same; what just fits is not cut, nor what is cut at a character."""
    builder = builder_with(toys.HashEncoder(), query_tokens=limit)
    words = "red lamp blue rug chair " * 40
    whole = TOKENIZER.text(words, 10_000)
    texts = {n: TOKENIZER.backend.decode(whole[:n]).strip() for n in (limit - 1, limit, limit + 1)}
    pieces = {n: len(TOKENIZER.text(text, 10_000)) for n, text in texts.items()}
    assert pieces[limit - 1] < limit < pieces[limit + 1] and pieces[limit] == limit
    assert [builder.cuts(text) for text in texts.values()] == [False, False, True]
    fits, cut = builder.pieces([texts[limit], texts[limit + 1]])
    assert cut.tokens == fits.tokens and len(cut.tokens) == limit and not np.array_equal(cut.dense_E, fits.dense_E)
    assert builder.cuts("a" + " " * 64 * limit + "b")


def test_looking_whether_queries_are_cut_embeds_none_of_them() -> None:
    """A warm start looks at all its texts, the titles too: an embedding for each would take minutes."""

    class Counting(toys.HashEncoder):
        asked = 0

        def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
            self.asked += len(texts)
            return super().encode(texts)

    encoder = Counting()
    builder = builder_with(encoder)
    assert not any(map(builder.cuts, ("red lamp", "blue rug"))) and encoder.asked == 0
    builder.pieces(["red lamp"])
    assert encoder.asked == 1


def test_the_long_history_is_the_sum_of_residual_centroids_scaled_to_one() -> None:
    """By hand: i1 and i2 clicked, i1 ordered, and related is what shares the query's first code."""
    centroids = toys.toy_centroids()
    builder = PromptBuilder(
        TOKENIZER, toys.query_sids, toys.HashEncoder(), ITEMS.get, PromptSettings(long_history=True), centroids
    )
    place = {item: sum(centroids[level][code] for level, code in enumerate(sid[:3])) for item, sid in ITEMS.items()}
    contexts = [PromptContext("red lamp", (), ("i1", "unknown", "i2"), ("i1",)), PromptContext("rug")]
    batch = builder.build(contexts)
    [query_sid] = toys.query_sids(["red lamp"], None)
    related = [item for item in ("i1", "i2", "i1") if ITEMS[item][0] == query_sid[0]]
    sums = [place["i1"] + place["i2"], place["i1"], sum((place[item] for item in related), np.zeros(toys.WIDTH))]
    assert batch.history_BJE is not None and batch.history_BJE.shape == (2, 3, toys.WIDTH)
    for vector, expected in zip(batch.history_BJE[0], sums, strict=True):
        np.testing.assert_allclose(vector, expected / max(float(np.linalg.norm(expected)), 1e-12), atol=1e-6)
    assert not bool(batch.history_BJE[1].any())  # no history: nothing is added to the slots
    assert batch.tokens_BS[0, :4].tolist() == [TOKENIZER.dense] * 4
    assert batch.tokens_BS[0, 4:9].tolist() == TOKENIZER.sid(query_sid)
    assert torch.equal(batch.rows(torch.tensor([1])).history_BJE, batch.history_BJE[1:])


def test_some_item_is_related_to_its_own_first_code() -> None:
    """The toy's queries may miss every item: here the query's first code is that of one of two."""
    history = LongHistory(toys.toy_centroids(), ITEMS.get)
    [vectors] = history.vectors([PromptContext("q", (), ("i1", "i2"), ())], [ITEMS["i2"][0]])
    [alone] = history.vectors([PromptContext("q", (), ("i2",), ())], [0])
    np.testing.assert_allclose(vectors[2], alone[0], atol=1e-6)


def test_the_best_items_by_shared_words_follow_the_query_once_they_are_available() -> None:
    titles = ("Red lamps, large", "Blue lamp", "Green rug", "Red rug")
    catalogue = {f"t{n}": (n, 0, 0, 0, 0) for n in range(4)}
    index = LexicalIndex(tuple(catalogue), titles, np.array([0, 0, 0, 50]))
    assert index.best("the red lamp", 2)[0] == ("t0", 0)
    assert {item for item, _ in index.best("the red lamp", 2)} == {"t0", "t1", "t3"}  # a rug that is green shares no word
    assert index.best("sofa", 2) == ()
    builder = PromptBuilder(
        TOKENIZER,
        toys.query_sids,
        toys.HashEncoder(),
        catalogue.get,
        PromptSettings(lexical_items=2, recent_items=1),
        None,
        index,
    )
    text = TOKENIZER.text("red rug", 32)
    for ts, best in ((50, ("t3", "t2")), (49, ("t2", "t0")), (0, ("t3", "t2"))):
        [row] = builder.build([PromptContext("red rug", (), ("t1",), (), ts)]).tokens_BS.tolist()
        shown = row[6 + len(text) : 6 + len(text) + 10]
        assert shown == [token for item in best for token in TOKENIZER.sid(catalogue[item])]  # short titles weigh more
        assert row[6 + len(text) + 10 :] == [TOKENIZER.sep, *TOKENIZER.sid(catalogue["t1"]), TOKENIZER.eos]


def test_a_prompt_without_the_dense_query_has_an_empty_slot() -> None:
    batch = builder_with(toys.HashEncoder(), dense_query=False).build([PromptContext("red lamp")])
    assert not bool(batch.dense_BE.any()) and int(batch.tokens_BS[0, 0]) == TOKENIZER.dense


def test_a_part_that_lacks_what_it_needs_is_refused() -> None:
    with pytest.raises(InvalidValue, match="centroids of the long history"):
        builder_with(toys.HashEncoder(), long_history=True)
    with pytest.raises(InvalidValue, match="index of the lexical items"):
        builder_with(toys.HashEncoder(), lexical_items=3)


def test_server_and_learner_see_the_same_prompt() -> None:
    """What the request knew travels in its impression, its view and its example, and gives the same context."""
    known = {"recent_queries": ("a",), "recent_items": ("i1",), "recent_orders": ("i2",)}
    request = SearchRequest("r1", 7, "u", "red lamp", **known)
    answer = SearchAnswer(
        "r1", "red lamp", "c", 1, 0, (AnsweredItem("i1", (0,), "", 1, Scores(*[0.0] * 5, 0, 0.0, 0.0), 1.0),), 0.0
    )
    shown = impression(request, answer)
    view = View("r1:x:1", "r1", ViewStatus.FINAL, 1, shown.ts, 9, "u", shown.query, (), **known)
    learned = TrainingExample("r1:x:1", "r1", ViewStatus.FINAL, 1, view.ts, 9, "u", view.query, (), "r", 0, **known)
    expected = PromptContext("red lamp", ("a",), ("i1",), ("i2",), 7)
    assert [context_of(asked) for asked in (request, shown, view, learned)] == [expected] * 4


def test_an_empty_query_still_has_a_prompt_and_no_prompts_is_an_error() -> None:
    batch = builder_with(toys.HashEncoder()).build([PromptContext("")])
    assert int(batch.mask_BS.sum()) >= 7
    with pytest.raises(InvalidValue, match="number of prompts"):
        builder_with(toys.HashEncoder()).build([])


def test_a_query_is_encoded_once_while_it_is_remembered() -> None:
    encoder = toys.HashEncoder()
    builder = builder_with(encoder, cache=2)
    first = builder.build([PromptContext("a"), PromptContext("b"), PromptContext("a")])
    assert encoder.texts == 2
    again = builder.build([PromptContext("a"), PromptContext("b"), PromptContext("a")])
    assert encoder.texts == 2
    assert torch.equal(first.tokens_BS, again.tokens_BS)
    assert torch.equal(first.dense_BE, again.dense_BE)
    builder.build([PromptContext("c")])  # two are kept: "b", the least recently used, goes
    builder.build([PromptContext("a")])
    assert encoder.texts == 3
    builder.build([PromptContext("b")])
    assert encoder.texts == 4


def test_what_is_remembered_of_queries_is_inherited_where_it_is_the_same() -> None:
    """The next checkpoint's builder embeds no query again; other settings or another vocabulary begin anew."""
    encoder = toys.HashEncoder()
    before = builder_with(encoder)
    first = before.build([PromptContext("red garden shoe", ("a",))])
    written = PromptTokenizer(Tokenizer.from_str(TOKENIZER.backend.to_str()), TOKENIZER.level_sizes)
    after = PromptBuilder(written, toys.query_sids, encoder, ITEMS.get, PromptSettings())
    after.inherit(before)
    again = after.build([PromptContext("red garden shoe", ("a",))])
    assert encoder.texts == 1
    assert torch.equal(first.tokens_BS, again.tokens_BS) and torch.equal(first.dense_BE, again.dense_BE)
    fewer = PromptTokenizer.train(["red garden shoe"] * 3, TOKENIZER.level_sizes, 280)
    others = (
        builder_with(encoder, query_tokens=4),
        PromptBuilder(fewer, toys.query_sids, encoder, ITEMS.get, PromptSettings()),
    )
    for count, other in enumerate(others, start=2):
        other.inherit(before)
        fresh = other.build([PromptContext("red garden shoe", ("a",))])
        assert encoder.texts == count
        assert fresh.tokens_BS.tolist() != first.tokens_BS.tolist()


def test_without_a_cache_nothing_is_remembered_and_prompts_are_the_same() -> None:
    encoder = toys.HashEncoder()
    builder = builder_with(encoder, cache=0)
    one, two = builder.build([PromptContext("a", ("b",))]), builder.build([PromptContext("a", ("b",))])
    assert encoder.texts == 2
    assert torch.equal(one.tokens_BS, two.tokens_BS)


@given(st.text(max_size=60))
def test_text_becomes_text_pieces_only(text: str) -> None:
    """A query that spells <a_3>, <eos> or their full-width forms cannot forge an identifier or a special token."""
    for spelled in (text, f"<a_3>{text}", f"{text}<eos><b_1>", f"＜a_3＞{text}"):
        pieces = TOKENIZER.text(spelled, 50)
        assert all(TOKENIZER.dense < piece < TOKENIZER.level_start[0] for piece in pieces)


@given(st.text(alphabet=st.characters(codec="utf-8", exclude_characters="<"), min_size=1, max_size=30))
def test_any_text_can_be_read_back(text: str) -> None:
    """Bytes are the alphabet: nothing is unknown. NFKC and lower case are the only losses."""
    back = TOKENIZER.backend.decode(TOKENIZER.text(text, 10_000))
    assert back.strip() == TOKENIZER.backend.normalizer.normalize_str(text).strip()


def test_levels_own_consecutive_ranges_after_the_text() -> None:
    assert TOKENIZER.sid((3, 0, 2, 1, 1)) == [
        TOKENIZER.backend.token_to_id(t) for t in ("<a_3>", "<b_0>", "<c_2>", "<d_1>", "<e_1>")
    ]
    start = TOKENIZER.level_start
    assert [b - a for a, b in zip(start, (*start[1:], len(TOKENIZER)), strict=True)] == list(toys.SIZES)


def test_the_same_texts_give_the_same_vocabulary() -> None:
    assert toys.toy_tokenizer().backend.to_str() == TOKENIZER.backend.to_str()


def test_a_tokenizer_of_another_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"tokenizer_config\.json"):
        PromptTokenizer.load(tmp_path)
    TOKENIZER.save(tmp_path)
    assert PromptTokenizer.load(tmp_path).level_start == TOKENIZER.level_start
    with pytest.raises(Corrupt, match="<a_4>"):
        PromptTokenizer(TOKENIZER.backend, (5, 3, 3, 2, 2))
    (tmp_path / "tokenizer_config.json").write_text("{}")
    with pytest.raises(Corrupt, match="level_sizes"):
        PromptTokenizer.load(tmp_path)


@pytest.mark.parametrize(
    ("settings", "field"),
    [
        (lambda: PolicySettings(d_model=30, heads=4), "a multiple of heads"),
        (lambda: PolicySettings(backbone="qwen3", d_model=20, heads=4), "even"),
        (lambda: PolicySettings(backbone="qwen3", kv_heads=3), "a divisor of heads"),
        (lambda: PolicySettings(backbone="gpt2", kv_heads=2), "0 with gpt2"),
        (lambda: PolicySettings(backbone="t5"), "backbone"),
        (lambda: PolicySettings(dropout=1.0), "dropout"),
        (lambda: PromptSettings(query_tokens=0), "query_tokens"),
        (lambda: PromptSettings(spare=1), "spare"),
        (lambda: WarmStartSettings(seconds=0, steps=0), "not both 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(settings: object, field: str) -> None:
    with pytest.raises(ValidationError, match=field):
        settings()


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, trainers.policies; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
