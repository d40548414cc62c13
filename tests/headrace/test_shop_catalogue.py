"""The simulated catalogue: rich words, titles that agree with the attributes, the same shop for the same seed."""

from __future__ import annotations

import numpy as np
import pytest

from headrace.shop.catalogue import ASKED, TYPES, build_catalogue, build_columns, words
from headrace.shop.users import BRANDS
from headrace.shop.vocabulary import CATEGORIES, SIZES


def _catalogue(n: int, seed: int = 1):
    columns = build_columns(n, seed)
    return columns, build_catalogue(columns, np.zeros(n, dtype=np.int64), seed)


def test_the_vocabulary_has_sixty_types_in_twelve_categories_and_no_name_twice():
    assert len(CATEGORIES) == 12
    assert len(TYPES) == 60
    names = [name for _, type_ in TYPES for name in type_.names]
    assert len(set(names)) == len(names)
    assert all(len(type_.names) >= 2 and type_.sizes in SIZES for _, type_ in TYPES)


def test_every_category_has_as_many_brands_as_users_choose_from():
    assert {len(category.brands) for category in CATEGORIES} == {BRANDS}


def test_a_title_names_brand_and_type_and_only_values_the_item_has():
    columns, catalogue = _catalogue(400)
    for row, (title, named) in enumerate(zip(catalogue.titles, catalogue.attributes, strict=True)):
        type_ = int(columns.type_N[row])
        assert title.startswith(named["brand"])
        assert any(f" {name} for " in title for name in TYPES[type_][1].names)
        for attribute in ("colour", "material"):
            for other in set(words(type_, attribute)) - {named[attribute]}:
                assert f" {other} " not in title


def test_attributes_are_the_words_of_the_columns():
    columns, catalogue = _catalogue(300)
    for row, named in enumerate(catalogue.attributes):
        for attribute in ASKED:
            word = words(int(columns.type_N[row]), attribute)[int(columns.asked(attribute)[row])]
            assert named.get(attribute, "") == word


def test_a_seed_makes_one_catalogue():
    first, again, other = _catalogue(200, 5)[1], _catalogue(200, 5)[1], _catalogue(200, 6)[1]
    assert first.titles == again.titles and np.array_equal(first.prices_N, again.prices_N)
    assert first.titles != other.titles


def test_a_type_has_several_tens_of_items_in_two_thousand():
    columns, _ = _catalogue(2_000)
    counts = np.bincount(columns.type_N, minlength=len(TYPES))
    assert counts.min() >= 15 and np.median(counts) >= 25


def test_prices_scatter_around_the_types_median():
    """Log-normal around the median: half of the items lie below it."""
    columns, catalogue = _catalogue(4_000)
    median_N = np.array([type_.price for _, type_ in TYPES])[columns.type_N]
    assert (catalogue.prices_N < median_N).mean() == pytest.approx(0.5, abs=0.04)
