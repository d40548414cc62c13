"""Identifiers after the build: items come, move and go, and nobody else is touched."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.codec import decode, encode
from schemas.descriptions import Description, rounded
from schemas.errors import Incompatible, InvalidValue, Unavailable
from schemas.events import ItemAdded
from schemas.store import Store
from tests.trainers.identifier_toys import build, embed, shop
from trainers.identifiers.assign import Assigner
from trainers.identifiers.drift import DriftBounds, drift
from trainers.identifiers.life import Life
from trainers.identifiers.mapping import Mapping

CATALOGUE = shop()
MADE = build(CATALOGUE)


def put(life: Life, item: str, title: str, category: str = "", price: float = 0.0) -> ItemAdded | None:
    return life.put(item, Description(title, category, price=rounded(price)), embed([title])[0], 7)


def test_a_new_item_gets_the_nearest_free_identifier_and_is_one_record() -> None:
    """The record says item, title, time, codebook; nothing is freed; the same again changes nothing."""
    life = Life(MADE, CATALOGUE)
    record = put(life, "new", "kelda red chair v999")
    taken = {tuple(sid) for sid in MADE.sids_NL.tolist()}
    assert record is not None and record.sid not in taken
    assert record == ItemAdded(7, "new", "kelda red chair v999", record.sid, MADE.version)
    nearest = MADE.query_sids(["kelda red chair v999"], embed(["kelda red chair v999"]))[0]
    assert record.sid[:2] == tuple(nearest[:2])
    assert put(life, "new", "kelda red chair v999") is None
    assert decode(ItemAdded, encode(record)) == record


def test_a_changed_title_moves_the_item_and_frees_its_identifier() -> None:
    """Both in one record; the freed identifier goes to the next item that is nearest to it."""
    life = Life(MADE, CATALOGUE)
    old = life.sid_of("i0")
    other = next(title for title in CATALOGUE.titles if title.split()[2] != CATALOGUE.titles[0].split()[2])
    record = put(life, "i0", other + " bis")
    assert record is not None and record.freed == old != record.sid == life.sid_of("i0")
    assert life.title_of("i0") == other + " bis"
    back = put(life, "again", CATALOGUE.titles[0])
    assert back is not None and back.sid == old


def test_facts_are_a_record_that_moves_nothing_and_stay_until_others_are_said() -> None:
    """A category and a price alone leave the identifier where it is; what is left out is as it was, across another title and a removal
    too; the same again changes nothing."""
    life = Life(MADE, CATALOGUE)
    old = life.sid_of("i0")
    record = put(life, "i0", CATALOGUE.titles[0], "lamps", 19.99)
    assert record == ItemAdded(7, "i0", CATALOGUE.titles[0], old, MADE.version, category="lamps", price=19.99)
    assert put(life, "i0", CATALOGUE.titles[0], "lamps", 19.99) is put(life, "i0", CATALOGUE.titles[0]) is None
    life.remove("i0", 8)
    with pytest.raises(InvalidValue, match="embed the title"):
        life.put("i0", Description("green rug v77"), None, 8)
    moved = put(life, "i0", "green rug v77", price=5.0)
    assert moved is not None and (moved.category, moved.price) == ("", 5.0)
    assert life.description_of("i0") == Description("green rug v77", "lamps", CATALOGUE.brands[0], 5.0)


def test_a_removed_item_frees_its_identifier() -> None:
    """It has none afterwards; removing what is not there is nothing; it can come back."""
    life = Life(MADE, CATALOGUE)
    old = life.sid_of("i3")
    record = life.remove("i3", 9)
    assert record == ItemAdded(9, "i3", CATALOGUE.titles[3], (), MADE.version, old)
    assert life.sid_of("i3") == () and life.remove("i3", 9) is None and life.remove("nobody", 9) is None
    sids_NL, titles = life.present()
    assert len(sids_NL) == len(CATALOGUE) - 1 and CATALOGUE.titles[3] not in titles
    back = put(life, "i3", CATALOGUE.titles[3])
    assert back is not None and back.sid == old and back.freed == ()


ITEMS = st.sampled_from([*CATALOGUE.items[:6], "new1", "new2", "new3"])
STEP = st.tuples(
    ITEMS, st.sampled_from(["", "red chair", "white lamp kelda", "green rug", "black sofa v2"]),
    st.sampled_from(["", "lamps", "rugs"]), st.sampled_from([0.0, 19.99]),
)  # fmt: skip


@settings(deadline=None, max_examples=40)
@given(st.lists(STEP, max_size=15), st.booleans())
def test_no_two_items_share_and_a_replay_knows_the_same(steps: list[tuple[str, str, str, float]], share: bool) -> None:
    """After any changes: identifiers are distinct (or shared by equal titles alone where that is allowed), untouched items
    have what they had, and another writer who reads the records, even twice, goes on in the same way."""
    made = build(CATALOGUE, share=share) if share else MADE
    life = Life(made, CATALOGUE)
    records = []
    for item, title, category, price in steps:
        record = put(life, item, title, category, price) if title else life.remove(item, 7)
        records += [record] if record else []
    title_of: dict[tuple[int, ...], str] = {}
    for sid, title in zip(*life.present(), strict=True):
        assert title_of.setdefault(tuple(sid), title) == title
    sids_NL, _ = life.present()
    assert share or len(np.unique(sids_NL, axis=0)) == len(sids_NL)
    touched = {item for item, *_ in steps}
    for row, item in enumerate(CATALOGUE.items):
        assert item in touched or life.sid_of(item) == tuple(made.sids_NL[row].tolist())
    other = Life(made, CATALOGUE)
    other.replay(records)
    other.replay(records[-1:])
    assert other.changed() == life.changed()
    assert all(other.description_of(item) == life.description_of(item) for item in touched)
    assert put(other, "last", "red chair v0") == put(life, "last", "red chair v0")


def test_after_a_replay_too_nobody_shares_by_a_title_that_is_no_longer_there() -> None:
    """i0 gets another title and keeps its identifier; an item under the old title then gets one of its own, under the new
    title the same one, whether the writer gave i0 the title or read of it."""
    made, old = build(CATALOGUE, share=True), CATALOGUE.titles[0]
    near_D = embed([old])[0]
    for title, shares in ((old, False), (f"{old} zzz", True)):
        wrote, read = Life(made, CATALOGUE), Life(made, CATALOGUE)
        record = wrote.put("i0", Description(f"{old} zzz"), near_D, 7)
        assert record is not None and record.sid == tuple(made.sids_NL[0].tolist())
        read.replay([record])
        given = [life.put("copy", Description(title), near_D, 8) for life in (wrote, read)]
        assert given[0] == given[1] and given[0] is not None
        assert (given[0].sid == record.sid) == shares


def test_an_item_keeps_what_it_had_where_no_identifier_is_free() -> None:
    """With every identifier taken a move is refused, and the item's own is still its own."""
    catalogue = shop(4)
    made = build(catalogue)
    life = Life(made, catalogue)
    spaces = int(np.prod(made.level_sizes[2:]))
    first = made.query_sids(["red chair"], embed(["red chair"]))[0]
    for key in range(spaces):
        codes = (*first[:2].tolist(), *np.unravel_index(key, made.level_sizes[2:]))
        life._assigner.claim(tuple(map(int, codes)), "")
    if life.sid_of("i0")[:2] == tuple(first[:2]):  # the first item must not lie where everything is taken
        life._assigner.claim(life.sid_of("i0"), "")
    old = life.sid_of("i0")
    with pytest.raises(InvalidValue, match="larger level sizes"):
        put(life, "i0", "red chair")
    assert life.sid_of("i0") == old and life.title_of("i0") == catalogue.titles[0]


