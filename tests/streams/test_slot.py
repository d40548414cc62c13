"""A slot's bookkeeping without a broker: overlaps are skipped, gaps refused, unsent outputs bounded."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from schemas.codec import decode
from schemas.connections import Connections
from schemas.errors import Corrupt, Unavailable
from schemas.events import Tick
from schemas.store import Store
from schemas.topics import CLICKS, IMPRESSIONS, INPUTS
from streams.attribution.core import attribution_agent
from streams.runtime.commit_log import _unpack, split
from streams.runtime.core import Record
from streams.runtime.log import LogReader
from streams.runtime.slot import Slot
from streams.runtime.writer import TransactionWriter
from streams.settings import MAX_PART_BYTES, AttributionSettings, RuntimeSettings

NOWHERE = Connections(kafka="127.0.0.1:9")


@pytest.fixture
def slot(tmp_path: Path) -> Slot:
    """Attribution, partition 0, all inputs wanted from offset 10."""
    settings = RuntimeSettings(unsent_outputs=2, flush_outputs=1)
    one = Slot(
        attribution_agent(AttributionSettings()), 0, 1, LogReader(NOWHERE, 0.2), TransactionWriter(NOWHERE, "x", 10),
        Store(str(tmp_path)), settings,
    )  # fmt: skip
    one.next = {topic.name: 10 for topic in INPUTS}
    return one


def ticks(first: int, last: int) -> list[Record]:
    return [Record(n, 2_000_000_000_000, b"", msgspec.json.encode(Tick(n))) for n in range(first, last + 1)]


def test_records_below_the_wanted_offset_are_skipped(slot: Slot) -> None:
    """Offsets 7 to 12, wanted from 10: three are new."""
    assert slot.take(IMPRESSIONS.name, 7, ticks(7, 12), 13)
    assert slot.core.counters["ticks"] == 3
    assert slot.next[IMPRESSIONS.name] == 13
    assert slot.take(IMPRESSIONS.name, 7, ticks(7, 12), 13)
    assert slot.core.counters["ticks"] == 3


def test_a_chunk_beyond_the_wanted_offset_is_refused_whole(slot: Slot) -> None:
    """It covers [11, 14): offset 10 would be lost."""
    assert not slot.take(CLICKS.name, 11, ticks(11, 13), 14)
    assert slot.next[CLICKS.name] == 10
    assert slot.core.counters.get("ticks", 0) == 0


def test_offsets_without_records_are_passed(slot: Slot) -> None:
    """A chunk covers [10, 20), of which 12 to 14 are records: the others were control records or compacted away."""
    assert slot.take(CLICKS.name, 10, ticks(12, 14), 20)
    assert slot.next[CLICKS.name] == 20


def test_outputs_over_the_bound_make_the_next_chunk_wait(slot: Slot) -> None:
    """Two quarantined records are the bound here; one is enough to flush at once."""
    bad = [Record(n, 0, b"", b"{") for n in (10, 11)]
    slot.take(CLICKS.name, 10, bad[:1], 11)
    assert (slot.urgent.is_set(), slot.roomy.is_set()) == (True, True)
    slot.take(CLICKS.name, 11, bad[1:], 12)
    assert not slot.roomy.is_set()


def test_outputs_over_the_bound_in_bytes_make_the_next_chunk_wait_and_flush_at_once(slot: Slot) -> None:
    """Two quarantined records are far from 1,000 here; what counts is the bytes of the two, until they are gathered."""
    one = Record(10, 0, b"", b"{" * 500)
    slot._settings = RuntimeSettings(unsent_bytes=1)
    slot.take(CLICKS.name, 10, [one], 11)
    size = len(slot._gather(False).outputs[0].value)
    slot._settings = RuntimeSettings(unsent_bytes=2 * size)
    for n, full in ((11, False), (12, True)):
        slot.take(CLICKS.name, n, [msgspec.structs.replace(one, offset=n)], n + 1)
        assert (slot.urgent.is_set(), not slot.roomy.is_set()) == (full, full)
    slot._gather(False)
    assert slot.roomy.is_set() and not slot.urgent.is_set()
    slot.take(CLICKS.name, 13, [msgspec.structs.replace(one, offset=13)], 14)
    assert slot.roomy.is_set()


def test_lag_counts_what_the_state_has_not_taken(slot: Slot) -> None:
    """Wanted from 10 everywhere; the clicks end at 15 with records at 8 to 12 and 14 (13 is a transaction's mark): 4 wait.

    Their newest tick says 14 ms; the watermark is not known before every input has had a record, so no seconds are told.
    """
    from streams.runtime import metrics
    from streams.runtime.lag_watch import show
    from streams.runtime.log import Tail

    ends = {(t.name, 0): Tail(10, []) for t in INPUTS} | {(CLICKS.name, 0): Tail(15, ticks(8, 12) + ticks(14, 14))}
    show(slot, {})
    assert not metrics.LAG_RECORDS._metrics
    show(slot, ends)
    value = metrics.LAG_RECORDS.labels("attribution", "0", CLICKS.name)._value.get
    assert value() == 4 and not metrics.LAG_SECONDS._metrics
    for topic in INPUTS:
        slot.take(topic.name, 10, [Record(10, 2_000_000_000_000, b"", msgspec.json.encode(Tick(1_000_000)))], 11)
    show(slot, ends | {(CLICKS.name, 0): Tail(1_011, [Record(1_010, 2e12, b"", msgspec.json.encode(Tick(2_500_000)))])})
    assert value() == 1_000
    assert metrics.LAG_SECONDS.labels("attribution", "0")._value.get() == 1_500  # 2,500 - 1,000, which was taken last
    metrics.forget("attribution", 0)
    assert not metrics.LAG_RECORDS._metrics and not metrics.LAG_SECONDS._metrics


def test_refusals_are_told_by_reason_and_not_a_line_each() -> None:
    """30 before the start are not ours; then 2 at once in a line, 5 within ten seconds in none, and with 1 later in one."""
    from structlog.testing import capture_logs

    from streams.runtime.metrics import QUARANTINED
    from streams.runtime.refusals import Refusals

    now = [0.0]
    refusals = Refusals("told", 3, lambda: now[0])
    refusals.start({"quarantined.late": 30, "clicks": 9})
    with capture_logs() as lines:
        for at, late, invalid in ((0, 32, 0), (5, 34, 0), (9, 34, 3), (11, 35, 3), (30, 35, 3)):
            now[0] = at
            refusals.tell({"quarantined.late": late, "quarantined.invalid": invalid, "clicks": at})
    assert [(line["agent"], line["partition"], line["records"]) for line in lines] == [
        ("told", 3, {"late": 2}), ("told", 3, {"late": 3, "invalid": 3}),
    ]  # fmt: skip
    assert QUARANTINED.labels("told", "3", "late")._value.get() == 5


def test_a_state_is_split_and_put_together_again() -> None:
    """10,000 bytes that do not compress, in parts of 1,000: eleven with zstd's own few bytes."""
    import random

    state = random.Random(1).randbytes(10_000)
    from schemas.commits import SnapshotPart

    parts = [msgspec.json.decode(raw, type=SnapshotPart) for raw in split("a", 1, 7, {"t": 3}, state, 1_000)]
    assert [(p.index, p.count, p.sequence) for p in parts] == [(n, 11, 7) for n in range(11)]
    assert _unpack("x", parts) == state
    with pytest.raises(Corrupt):
        _unpack("x", parts[1:])


def test_the_largest_part_that_the_settings_allow_can_be_read_again() -> None:
    """With long names and high offsets; and settings that allow more than the reader takes are refused."""
    import random

    from schemas.commits import SnapshotPart

    size, state = (
        RuntimeSettings(snapshot_part_bytes=MAX_PART_BYTES).snapshot_part_bytes,
        random.Random(2).randbytes(1_000_000),
    )
    offsets = {f"{n}{'t' * 248}": 2**62 for n in range(9)}
    first, second = (decode(SnapshotPart, raw) for raw in split("a" * 100, 999, 2**62, offsets, state, size))
    assert len(first.data) == size and _unpack("x", [first, second]) == state
    with pytest.raises(ValueError, match="less than or equal to 742500"):
        RuntimeSettings(snapshot_part_bytes=MAX_PART_BYTES + 1)


def test_a_broker_that_does_not_answer_is_named(slot: Slot) -> None:
    """After the timeout, not for ever."""
    with pytest.raises(Unavailable, match=NOWHERE.kafka):
        slot.recover({})
