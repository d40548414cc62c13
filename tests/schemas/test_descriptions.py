"""What records say of items, against a catalogue written anew line by line."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.catalogue import Catalogue
from schemas.descriptions import Description, rounded, said_by, shortest
from schemas.events import ItemAdded

SHOP = Catalogue(
    ("a", "b"), ("red shoe", "blue lamp"), ("shoes", ""), ("kelda", ""), np.array([19.99, 0], np.float32),
    np.array([0, 5]), ({"colour": "red"}, {}), np.array([0.25, 0.5], np.float32), np.array([False, True]),
)  # fmt: skip
RECORDS = st.lists(
    st.builds(
        lambda item, title, sid, category, brand, price, ts: ItemAdded(
            ts, item, title, sid, "v", category=category, brand=brand, price=price
        ),
        st.sampled_from("abxy"), st.sampled_from(["red shoe", "oil lamp"]), st.sampled_from([(1,), ()]),
        st.sampled_from(["", "lamps"]), st.sampled_from(["", "orvo"]), st.sampled_from([0.0, 19.99, 5.5]), st.integers(1, 9),
    ),
    max_size=8,
)  # fmt: skip


def slowly(records: list[ItemAdded]) -> dict[str, list[object]]:
    """Item -> title, category, brand, price, available from, in stock; in the catalogue's order."""
    known: dict[str, list[object]] = {
        "a": ["red shoe", "shoes", "kelda", 19.99, 0, False], "b": ["blue lamp", "", "", 0.0, 5, True],
    }  # fmt: skip
    for record in records:
        if not record.sid:
            continue
        line = known.setdefault(record.item, ["", "", "", 0.0, record.ts, True])
        line[0] = record.title
        for at, said in ((1, record.category), (2, record.brand), (3, record.price)):
            if said:
                line[at] = said
    return known


def lines(shop: Catalogue) -> dict[str, list[object]]:
    assert shop.in_stock_N is not None
    prices = [shortest(price) for price in shop.prices_N]
    columns = (
        shop.titles, shop.categories, shop.brands, prices, shop.available_from_N.tolist(), shop.in_stock_N.tolist(),
    )  # fmt: skip
    return {item: list(line) for item, *line in zip(shop.items, *columns, strict=True)}


def after(shop: Catalogue, records: list[ItemAdded]) -> Catalogue:
    first: dict[str, int] = {}
    for record in records:
        if record.sid:
            first.setdefault(record.item, record.ts)
    return shop.described(shop.told(said_by(records)), first)


@given(RECORDS, st.integers(0, 8))
def test_records_describe_items_in_one_go_and_in_two(records: list[ItemAdded], cut: int) -> None:
    """The last title of a record with an identifier, and of each fact the last that was said; new items in the order in which they
    came, every column of the same length."""
    now = after(SHOP, records)
    assert list(lines(now).items()) == list(slowly(records).items())
    by_two = after(after(SHOP, records[:cut]), records[cut:])
    for field in fields(Catalogue):
        ours, theirs = getattr(now, field.name), getattr(by_two, field.name)
        assert len(ours) == len(now) and np.array_equal(ours, theirs, equal_nan=field.name == "margins_N")


@given(RECORDS)
def test_who_is_told_of_is_who_differs(records: list[ItemAdded]) -> None:
    """A record that repeats what is known tells nothing, and a catalogue that is told nothing is the same object."""
    told, before = SHOP.told(said_by(records)), lines(SHOP)
    assert set(told) == {item for item, line in slowly(records).items() if line[:4] != before.get(item, [])[:4]}
    now = after(SHOP, records)
    again = [ItemAdded(9, item, *said[:1], (1,), "v", (), *said[1:3], shortest(said.price)) for item, said in told.items()]
    assert now.told(said_by(again)) == {} and now.described({}, {}) is now


def test_a_price_is_as_the_catalogue_keeps_it() -> None:
    """In float32, written as its shortest number; so 19.99 that comes back as 19.99 is no change."""
    assert rounded(19.99) != 19.99 == shortest(rounded(19.99)) and shortest(-0.0) == rounded(0.0) == 0.0
    assert (
        SHOP.description("a") == Description("red shoe", "shoes", "kelda", rounded(19.99)) and SHOP.description("z") is None
    )
    assert SHOP.titles is SHOP.described({"a": Description("red shoe", "boots", "kelda", 5.0)}, {}).titles