def test_records_of_another_codebook_and_catalogues_of_another_size_are_refused() -> None:
    """By name."""
    with pytest.raises(Incompatible, match="0ther"):
        Life(MADE, CATALOGUE).replay([ItemAdded(1, "a", "b", (0, 0, 0, 0, 0), "0ther")])
    with pytest.raises(Incompatible, match="catalogue"):
        Life(MADE, shop(100))
    with pytest.raises(InvalidValue, match="in use"):
        Assigner(MADE.codebook).release((0, 0, 0, 0, 0))


def test_a_mapping_says_where_every_item_went(tmp_path: Path) -> None:
    """Old identifiers as they are now (moved and removed ones too), new ones, and items of one side alone."""
    life, after = Life(MADE, CATALOGUE), shop(150)
    put(life, "i1", "green rug v77")
    life.remove("i2", 9)
    put(life, "extra", "black lamp v78")
    new = build(after, seed=5)
    mapping = Mapping.of(MADE.version, [*CATALOGUE.items, *life.changed()], life.sid_of, new, after)
    row = {item: n for n, item in enumerate(mapping.items)}
    assert len(row) == len(mapping.items) == 201
    assert mapping.old[row["i1"]] == life.sid_of("i1") and mapping.old[row["i2"]] == ()
    assert mapping.new[row["i2"]] == tuple(new.sids_NL[2].tolist())
    assert mapping.old[row["extra"]] and mapping.new[row["extra"]] == () == mapping.new[row["i180"]]
    both = [n for n in range(150) if n != 2]
    differing = [n for n in both if life.sid_of(f"i{n}") != tuple(new.sids_NL[n].tolist())]
    assert mapping.moved() == pytest.approx(len(differing) / len(both))
    store = Store(str(tmp_path))
    mapping.save(store)
    assert Mapping.load(store, MADE.version, new.version) == mapping
    with pytest.raises(Unavailable):
        Mapping.load(store, "another", new.version)


