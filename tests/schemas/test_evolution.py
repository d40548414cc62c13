"""Old and new producers at once, on the broker: who reads whom, and what becomes of what is not read."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import pytest

from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.events import Click, Id, Tick, Time
from schemas.quarantine import Quarantined, Reason
from schemas.topics import CLICKS, QUARANTINE
from streams.attribution.core import AttributionCore
from streams.producing import EventProducer
from streams.runtime.core import Record
from streams.runtime.log import LogReader

pytestmark = pytest.mark.services

EACH = 100
TIME = 1_700_000_000_000


class NextClick(msgspec.Struct, frozen=True, tag_field="type", tag="click"):
    """A click of version 2, which says where it was made."""

    ts: Time
    user: Id
    item: Id
    request_id: str = ""
    position: int = 0
    device: str = "unknown"
    v: int = 2


@pytest.fixture
def log(fresh_topics: Connections) -> list[Record]:
    """A partition into which a producer of clicks of version 1 and one of version 2 wrote at the same time."""
    both = threading.Barrier(2)

    def produce(make: Callable[[int], msgspec.Struct]) -> None:
        with EventProducer(fresh_topics) as producer:
            for n in range(EACH):
                if n % 10 == 0:  # neither runs away from the other
                    producer.flush()
                    both.wait(60)
                producer.send(CLICKS.name, encode(make(n)), b"u", 0)

    makers = (lambda n: Click(TIME + n, "u", f"old-{n}"), lambda n: NextClick(TIME + n, "u", f"new-{n}", device="phone"))
    threads = [threading.Thread(target=produce, args=(make,)) for make in makers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader = LogReader(fresh_topics, 30)
    return [record for batch in reader.read(CLICKS.name, 0, *reader.bounds(CLICKS.name, 0)) for record in batch]


def test_a_new_reader_takes_both_and_an_old_one_keeps_the_new_for_later(log: list[Record]) -> None:
    """Version 2 gives old clicks its default. Version 1, attribution as it is, refuses the new ones by their version, whole."""
    versions = [msgspec.json.decode(record.value)["v"] for record in log]
    assert versions.count(1) == versions.count(2) == EACH and versions != sorted(versions)  # mixed

    read = [decode(NextClick | Tick, record.value) for record in log]
    assert {(click.v, click.device) for click in read} == {(1, "unknown"), (2, "phone")}
    assert {click.item for click in read} == {f"{age}-{n}" for age in ("old", "new") for n in range(EACH)}

    core = AttributionCore(0)
    core.apply(CLICKS.name, log)
    assert core.counters == {"pending": EACH, "quarantined.unknown_version": EACH}
    outputs, _ = core.drain()
    assert {output.topic for output in outputs} == {QUARANTINE.name}
    refused = [decode(Quarantined, output.value) for output in outputs]
    assert {one.reason for one in refused} == {Reason.UNKNOWN_VERSION}
    assert {"schema version is 2, but must be 1 to 1" in one.detail for one in refused} == {True}
    assert [(one.offset, one.raw) for one in refused] == [
        (record.offset, record.value) for record, v in zip(log, versions, strict=True) if v == 2
    ]
