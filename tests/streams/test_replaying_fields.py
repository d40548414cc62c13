"""Two records are compared by every field that is not said to be left out: none is forgotten when a struct gets another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from schemas.examples import ExampleItem, TrainingExample
from schemas.posteriors import CountDelta, PosteriorDelta, SnapshotPointer
from schemas.topics import DELTAS, EXAMPLES, SNAPSHOTS, VIEWS
from schemas.views import View, ViewItem, ViewStatus
from streams.replaying.fields import KINDS, REVISION, UNCOMPARED

#: Left out besides: what the key says, and the form of the record.
OF_THE_KEY = {
    VIEWS.name: {"request_id"},
    EXAMPLES.name: {"request_id"},
    DELTAS.name: {"source", "stamp"},
    SNAPSHOTS.name: {"stamp"},
}
RECORDS: dict[str, msgspec.Struct] = {
    VIEWS.name: View("r:final:2", "r", ViewStatus.FINAL, 2, 1, 2, "u", "q", (ViewItem("a", 1),)),
    EXAMPLES.name: TrainingExample(
        "r:final:2",
        "r",
        ViewStatus.FINAL,
        2,
        1,
        2,
        "u",
        "q",
        (ExampleItem("a", 1, 0.5, 3, 0.9, 0.1, 0.01, 0, 0, 0.0),),
        "v",
        1,
    ),
    DELTAS.name: PosteriorDelta(0, 10, (CountDelta("q", "a", 0, 1, 1, 0),)),
    SNAPSHOTS.name: SnapshotPointer(1, 10, "p", "abc", 1, 1),
}


def other(value: Any) -> Any:
    """Another value of its type."""
    if isinstance(value, ViewStatus):
        return ViewStatus.RETRACTED
    if isinstance(value, msgspec.Struct):
        first = value.__struct_fields__[0]
        return msgspec.structs.replace(value, **{first: other(getattr(value, first))})
    if isinstance(value, tuple):
        return (*value, "more") if not value or isinstance(value[0], str) else value * 2
    return not value if isinstance(value, bool) else f"{value}x" if isinstance(value, str) else value + 1


def altered(record: msgspec.Struct) -> Iterator[tuple[str, msgspec.Struct]]:
    """Each field in turn with another value, those of its first item too."""
    for name in record.__struct_fields__:
        yield name, msgspec.structs.replace(record, **{name: other(getattr(record, name))})
    for item in getattr(record, "items", ())[:1]:
        for name in item.__struct_fields__:
            one = msgspec.structs.replace(item, **{name: other(getattr(item, name))})
            yield f"items.{name}", msgspec.structs.replace(record, items=(one,))


@pytest.mark.parametrize("topic", RECORDS)
def test_every_field_counts_but_those_left_out(topic: str) -> None:
    kind, record = KINDS[topic], RECORDS[topic]
    assert len(kind.values(record)) == len(kind.fields)
    blind = {name for name, another in altered(record) if kind.values(another) == kind.values(record)}
    left_out = {path for path, _ in altered(record) if path.rpartition(".")[2] in UNCOMPARED}
    assert blind == left_out | OF_THE_KEY[topic] | {"v"}


def test_a_revisions_number_is_told_apart() -> None:
    for topic in (VIEWS.name, EXAMPLES.name):
        values = KINDS[topic].values(RECORDS[topic])
        assert dict(zip(KINDS[topic].fields, values, strict=True))[REVISION] == 2
