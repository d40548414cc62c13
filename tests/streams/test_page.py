"""An impression taken apart as bytes says what the same impression says decoded, whatever its texts hold."""

from __future__ import annotations

import json
import string

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from schemas.codec import decode, encode
from schemas.events import Click, Impression, ShownItem, Tick
from schemas.filters import Filter
from schemas.topics import INPUTS, VIEWS
from schemas.views import View, ViewItem, ViewStatus
from streams.attribution.core import AttributionCore
from streams.attribution.page import canonical, entry, shows, view
from streams.attribution.state import Dumped
from streams.runtime.core import Record
from tests.streams.attribution_worker import RULES

#: Texts that look like JSON's own marks and like the names that are looked for.
MARKS = [
    '"',
    "\\",
    ",",
    ":",
    '","query":"',
    ',"items":[',
    '{"item":"a","position":1',
    ',"v":1}',
    "é",
    "\n",
    "\ud83d\ude00".encode("utf-16", "surrogatepass").decode("utf-16"),
]
TEXTS = st.lists(st.sampled_from([*MARKS, *string.ascii_letters[:6]]), min_size=1, max_size=4).map("".join)
LISTS = st.lists(TEXTS, max_size=3).map(tuple)
ITEMS = st.lists(TEXTS, min_size=1, max_size=4, unique=True)
IMPRESSIONS = st.builds(
    lambda request, user, query, items, **more: Impression(
        5, request, user, query, tuple(ShownItem(item, n + 1, 1 / (n + 1)) for n, item in enumerate(items)), **more
    ),
    TEXTS, TEXTS, TEXTS, ITEMS, session=TEXTS, recent_queries=LISTS, candidates=LISTS, checkpoint=TEXTS, market=TEXTS,
    recent_orders=LISTS, support=st.integers(0, 9), filter=st.builds(Filter, categories=LISTS, in_stock=st.booleans(), pin=LISTS),
)  # fmt: skip


def other_order(raw: bytes) -> bytes:
    """The same JSON with its keys the other way round, spaces between them, and every letter beyond ASCII escaped."""
    return json.dumps(dict(reversed(json.loads(raw).items())), indent=1).encode()


@given(IMPRESSIONS)
def test_a_view_of_stretches_is_the_view_that_is_encoded(page: Impression) -> None:
    """Of the impression as it is encoded, and of the same in other words once it was made canonical."""
    raw = encode(page)
    assert canonical(other_order(raw)) == raw
    items = tuple(ViewItem(entry.item, entry.position, entry.propensity) for entry in page.items)
    said = {name: getattr(page, name) for name in page.__struct_fields__ if name not in ("items", "v")}
    expected = View(
        view_id=f"{page.request_id}:final:7", status=ViewStatus.FINAL, revision=7, emitted_at=9, items=items, **said
    )
    assert view(raw, "final", 7, page.ts, 9) == encode(expected)


@given(IMPRESSIONS)
def test_an_entry_is_the_item_and_nothing_else(page: Impression) -> None:
    raw = encode(page)
    for shown in page.items:
        start, end = entry(raw, shown.item)
        assert raw[start:end] == encode(shown)


@given(IMPRESSIONS, TEXTS)
def test_an_item_is_on_the_page_if_and_only_if_it_is_shown(page: Impression, other: str) -> None:
    """Neither a part of another's name nor a text that looks like an item counts."""
    raw, names = encode(page), {entry.item for entry in page.items}
    for item in (*names, other, page.query, page.session):
        assert shows(raw, item) == (item in names)


def joined(spell: dict[str, bytes], dumped: bool = False) -> list[bytes]:
    """The views of one page with one click, its impression as it is spelt; ``dumped``: by a state of before in between."""
    core = AttributionCore(0, RULES)
    core.apply("search.impressions", [Record(0, 10_000, b"u", spell["search.impressions"])])
    core.apply("search.clicks", [Record(0, 10_000, b"u", encode(Click(6_000, "u", "b", "r", 2)))])
    core.apply("search.orders", [Record(0, 10_000, b"u", encode(Tick(6_000)))])
    if dumped:
        for topic in INPUTS:
            core.apply(topic.name, [Record(1, 90_000, b"", encode(Tick(20_000)))])
        core.advance()  # the view is open now
        old = msgspec.msgpack.decode(core.dump(), type=Dumped)
        for held in old.views:
            held.raw = spell["search.impressions"]  # as it was kept before
        old.canonical = False
        core = AttributionCore(0, RULES)
        core.load(msgspec.msgpack.encode(old))
    for topic in INPUTS:
        core.apply(topic.name, [Record(2, 900_000, b"", encode(Tick(900_000)))])
    core.advance()
    return [o.value for o in core.drain()[0] if o.topic == VIEWS.name and b'"view_id"' in o.value]


def test_the_join_says_the_same_however_an_impression_is_spelt() -> None:
    """Clicked and closed, from the impression itself, from a spelling of its own, and from a state of before."""
    raw = encode(Impression(5_000, "r", "u", 'a "q"', (ShownItem("a", 1), ShownItem("b", 2)), session="é"))
    expected = joined({"search.impressions": raw})
    assert [decode(VIEWS.kind, value).items[1].clicks for value in expected] == [1]
    for dumped in (False, True):
        assert joined({"search.impressions": other_order(raw)}, dumped) == expected
