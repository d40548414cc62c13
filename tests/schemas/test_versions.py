"""Versions: which a reader takes, whose they are, and what a record without one is."""

from __future__ import annotations

import msgspec
import pytest

from schemas.codec import decode
from schemas.errors import InvalidEvent
from schemas.quarantine import Reason
from schemas.topics import TOPICS
from schemas.versions import members, oldest, version_of


class Old(msgspec.Struct, frozen=True, tag_field="type", tag="seen"):
    item: str
    v: int = 1


class New(msgspec.Struct, frozen=True, tag_field="type", tag="seen"):
    item: str
    device: str = "unknown"
    v: int = 2


class Newest(msgspec.Struct, frozen=True, tag_field="type", tag="seen"):
    item: str
    device: str = "unknown"
    v: int = 3


class Beat(msgspec.Struct, frozen=True, tag_field="type", tag="beat"):
    v: int = 1


def reason(kind: object, raw: bytes) -> str:
    """Why a reader refuses it; empty when it does not."""
    try:
        decode(kind, raw)
    except InvalidEvent as error:
        return error.reason
    return ""


@pytest.mark.parametrize(("kind", "taken"), [(Old, {1}), (New, {1, 2}), (Newest, {2, 3})])
def test_a_reader_of_version_n_takes_n_and_n_minus_1(kind: type, taken: set[int]) -> None:
    """n is the default of the struct's own `v`; whatever else is refused as an unknown version."""
    for version in range(6):
        for raw in (b'{"type":"seen","item":"a","v":%d}', b'{"v":%d,"type":"seen","item":"a"}'):
            assert reason(kind, raw % version) == ("" if version in taken else Reason.UNKNOWN_VERSION)


def test_the_older_record_gets_the_new_fields_default() -> None:
    """Version 1 had no device; the record keeps the version it came with."""
    assert decode(New, b'{"type":"seen","item":"a","v":1}') == New("a", "unknown", 1)


def test_each_member_of_a_union_has_its_own_version() -> None:
    """Beats are at 1 beside a record at 3: 2 is fine for the one and unknown to the other."""
    kind = Newest | Beat
    assert decode(kind, b'{"type":"seen","item":"a","v":2}').v == 2
    assert decode(kind, b'{"type":"beat","v":1}') == Beat()
    assert reason(kind, b'{"type":"beat","v":2}') == Reason.UNKNOWN_VERSION
    assert reason(kind, b'{"type":"seen","item":"a","v":1}') == Reason.UNKNOWN_VERSION


def test_a_record_without_a_version_is_of_the_first() -> None:
    """Whoever leaves it out knew of no other: readers of 1 and 2 take it, a reader of 3 does not mistake it for its own."""
    raw = b'{"type":"seen","item":"a"}'
    assert [reason(kind, raw) for kind in (Old, New, Newest)] == ["", "", Reason.UNKNOWN_VERSION]


def test_a_version_inside_the_record_is_not_the_records() -> None:
    """The text of an item looks like the end of a record of today; the version is the outer one, and it is missing."""
    assert reason(Newest, msgspec.json.encode({"type": "seen", "item": ',"v":3}'})) == Reason.UNKNOWN_VERSION
    assert reason(Newest, b'{"type":"seen","item":"a","other":{"x":1,"v":3}}') == Reason.UNKNOWN_VERSION


def test_a_form_of_the_future_is_an_unknown_version_and_not_an_invalid_record() -> None:
    """Version 2 renamed the item: a reader of 1 says that it is too old. The same form as version 1 is a producer's fault."""
    assert reason(Old | Beat, b'{"type":"seen","product":"a","v":2}') == Reason.UNKNOWN_VERSION
    assert reason(Old | Beat, b'{"type":"seen","product":"a","v":1}') == Reason.INVALID
    assert reason(Old | Beat, b'{"type":"gone","v":2}') == Reason.UNKNOWN_VERSION
    assert reason(Old | Beat, b'{"type":"gone","v":1}') == Reason.INVALID


def test_every_record_of_the_registry_has_a_version() -> None:
    """A struct without one does not travel."""
    assert all(oldest(version_of(record)) >= 1 for topic in TOPICS for record in members(topic.kind))
    with pytest.raises(TypeError, match="Bare has no version"):
        version_of(msgspec.defstruct("Bare", [("item", str)]))


def test_a_record_that_would_leave_its_version_out_is_refused() -> None:
    """With `omit_defaults` version 2 is not written, and what has no version is read as 1."""
    with pytest.raises(TypeError, match="omit_defaults"):
        version_of(msgspec.defstruct("Short", [("item", str), ("v", int, 2)], omit_defaults=True))
