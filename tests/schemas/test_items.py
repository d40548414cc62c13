"""The rule that all readers of `catalogue.items` share: one record refused is one count, and its name in the next line."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from structlog.testing import capture_logs

from schemas.codec import encode
from schemas.errors import InvalidEvent
from schemas.events import ItemAdded
from schemas.items import NAMED, REFUSED, ItemTaker

GOOD, FOREIGN = ItemAdded(1, "a", "A", (1,), "cb1"), ItemAdded(1, "b", "B", (1,), "cb0")


def count(reason: str) -> float:
    return float(REFUSED.labels("rule", reason)._value.get())


@pytest.mark.parametrize(
    ("raw", "reason", "said"),
    [
        (encode(FOREIGN), "other_codebook", "codebook of item b is 'cb0', but must be cb1"),
        (b"{broken", "unreadable", "valid JSON"),
        (None, "unreadable", "valid JSON"),
        (b'{"type":"item_added","ts":-1}', "invalid", "record"),
        (encode(replace(GOOD, sid=(2,))), "invalid", r"identifier of item a is \(2,\), but must be 1 codes from 0, below 2"),
        (encode(replace(GOOD, sid=(-1,))), "invalid", "identifier of item a"),
        (encode(replace(GOOD, sid=(1, 1))), "invalid", "identifier of item a"),
    ],
)
def test_what_cannot_be_used_is_refused_counted_and_named(raw: bytes | None, reason: str, said: str) -> None:
    taker, before = ItemTaker("rule", "cb1", (2,)), count(reason)
    for good in (GOOD, replace(GOOD, sid=(0,)), replace(GOOD, sid=())):  # the last is gone
        assert taker.take(6, encode(good)) == good
    with pytest.raises(InvalidEvent, match=said) as raised:
        taker.take(7, raw)
    assert raised.value.reason == reason and count(reason) == before + 1
    with capture_logs() as lines:
        taker.tell()
        taker.tell()
    (line,) = lines
    assert (line["log_level"], line["reader"], line["records"]) == ("error", "rule", 1)
    assert line["first"] == [f"offset 7: {raised.value}"]


def test_many_are_one_line_that_names_the_first() -> None:
    """As after a rebuild of the identifiers, whose topic is full of the old ones."""
    taker = ItemTaker("rule", "cb1", (2,))
    for offset in range(1_000):
        with pytest.raises(InvalidEvent):
            taker.take(offset, encode(FOREIGN))
    with capture_logs() as lines:
        taker.tell()
    (line,) = lines
    assert line["records"] == 1_000 and [name.split(":")[0] for name in line["first"]] == [
        f"offset {n}" for n in range(NAMED)
    ]
