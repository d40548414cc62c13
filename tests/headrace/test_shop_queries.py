"""Queries and their relevance by construction."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.shop.catalogue import ASKED, TYPE_CATEGORY, TYPES, Columns, build_columns, words
from headrace.shop.queries import KINDS, Query, build_queries, misspell, tier_of
from schemas.errors import InvalidSetting

RUNNING_SHOES, SNEAKERS, T_SHIRT = 0, 1, 5  # rows of TYPES: two of "shoes", one of "clothing"


def _columns(types, colours, brands) -> Columns:
    n = len(types)
    rest = {f"{name}_N": np.zeros(n, dtype=np.int16) for name in ("material", "style", "audience", "specification")}
    return Columns(
        type_N=np.array(types, dtype=np.int16),
        colour_N=np.array(colours, dtype=np.int16),
        brand_N=np.array(brands, dtype=np.int16),
        price_z_N=np.zeros(n, dtype=np.float32),
        **rest,
    )


def test_tiers_by_hand():
    """ "red (4) Strydon (0) running shoes": both match 3, one missing 2, two missing 1, other shoes 1, a t-shirt 0."""
    columns = _columns([RUNNING_SHOES] * 4 + [SNEAKERS, T_SHIRT], [4, 4, 0, 0, 4, 4], [0, 1, 0, 1, 0, 0])
    query = Query("red strydon running shoes", "two attributes", RUNNING_SHOES, (("colour", 4), ("brand", 0)))
    assert tier_of(query, columns, np.arange(6)).tolist() == [3, 2, 2, 1, 1, 0]


def test_a_query_for_a_type_alone_is_answered_fully_by_the_type():
    columns = _columns([RUNNING_SHOES, SNEAKERS, T_SHIRT], [1, 2, 3], [1, 2, 3])
    assert tier_of(Query("runners", "synonym", RUNNING_SHOES, ()), columns, np.arange(3)).tolist() == [3, 1, 0]


@given(st.data())
def test_tiers_are_those_of_the_slow_rule(data):
    """Oracle: the four sentences of the module, item by item."""
    n = data.draw(st.integers(1, 20))
    small = st.lists(st.integers(0, 2), min_size=n, max_size=n)
    types = [data.draw(st.sampled_from([0, 1, 5, 6])) for _ in range(n)]
    colours, brands = data.draw(small), data.draw(small)
    wants = data.draw(st.sampled_from([(), (("colour", 1),), (("brand", 0),), (("colour", 2), ("brand", 1))]))
    query = Query("q", "type", 0, wants)

    def slow(row: int) -> int:
        if types[row] == 0:
            have = {"colour": colours[row], "brand": brands[row]}
            missing = sum(have[attribute] != value for attribute, value in wants)
            return 3 if missing == 0 else 2 if missing == 1 else 1
        return 1 if TYPE_CATEGORY[types[row]] == TYPE_CATEGORY[0] else 0

    rows = np.arange(n)
    assert tier_of(query, _columns(types, colours, brands), rows).tolist() == [slow(row) for row in rows]


def test_every_query_has_an_item_that_answers_it_fully_and_texts_differ():
    columns = build_columns(2_000, 3)
    queries = build_queries(300, columns, 3)
    assert len({query.text for query in queries}) == len(queries) == 300
    assert all((tier_of(query, columns, np.arange(2_000)) == 3).any() for query in queries)


def test_all_kinds_of_queries_are_made_about_as_often_as_stated():
    """Repeated texts count once, so plain types, of which there are 60, fall behind; the others keep their order."""
    kinds = [query.kind for query in build_queries(300, build_columns(2_000, 3), 3)]
    assert set(kinds) == {kind for kind, _, _ in KINDS}
    assert kinds.count("attribute") > kinds.count("two attributes")


def test_the_text_of_a_brand_query_is_brand_and_type():
    columns = build_columns(500, 4)
    for query in build_queries(200, columns, 4):
        if query.kind == "brand":
            brand = words(query.type_, "brand")[query.wants[0][1]].lower()
            assert query.text == f"{brand} {TYPES[query.type_][1].names[0]}"
        assert len(query.wants) == {kind: asked for kind, _, asked in KINDS}[query.kind]
        assert all(attribute in ASKED for attribute, _ in query.wants)


@given(st.integers(0, 10_000), st.sampled_from(["running shoes", "tee", "chef knife", "dumbbells"]))
def test_a_misspelling_keeps_the_first_letters_and_is_one_slip_away(seed, text):
    slip = misspell(text, np.random.default_rng(seed))
    assert [part[0] for part in slip.split(" ")] == [part[0] for part in text.split(" ")]
    assert abs(len(slip) - len(text)) <= 1
    assert slip != text


def test_more_queries_than_the_catalogue_has_is_an_error_that_says_how_many_there_are():
    with pytest.raises(InvalidSetting, match=r"queries is 200, but must be at most about \d+ for this catalogue"):
        build_queries(200, build_columns(1, 1), 1)
