"""Every rule of docs/schemas.md, one at a time."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from schemas.comparison import Rule
from schemas.compatibility import STANDINGS, all_differences, differences
from schemas.documents import topic_document
from schemas.topics import TOPICS, Topic
from tests.schemas.kinds import (
    Color,
    Field,
    LongerPair,
    LongPair,
    LowTree,
    Pair,
    Place,
    Tree,
    TurnedPair,
    WiderPlace,
    document,
    record,
    told,
)


def at_least(bound: float) -> Any:
    return Annotated[float, Meta(ge=bound)]


ABSENT = None
#: rule, where, the type before, the type after. A third entry is the default.
CASES: list[tuple[Rule, str, Any, Any]] = [
    (Rule.FIELD_REQUIRED, "f", ABSENT, (int,)),
    (Rule.FIELD_REQUIRED, "f", (int, 0), (int,)),
    (Rule.FIELD_REQUIRED, "f[].c", (list[Pair],), (list[LongPair],)),
    (Rule.FIELD_REMOVED, "f", (int,), ABSENT),
    (Rule.FIELD_REMOVED, "f", (int, 0), ABSENT),
    (Rule.FIELD_REMOVED, "f[].z", (list[WiderPlace],), (list[Place],)),
    (Rule.FIELD_MOVED, "f[].a", (list[Pair],), (list[TurnedPair],)),
    (Rule.FIELD_ADDED, "f", ABSENT, (int, 0)),
    (Rule.FIELD_ADDED, "f[].z", (list[Place],), (list[WiderPlace],)),
    (Rule.FIELD_ADDED, "f.c", (Pair,), (LongerPair,)),
    (Rule.FIELD_OPTIONAL, "f", (int,), (int, 0)),
    (Rule.DEFAULT_CHANGED, "f", (int, 0), (int, 1)),
    (Rule.TYPE_CHANGED, "f", (int,), (str,)),
    (Rule.TYPE_CHANGED, "f", (bytes,), (str,)),
    (Rule.TYPE_CHANGED, "f{}", (dict[str, int],), (dict[str, bool],)),
    (Rule.TYPE_CHANGED, "f", (list[int],), (dict[str, int],)),
    (Rule.TYPE_NARROWED, "f", (float,), (int,)),
    (Rule.TYPE_NARROWED, "f", (int | None,), (int,)),
    (Rule.TYPE_NARROWED, "f", (str,), (Literal["a", "b"],)),
    (Rule.TYPE_NARROWED, "f[]", (list[Any],), (list[int],)),
    (Rule.TYPE_WIDENED, "f", (int,), (float,)),
    (Rule.TYPE_WIDENED, "f", (int,), (int | None,)),
    (Rule.TYPE_WIDENED, "f", (Color,), (str,)),
    (Rule.TYPE_WIDENED, "f", (int | None,), (int | str | None,)),
    (Rule.BOUND_NARROWED, "f", (float,), (at_least(0),)),
    (Rule.BOUND_NARROWED, "f", (at_least(0),), (Annotated[float, Meta(gt=0)],)),
    (Rule.BOUND_NARROWED, "f", (Annotated[int, Meta(le=9)],), (Annotated[int, Meta(le=8)],)),
    (Rule.BOUND_NARROWED, "f", (str,), (Annotated[str, Meta(max_length=0)],)),
    (Rule.BOUND_NARROWED, "f", (str,), (Annotated[str, Meta(pattern="^a")],)),
    (Rule.BOUND_NARROWED, "f[]", (list[float],), (list[at_least(0)],)),
    (Rule.BOUND_NARROWED, "f", (list[int],), (Annotated[list[int], Meta(min_length=1)],)),
    (Rule.BOUND_NARROWED, "f.label", (Tree,), (LowTree,)),
    (Rule.BOUND_WIDENED, "f", (at_least(1),), (at_least(0),)),
    (Rule.BOUND_WIDENED, "f", (at_least(1),), (float,)),
    (Rule.BOUND_WIDENED, "f", (Annotated[str, Meta(pattern="^a")],), (str,)),
    (Rule.BOUND_WIDENED, "f", (Annotated[str, Meta(max_length=1)],), (Annotated[str, Meta(max_length=2)],)),
    (Rule.ENUM_REMOVED, "f", (Literal["a", "b", "c"],), (Literal["a", "b"],)),
    (Rule.ENUM_ADDED, "f", (Literal["a", "b"],), (Literal["a", "b", "c"],)),
]


def field(said: Any) -> list[Field]:
    return [] if said is ABSENT else [("f", *said)]


@pytest.mark.parametrize(("rule", "place", "before", "after"), CASES)
def test_a_change_of_a_field_is_one_difference_and_stands_as_its_rule_says(
    rule: Rule, place: str, before: Any, after: Any
) -> None:
    """Found once, at its place; then under the same version and under the next as the table says."""
    kept: Field = ("kept", int)
    for v, breaks in ((1, STANDINGS[rule].same), (2, STANDINGS[rule].raised)):
        (one,) = told(record(kept, *field(before)), record(kept, *field(after), v=v))
        assert (one.topic, one.record, one.field, one.rule, one.raised) == ("t", "R", place, rule, v == 2)
        assert one.breaking is breaks and one.was != one.now
        assert str(one).startswith(f"t: R.{place}: {rule}: was {one.was}, is {one.now}")
        assert str(one).endswith(STANDINGS[rule].remedy) or not breaks


def test_every_rule_but_those_of_records_has_a_case() -> None:
    """And what breaks has a remedy."""
    whole = {Rule.TAG_CHANGED, Rule.RECORD_REMOVED, Rule.RECORD_ADDED, Rule.VERSION_SKIPPED}
    assert {rule for rule, *_ in CASES} | whole == set(Rule) == set(STANDINGS)
    assert all(standing.remedy for standing in STANDINGS.values() if standing.same or standing.raised)


def test_a_renamed_field_is_one_removed_and_one_added() -> None:
    """With a default it may come under the next version, not under the same."""
    old = record(("item", str, ""))
    assert [(d.field, d.rule, d.breaking) for d in told(old, record(("product", str, "")))] == [
        ("item", Rule.FIELD_REMOVED, True),
        ("product", Rule.FIELD_ADDED, False),
    ]
    assert not any(d.breaking for d in told(old, record(("product", str, ""), v=2)))


def test_a_new_bound_on_whole_numbers_is_compared_by_what_it_takes() -> None:
    """Above 0 and from 1 on are the same whole numbers, not the same numbers."""
    above, least = Meta(gt=0), Meta(ge=1)
    assert told(record(("f", Annotated[int, above])), record(("f", Annotated[int, least]))) == []
    (one,) = told(record(("f", Annotated[float, above])), record(("f", Annotated[float, least])))
    assert one.rule == Rule.BOUND_NARROWED


def test_a_wider_type_with_a_narrower_bound_is_both() -> None:
    """Numbers from 0 on are more than whole numbers, but not for -1; colors are text, but not of three letters at most."""
    for before, after in ((int, at_least(0)), (Color, Annotated[str, Meta(max_length=3)])):
        found = told(record(("f", before)), record(("f", after), v=2))
        assert [(d.rule, d.breaking) for d in found] == [(Rule.TYPE_WIDENED, False), (Rule.BOUND_NARROWED, True)]


def test_a_tag_changed_a_record_removed_and_one_added() -> None:
    """A record is found by its tag, then by its name; a raised version helps none of them."""
    order, back = record(tag="order", name="Order"), record(tag="return", name="Return")
    (changed,) = told(order | back, record(tag="purchase", name="Order", v=2) | back)
    assert (changed.record, changed.field, changed.rule, changed.breaking) == ("Order", "type", Rule.TAG_CHANGED, True)
    assert (changed.was, changed.now) == ("'order'", "'purchase'")
    (removed,) = told(order | back, order)
    assert (removed.record, removed.rule, removed.breaking) == ("Return", Rule.RECORD_REMOVED, True)
    (added,) = told(order, order | back)
    assert (added.record, added.rule, added.breaking) == ("Return", Rule.RECORD_ADDED, False)
    assert told(order | back, record(tag="return", name="GivenBack") | order) == []  # neither name nor order travels


def test_a_topic_that_is_gone_lost_its_records() -> None:
    """The registry has it no more, the log still does."""
    (gone,) = all_differences({"t": document(record())}, {})
    assert (gone.topic, gone.record, gone.rule, gone.breaking) == ("t", "R", Rule.RECORD_REMOVED, True)


@pytest.mark.parametrize(("released", "today", "skipped"), [(1, 1, False), (1, 2, False), (1, 3, True), (2, 1, True)])
def test_a_version_follows_the_released_one(released: int, today: int, skipped: bool) -> None:
    """A reader of 3 would refuse the released records of 1; going back would refuse those of 2."""
    found = told(record(v=released), record(v=today))
    assert [d.rule for d in found if d.breaking] == [Rule.VERSION_SKIPPED] * skipped


def test_a_record_inside_another_is_held_to_the_outer_ones_version() -> None:
    """Its own is not looked at where it is read, so raising that alone excuses nothing."""
    old, new = record(("f", int), name="Inner"), record(v=2, name="Inner")
    assert [d.breaking for d in told(record(("inner", old)), record(("inner", new)))] == [True]
    assert [d.breaking for d in told(record(("inner", old)), record(("inner", new), v=2))] == [False]


def test_the_table_of_rules_is_as_documented() -> None:
    """docs/schemas.md: | change | same version | raised by one |."""
    page = (Path(__file__).parents[2] / "docs" / "schemas.md").read_text()
    table = page.partition("<!-- rules -->\n")[2].partition("<!-- /rules -->")[0].splitlines()[2:]
    rows = [re.fullmatch(r"\| ([a-z ]+?)(?: \(.*\))? \| (refused|allowed) \| (refused|allowed) \|", row) for row in table]
    said = {rule: (same == "refused", raised == "refused") for rule, same, raised in (row.groups() for row in rows if row)}
    assert len(said) == len(table)
    assert said == {rule.value: (standing.same, standing.raised) for rule, standing in STANDINGS.items()}


@pytest.mark.parametrize("topic", TOPICS, ids=lambda topic: topic.name)
def test_a_document_is_compatible_with_itself(topic: Topic) -> None:
    """No difference at all, also after the way through JSON."""
    made = topic_document(topic)
    assert differences(msgspec.json.decode(msgspec.json.encode(made)), made) == []