def test_drift_is_silent_over_items_like_the_old_and_speaks_over_others() -> None:
    """Titles are drawn independently, so the last are like the first: no bound is passed. Words that no one has seen do."""
    catalogue = shop(1600, late=300)
    made, bounds = build(catalogue), DriftBounds(min_new=50)
    titles = list(catalogue.titles[1300:])
    alike = drift(made, made.sids_NL[1300:], made.enhancer.enhance(titles, embed(titles)), bounds)
    assert alike.judged and alike.reasons == () and (alike.fitted, alike.new) == (1300, 300)
    assert 0.8 < alike.error_new / alike.error_expected < 1.25 and made.quality.error < alike.error_expected
    assert 0.6 < alike.rare_new / alike.rare_expected < 1.6
    titles = [f"zebra quartz{n} umber{n % 7} violin{n % 5}" for n in range(100)]
    emb = made.enhancer.enhance(titles, embed(titles))
    strange = drift(made, made.codebook.encode(emb), emb, bounds)
    assert strange.rebuild_due and any("error" in reason for reason in strange.reasons)
    assert any("codes of level 1" in reason for reason in strange.reasons)
    few = drift(made, made.codebook.encode(emb[:20]), emb[:20], bounds)
    assert not few.judged and not few.rebuild_due


def test_drift_by_hand() -> None:
    """Expected shares against brute force: leave each fitted item out in its turn; draw codes one by one."""
    made = build(shop())
    cells = [tuple(sid[:2]) for sid in made.sids_NL.tolist()]
    rare = np.mean([sum(other == cell for other in cells) - 1 < 3 for cell in cells])
    found = drift(made, made.sids_NL[:50], made.enhancer.enhance(CATALOGUE.titles[:50], embed(CATALOGUE.titles[:50])))
    assert found.rare_expected == pytest.approx(rare)
    assert found.rare_new == pytest.approx(np.mean([cells.count(cell) < 3 for cell in cells[:50]]))
    random = np.random.default_rng(0)
    for level, expected in enumerate(found.use_expected):
        drawn = [len(set(random.choice(made.sids_NL[:, level], 50).tolist())) for _ in range(400)]
        assert expected == pytest.approx(np.mean(drawn), abs=5 * np.std(drawn) / 20)
    assert found.use_new == tuple(len(set(made.sids_NL[:50, level].tolist())) for level in range(5))
