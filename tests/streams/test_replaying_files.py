"""Log files sent through the event topics: forms, routing, ticks, and files that mean harm."""

from __future__ import annotations

import resource
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from schemas.connections import Connections
from schemas.errors import InvalidData, InvalidRequest
from schemas.events import Click, Impression, ItemAdded, Order, Return, ShownItem, Tick
from schemas.topics import CLICKS, IMPRESSIONS, ITEMS, ORDERS, VIEWS
from streams.producing import EventProducer
from streams.replaying.columns import blocks_of_rows
from streams.replaying.files import replay_file
from streams.replaying.lines import blocks_of_lines
from streams.replaying.span import END_OF_TIME, Span, span
from streams.replaying.topics import replay_topic
from tests.streams.conftest import committed
from tests.streams.event_log import START

VIEW = Impression(START, "r1", "u", "shoes", (ShownItem("a", 1), ShownItem("b", 2, 0.25)), recent_queries=("lamp", "vase"))
EVENTS = (
    VIEW,
    Click(START + 1, "u", "a", "r1", 2),
    Order(START + 2, "u", "a", "o1", 9.5),
    Return(START + 3, "u", "o1"),
    ItemAdded(START + 4, "z", "Zither", (1, 2, 3), "c1"),
    Tick(START + 5),
    Impression(START + 6, "r2", "w", "", (ShownItem("c", 1),)),
)


@pytest.mark.services
def test_a_file_is_routed_by_type_keyed_by_user_and_ticked(fresh_topics: Connections, tmp_path: Path) -> None:
    """Two events 90 s apart: a tick at the first, one at the second, one at the end, to 2 partitions of 3 topics; the same
    of every form that a file may have. Records lie where the client that sends one at a time puts them."""
    events = [VIEW, *(Click(START + 90_000, f"user-{n}", "a", "r1") for n in range(20))]
    lines = [msgspec.json.encode(e) for e in events]
    plain, packed, table = tmp_path / "log.jsonl", tmp_path / "log.jsonl.zst", tmp_path / "log.parquet"
    plain.write_bytes(b"\r\n".join([*lines, b"", b""]))
    packed.write_bytes(zstandard.compress(b"\n".join(lines[:5]) + b"\n") + zstandard.compress(b"\n".join(lines[5:])))
    pq.write_table(pa.table({"value": lines}), table)
    want = {IMPRESSIONS.name: 1 + 6, CLICKS.name: 20 + 6, ORDERS.name: 6}
    for file in (plain, packed, table):
        assert replay_file(fresh_topics, file) == want
    with EventProducer(fresh_topics) as producer:
        for event, raw in zip(events[1:], lines[1:], strict=True):
            producer.send(ORDERS.name, raw, event.user.encode())
    for topic in (IMPRESSIONS, CLICKS, ORDERS):  # three files, three ticks of each to every partition
        assert [sum(b"tick" in v for _, v in p) for p in committed(fresh_topics, topic.name)] == [9, 9]
    views, clicks, sent = (
        [[v for _, v in p if b"tick" not in v] for p in committed(fresh_topics, t.name)]
        for t in (IMPRESSIONS, CLICKS, ORDERS)
    )
    assert sorted(map(len, views)) == [0, 3]
    assert clicks == [3 * p for p in sent] and all(sent)


def test_typed_columns_make_the_events_that_json_lines_say(tmp_path: Path) -> None:
    """Empty cells are left to the event's own default; times may be timestamps; dictionaries and lists of structs too."""
    plain = [{k: v for k, v in msgspec.to_builtins(e).items() if v not in ((), [], {})} for e in EVENTS]
    names = sorted({name for row in plain for name in row})
    columns = {name: pa.array([row.get(name) for row in plain]) for name in names}
    columns["ts"] = pa.array([datetime.fromtimestamp(row["ts"] / 1_000, UTC) for row in plain], pa.timestamp("us", "UTC"))
    columns["user"] = columns["user"].dictionary_encode()
    file = tmp_path / "typed.parquet"
    pq.write_table(pa.table(columns), file, row_group_size=3)
    told: list[tuple[int, int]] = []
    rows = [raw for block in blocks_of_rows(file, lambda done, total: told.append((done, total))) for raw in block]
    kind = Impression | Click | Order | Return | ItemAdded | Tick
    assert [msgspec.json.decode(raw, type=kind) for raw in rows] == list(EVENTS)
    assert told[-1] == (7, 7)


def test_a_row_of_which_no_column_says_anything_is_an_event_without_fields(tmp_path: Path) -> None:
    """It goes its way and is refused there, among the others; it ends nothing."""
    file = tmp_path / "typed.parquet"
    pq.write_table(pa.table({"type": ["click", "item_added"], "price": [1.0, 2.0]}), file)
    rows = [msgspec.json.decode(raw) for block in blocks_of_rows(file) for raw in block]
    assert rows == [{"type": "click"}, {"type": "item_added", "price": 2.0}]


