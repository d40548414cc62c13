"""Every rule of docs/schemas.md, one at a time, and all of them against what the codec really reads."""

from __future__ import annotations

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from schemas.codec import decode, encode
from schemas.comparison import Rule
from schemas.compatibility import STANDINGS, Difference, all_differences, differences
from schemas.documents import Document, topic_document
from schemas.topics import TOPICS, Topic

Field = tuple[Any, ...]


def record(*fields: Field, v: int = 1, tag: str = "r", name: str = "R") -> Any:
    return msgspec.defstruct(name, [*fields, ("v", int, v)], tag_field="type", tag=tag, kw_only=True)


def document(kind: Any) -> Document:
    return topic_document(Topic("t", "user", kind))


def told(old: Any, new: Any) -> list[Difference]:
    return differences(document(old), document(new))


class Color(StrEnum):
    RED = "red"
    BLUE = "blue"


class Place(msgspec.Struct):
    x: int
    y: int = 0


class WiderPlace(msgspec.Struct):
    x: int
    y: int = 0
    z: int = 0


class Pair(msgspec.Struct, array_like=True):
    a: int
    b: int


class LongerPair(msgspec.Struct, array_like=True):
    a: int
    b: int
    c: int = 0


class LongPair(msgspec.Struct, array_like=True):
    a: int
    b: int
    c: int


class TurnedPair(msgspec.Struct, array_like=True):
    b: int
    a: int


class Tree(msgspec.Struct):
    label: Annotated[str, Meta(max_length=9)]
    branches: list[Tree] = []


class LowTree(msgspec.Struct):
    label: Annotated[str, Meta(max_length=5)]
    branches: list[LowTree] = []


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


Kinds = list[tuple[Any, list[Any]]]
#: By the name of a field: types with values of theirs, near enough to each other that many a change is no break.
TYPES: dict[str, Kinds] = {
    "number": [
        (int, [-3, 0, 7]),
        (Annotated[int, Meta(ge=0)], [0, 7]),
        (Annotated[int, Meta(gt=0, le=5)], [1, 5]),
        (float, [-0.5, 0.0, 6.5]),
        (Annotated[float, Meta(ge=0, lt=6)], [0.0, 5.5]),
        (int | None, [None, 3]),
        (int | str | None, [None, 3, "a"]),
        (bool, [True]),
    ],
    "text": [
        (str, ["", "a", "long text"]),
        (Annotated[str, Meta(max_length=4)], ["", "a"]),
        (Annotated[str, Meta(min_length=1, pattern="a")], ["a"]),
        (Literal["a", "b"], ["a", "b"]),
        (Literal["a", "b", "red"], ["red"]),
        (Color, [Color.RED]),
        (str | None, [None, "a"]),
        (bytes, [b"a"]),
    ],
    "list": [
        (list[int], [[], [1, -2]]),
        (Annotated[list[float], Meta(min_length=1)], [[0.5]]),
        (tuple[int, int], [(1, 2)]),
        (tuple[int, int, int], [(1, 2, 3)]),
        (list[Pair], [[Pair(1, 2)]]),
        (list[LongerPair], [[], [LongerPair(1, 2, 3)]]),
        (list[TurnedPair], [[TurnedPair(1, 2)]]),
    ],
    "object": [
        (dict[str, int], [{}, {"a": 1}]),
        (dict[str, int | None], [{"a": None}]),
        (Place, [Place(1, 2)]),
        (WiderPlace, [WiderPlace(1)]),
        (Tree, [Tree("a", [Tree("b")]), Tree("a longer")]),
        (LowTree, [LowTree("a", [LowTree("b")])]),
        (Place | None, [None, Place(1)]),
    ],
}


Shape = tuple[list[Field], dict[str, Any]]


@st.composite
def shapes(draw: st.DrawFn, before: Shape | None = None) -> Shape:
    """Fields of a struct, and values for an instance; some of the fields are as they were ``before``."""
    fields, values = list[Field](), dict[str, Any]()
    for old in before[0] if before else ():
        if draw(st.booleans()):
            fields.append(old)
            values[old[0]] = before[1][old[0]] if before else None
    for name in draw(st.sets(st.sampled_from(sorted(TYPES)))):
        if name in values:
            continue
        kind, examples = draw(st.sampled_from(TYPES[name]))
        default = [draw(st.sampled_from(examples))] if draw(st.booleans()) else []
        if default and isinstance(default[0], list | dict | msgspec.Struct):
            default = []  # those are no defaults: one object for every record
        fields.append((name, kind, *default))
        values[name] = draw(st.sampled_from(examples))
    return fields, values


@given(shapes(), st.sampled_from([kind for kinds in TYPES.values() for kind in kinds]))
def test_a_defaulted_field_is_never_a_break(shape: Shape, added: tuple[Any, list[Any]]) -> None:
    """Whatever the struct and whatever the field; and the struct is compatible with itself."""
    old = record(*shape[0])
    assert told(old, record(*shape[0])) == []
    (one,) = told(old, record(*shape[0], ("new", added[0] | None, None)))
    assert (one.field, one.rule, one.breaking) == ("new", Rule.FIELD_ADDED, False)


WIDER = {Rule.BOUND_WIDENED, Rule.ENUM_ADDED, Rule.FIELD_OPTIONAL}


@settings(max_examples=200)
@given(shapes().flatmap(lambda old: st.tuples(st.just(old), shapes(old))), st.booleans())
def test_what_is_no_break_is_really_read(evolution: tuple[Shape, Shape], raise_it: bool) -> None:
    """The codec is the judge: today's reader takes the released records; under one version, and where nothing was widened,
    the released reader takes today's."""
    before, after = evolution
    old, new = record(*before[0]), record(*after[0], v=2 if raise_it else 1)
    found = told(old, new)
    if any(one.breaking for one in found):
        return
    decode(new, encode(old(**before[1])))
    if not raise_it and not {one.rule for one in found} & WIDER:
        decode(old, encode(new(**after[1])))
