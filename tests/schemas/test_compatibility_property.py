"""The rules of docs/schemas.md all at once, against what the codec really reads."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import Meta

from schemas.codec import decode, encode
from schemas.comparison import Rule
from tests.schemas.kinds import Color, Field, LongerPair, LowTree, Pair, Place, Tree, TurnedPair, WiderPlace, record, told

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