def bomb(kind: str) -> bytes:
    """300 MB of something, packed."""
    packer, out = zstandard.ZstdCompressor().compressobj(), []
    piece = {"a line without end": b"x" * 1_000_000, "blank lines": b"\n" * 1_000_000}[kind]
    for _ in range(300):
        out.append(packer.compress(piece))
    return b"".join([*out, packer.flush()])


@pytest.mark.parametrize(("kind", "said"), [("a line without end", "'size'"), ("blank lines", "'unpacked size'")])
def test_a_file_that_expands_without_end_is_refused_in_bounded_memory(tmp_path: Path, kind: str, said: str) -> None:
    """300 MB in some 30 kB: the row and the bound are named, and the process has not grown by half of it."""
    file = tmp_path / "log.jsonl.zst"
    file.write_bytes(bomb(kind))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InvalidData, match=rf"row \d+, field {said}.*at most"):
        for _ in blocks_of_lines(file):
            pass
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 150_000


def not_packed(tmp: Path) -> Path:
    (file := tmp / "log.jsonl.zst").write_bytes(b"no zstd at all")
    return file


def not_parquet(tmp: Path) -> Path:
    (file := tmp / "log.parquet").write_bytes(b"no parquet at all")
    return file


def parquet(**columns: list[object]) -> Callable[[Path], Path]:
    def write(tmp: Path) -> Path:
        pq.write_table(pa.table(columns), tmp / "log.parquet")
        return tmp / "log.parquet"

    return write


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (not_packed, "row 1, field 'packing'"),
        (not_parquet, "field 'file'"),
        (lambda tmp: tmp / "none.jsonl", "'missing'"),
        (parquet(type=["click", "parcel"], ts=[1, 2]), "row 2, field 'type' is 'parcel'"),
        (parquet(type=["click"], colour=[1]), "field 'colour'"),
        (parquet(value=[1.5]), "field 'columns'"),
    ],
)
@pytest.mark.services
def test_what_is_wrong_with_a_file_is_named(
    fresh_topics: Connections, tmp_path: Path, write: Callable[[Path], Path], said: str
) -> None:
    """Each with the place in the file."""
    with pytest.raises(InvalidData, match=said):
        replay_file(fresh_topics, write(tmp_path))


@pytest.mark.services
def test_lines_that_are_no_events_are_named_by_file_and_row(fresh_topics: Connections, tmp_path: Path) -> None:
    """The second line, or the fourth with a blank one before it; and one of a megabyte."""
    file = tmp_path / "log.jsonl"
    for bad, said in (
        (b'\n{"type":"parcel","ts":1}\n', "row 2, field 'type' is 'parcel'"),
        (b"\n\n\n{broken", "row 4, field 'event'"),
        (b'\n{"type":"click","user":"u","item":"' + b"x" * 999_970 + b'"}', "row 2, field 'size' is 1000007"),
    ):
        file.write_bytes(msgspec.json.encode(VIEW) + bad)
        with pytest.raises(InvalidData, match=said):
            replay_file(fresh_topics, file)


@pytest.mark.services
def test_a_topics_past_is_sent_again_by_offset_or_by_event_time(fresh_topics: Connections) -> None:
    """Four clicks in partition 1, and one under the same key in partition 0: from offset 2 on the last two come again, then
    those of one of the times, where they were and not where their key would put them."""
    clicks = [msgspec.json.encode(Click(START + n * 1_000, "u", "a")) for n in range(4)]
    with EventProducer(fresh_topics) as producer:
        for raw in clicks:
            producer.send(CLICKS.name, raw, b"u", 1)
        producer.send(CLICKS.name, clicks[1], b"u", 0)
    assert replay_topic(fresh_topics, CLICKS.name, 2) == {CLICKS.name: 2}
    assert replay_topic(fresh_topics, CLICKS.name, span=Span(START + 1_000, START + 2_000)) == {CLICKS.name: 2}
    first, second = ([raw for _, raw in p] for p in committed(fresh_topics, CLICKS.name))
    assert (first, second) == ([clicks[1]] * 2, [*clicks, *clicks[2:], clicks[1]])
    assert replay_topic(fresh_topics, ITEMS.name) == {ITEMS.name: 0}
    with pytest.raises(InvalidRequest, match="derived topics"):
        replay_topic(fresh_topics, VIEWS.name)


def test_times_are_iso_8601_or_milliseconds() -> None:
    """2001-09-09T01:46:40Z is 10**12 ms after 1970; an hour east of Greenwich it is an hour earlier."""
    assert span("2001-09-09T01:46:40", "") == Span(10**12, END_OF_TIME)
    assert span("2001-09-09T01:46:40+01:00", "1000000000001") == Span(10**12 - 3_600_000, 10**12 + 1)
    assert span("", "").whole
    for start, end, said in (("yesterday", "", "ISO 8601"), ("2", "2", "after the start"), ("", "-5", "ISO 8601")):
        with pytest.raises(InvalidRequest, match=said):
            span(start, end)
