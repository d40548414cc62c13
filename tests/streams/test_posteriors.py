"""Counts and merger: interleaving, chunks and restarts do not matter; a snapshot holds exactly the views up to its stamp."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from reward.counts import UNIT, Counts
from reward.settings import PosteriorSettings
from reward.snapshot import PosteriorSnapshot
from schemas.codec import decode, encode
from schemas.errors import Incompatible
from schemas.events import Tick
from schemas.posteriors import CountDelta, PosteriorDelta, SnapshotPointer
from schemas.quarantine import Quarantined
from schemas.topics import DELTAS, QUARANTINE, SNAPSHOTS, VIEWS
from schemas.views import View, ViewItem, ViewStatus
from streams.posteriors.counts_core import PART_BYTES, CountsCore, view_deltas
from streams.posteriors.merger_core import MergerCore
from streams.posteriors.metrics import tell_snapshots
from streams.runtime.core import Blob, Output, Record

#: Stamps every 10 s of event time.
SETTINGS = PosteriorSettings(snapshot_every_s=10, bucket_s=5, calibration_snapshots=3)
EVERY = 10_000


def view(request: str, emitted_at: int, clicked: int = 0, query: str = "Red  Shoe") -> View:
    """Items a, b, c at 1, 2, 3; the first ``clicked`` of them have a click."""
    items = tuple(ViewItem(i, n + 1, 1.0, clicks=int(n < clicked), d_clicks=int(n < clicked)) for n, i in enumerate("abc"))
    return View(
        f"{request}:provisional:1", request, ViewStatus.PROVISIONAL, 1, emitted_at - 5, emitted_at, "u", query, items
    )


def records(messages: Sequence[msgspec.Struct | bytes]) -> list[Record]:
    return [Record(n, 0, None, m if isinstance(m, bytes) else encode(m)) for n, m in enumerate(messages)]


def told(outputs: Sequence[Output]) -> list[PosteriorDelta]:
    return [decode(DELTAS.kind, o.value) for o in outputs if o.topic == DELTAS.name]


def count(messages: Sequence[msgspec.Struct | bytes], partition: int = 0) -> list[PosteriorDelta]:
    core = CountsCore(partition, SETTINGS)
    core.apply(VIEWS.name, records(messages))
    return told(core.drain()[0])


def merge(deltas: Sequence[msgspec.Struct], sources: int) -> tuple[list[SnapshotPointer], list[Blob]]:
    core = MergerCore(sources, SETTINGS)
    core.apply(DELTAS.name, records(deltas))
    core.advance()
    outputs, blobs = core.drain()
    return [decode(SNAPSHOTS.kind, o.value) for o in outputs if o.topic == SNAPSHOTS.name and o.partition == 0], blobs


def test_a_stamp_closes_when_a_later_record_comes() -> None:
    """A view at 10,000 belongs to stamp 10,000, which is open until something later than it comes."""
    assert told_stamps([view("r", 10_000)]) == []
    assert told_stamps([view("r", 10_000), Tick(10_000)]) == []
    assert told_stamps([view("r", 10_000), Tick(10_001)]) == [(10_000, 3)]
    assert told_stamps([view("r", 10_001), Tick(20_001)]) == [(10_000, 0), (20_000, 3)]


def told_stamps(messages: Sequence[msgspec.Struct | bytes]) -> list[tuple[int, int]]:
    return [(delta.stamp, len(delta.deltas)) for delta in count(messages)]


def test_of_many_stamps_passed_at_once_the_one_with_content_and_the_last_are_told() -> None:
    assert told_stamps([view("r", 5_000), Tick(95_000)]) == [(10_000, 3), (90_000, 0)]


def test_a_revision_moves_by_its_difference_and_examines_nothing() -> None:
    """Two clicks on one item count once; the return takes the order back; only revision 1 counts as shown."""
    first = View(
        "r:provisional:1", "r", ViewStatus.PROVISIONAL, 1, 7_000, 9_000, "u", "Q",
        (ViewItem("a", 2, 1.0, clicks=2, d_clicks=2), ViewItem("b", 1, 1.0)),
    )  # fmt: skip
    assert list(view_deltas(first, SETTINGS)) == [
        CountDelta("q", "a", 1, UNIT, 1, 0, 0, 2), CountDelta("q", "b", 1, UNIT, 0, 0, 0, 1),
    ]  # fmt: skip
    bought = msgspec.structs.replace(
        first, revision=2, items=(ViewItem("a", 2, 1.0, clicks=3, d_clicks=1, orders=1, d_orders=1),)
    )
    assert list(view_deltas(bought, SETTINGS)) == [CountDelta("q", "a", 1, 0, 0, 1, 0, 2)]
    returned = msgspec.structs.replace(first, revision=3, items=(ViewItem("a", 2, 1.0, clicks=3, orders=0, d_orders=-1),))
    assert list(view_deltas(returned, SETTINGS)) == [CountDelta("q", "a", 1, 0, 0, -1, 0, 2)]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=8))
def test_revisions_come_to_what_the_last_one_says(lives: list[tuple[int, int]]) -> None:
    """Any run of revisions (clicks, orders), then one that takes everything back: the counts of the last one shown alone,
    and in the end those of a view that nobody touched."""
    counts, clicks, orders = Counts(), 0, 0
    for revision, (now_clicked, now_ordered) in enumerate([*lives, (0, 0)], 1):
        items = (ViewItem("a", 3, 1.0, now_clicked, now_ordered, 0.0, now_clicked - clicks, now_ordered - orders),)
        clicks, orders = now_clicked, now_ordered
        counts.add(view_deltas(View("id", "r", ViewStatus.FINAL, revision, 7_000, 9_000, "u", "Q", items), SETTINGS))
        said = CountDelta("q", "a", 1, UNIT, int(clicks > 0), int(orders > 0), 0, 3)
        assert counts.dump() == Counts([said]).dump()
    assert counts.dump() == Counts([CountDelta("q", "a", 1, UNIT, 0, 0, 0, 3)]).dump()


def test_large_content_is_cut_into_records_below_the_limit() -> None:
    """400 views with queries of 1,000 letters: several records, all but the last marked, nothing lost."""
    views = [view(f"r{n}", 5_000, query=f"{n:04d}{'x' * 996}") for n in range(400)]
    parts = count([*views, Tick(10_001)])
    assert len(parts) > 1 and [part.last for part in parts] == [False] * (len(parts) - 1) + [True]
    assert all(len(encode(part)) < 2 * PART_BYTES for part in parts)
    assert sum(len(part.deltas) for part in parts) == 1_200


def test_unreadable_records_go_to_quarantine_and_stop_nothing() -> None:
    core = CountsCore(1, SETTINGS)
    core.apply(VIEWS.name, records([b"{", view("r", 5_000), Tick(10_001)]))
    outputs, _ = core.drain()
    bad: Quarantined = decode(Quarantined, next(o.value for o in outputs if o.topic == QUARANTINE.name))
    assert (bad.agent, bad.partition, bad.offset, bad.reason) == ("posteriors", 1, 0, "unreadable")
    assert core.counters["quarantined.unreadable"] == 1 and len(told(outputs)) == 1


def test_a_snapshot_waits_for_every_source_and_goes_to_every_partition() -> None:
    core = MergerCore(2, SETTINGS)
    core.apply(DELTAS.name, records([PosteriorDelta(0, 10_000, ()), PosteriorDelta(0, 20_000, ())]))
    core.advance()
    assert core.drain() == ([], [])
    core.apply(DELTAS.name, records([PosteriorDelta(1, 10_000, ())]))
    core.advance()
    outputs, blobs = core.drain()
    assert [(o.partition, decode(SNAPSHOTS.kind, o.value).stamp) for o in outputs] == [(0, 10_000), (1, 10_000)]
    assert len(blobs) == 1 and decode(SNAPSHOTS.kind, outputs[0].value).path == blobs[0].path


times = st.integers(1, 60).map(lambda n: n * 1_000)


@st.composite
def view_logs(draw: st.DrawFn) -> list[list[msgspec.Struct | bytes]]:
    """Two partitions of views and ticks in order of time, revisions and broken records among them."""
    logs: list[list[msgspec.Struct | bytes]] = []
    for source in range(2):
        log: list[msgspec.Struct | bytes] = []
        for n, at in enumerate(sorted(draw(st.lists(times, max_size=8)))):
            query = draw(st.sampled_from(["red shoe", "pump"]))
            if draw(st.integers(0, 4)) == 0:
                log.append(draw(st.sampled_from([Tick(at), b"{"])))
            else:
                log.append(view(f"{source}-{n}", at, draw(st.integers(0, 3)), query))
        logs.append([*log, Tick(70_000)])
    return logs


@given(view_logs(), st.randoms(use_true_random=False))
def test_snapshots_hold_the_views_up_to_their_stamp_however_logs_interleave(
    logs: list[list[msgspec.Struct | bytes]], rng: random.Random
) -> None:
    """Chunk borders, restarts between chunks, and the sources' interleaving: the same pointers and files; and each
    file's evidence is what a plain sum over the views emitted by its stamp gives."""
    streams = [count(log, source) for source, log in enumerate(logs)]
    pointers, blobs = merge([*streams[0], *streams[1]], 2)
    assert [told_in_chunks(log, n, rng) for n, log in enumerate(logs)] == streams
    core, mixed_outputs, mixed_blobs = MergerCore(2, SETTINGS), list[Output](), list[Blob]()
    queues = [list(stream) for stream in streams]
    while any(queues):
        queue = rng.choice([q for q in queues if q])
        core.apply(DELTAS.name, records([queue.pop(0)]))
        core.advance()
        outputs, made = core.drain()
        mixed_outputs += outputs
        mixed_blobs += made
        restarted = MergerCore(2, SETTINGS)
        restarted.load(core.dump())
        core = restarted
    assert [decode(SNAPSHOTS.kind, o.value) for o in mixed_outputs if o.partition == 0] == pointers
    assert mixed_blobs == blobs
    everything = [m for log in logs for m in log if isinstance(m, View)]
    for pointer, blob in zip(pointers, blobs, strict=True):
        plain = Counts(d for v in everything if v.emitted_at <= pointer.stamp for d in view_deltas(v, SETTINGS))
        expected = PosteriorSnapshot(PosteriorSnapshot.build(plain, pointer.stamp, SETTINGS))
        found = PosteriorSnapshot(blob.data)
        for query in ("red shoe", "pump"):
            assert found.raw(query, "abcz").mean_N.tolist() == expected.raw(query, "abcz").mean_N.tolist()


def told_in_chunks(log: Sequence[msgspec.Struct | bytes], source: int, rng: random.Random) -> list[PosteriorDelta]:
    core, found, rest = CountsCore(source, SETTINGS), list[PosteriorDelta](), records(log)
    while rest:
        cut = rng.randint(1, len(rest))
        core.apply(VIEWS.name, rest[:cut])
        core.advance()
        rest = rest[cut:]
        found += told(core.drain()[0])
        restarted = CountsCore(source, SETTINGS)
        restarted.load(core.dump())
        core = restarted
    return found


def test_every_emission_time_finds_its_stamp() -> None:
    """For any view there is a snapshot at the last multiple below its emission: what rewarding waits for."""
    log = [view(f"r{n}", at) for n, at in enumerate([4_000, 10_000, 10_001, 35_000, 95_000])]
    pointers, _ = merge(count([*log, Tick(100_001)]), 1)
    assert {at - 1 - (at - 1) % EVERY for at in (10_001, 35_000, 95_000)} <= {pointer.stamp for pointer in pointers}


def test_the_calibrator_sees_outcomes_against_the_snapshot_before_and_keeps_a_window() -> None:
    """The first snapshot is uncalibrated (nothing was predicted before it); later ones name their own calibrator."""
    log = [view(f"r{n}", 5_000 + n * EVERY, clicked=1) for n in range(5)]
    core = MergerCore(1, SETTINGS)
    core.apply(DELTAS.name, records(count([*log, Tick(60_001)])))
    core.advance()
    pointers = [decode(SNAPSHOTS.kind, o.value) for o in core.drain()[0]]
    assert [pointer.calibrator_version for pointer in pointers] == [0, 2, 3, 4, 5, 6]
    assert len(msgspec.msgpack.decode(core.dump())["outcomes"]) == 3


def test_what_an_empty_snapshot_said_is_no_outcome() -> None:
    """Stamp 10,000 is empty and says the prior; the views after it must not be held against the posterior."""
    core = MergerCore(1, SETTINGS)
    core.apply(DELTAS.name, records(count([view("r1", 15_000, clicked=3), view("r2", 25_000), Tick(30_001)])))
    core.advance()
    pointers = [decode(SNAPSHOTS.kind, o.value) for o in core.drain()[0]]
    assert [(pointer.stamp, pointer.calibrator_version) for pointer in pointers] == [(10_000, 0), (20_000, 0), (30_000, 3)]


def test_a_restart_between_any_two_stamps_gives_the_same_bytes() -> None:
    """Calibrator, corrector, examination and evictions included: `dump` and `load` after each stamp change nothing."""
    settings = SETTINGS.model_copy(update={"max_pairs": 8})
    log = [view(f"r{n}", 5_000 + n * 2_500, clicked=n % 3, query=f"q{n % 4}") for n in range(40)]
    turned = [
        msgspec.structs.replace(
            v, items=tuple(msgspec.structs.replace(i, position=1 + (i.position + n) % 3) for i in v.items)
        )
        for n, v in enumerate(log)
    ]
    deltas = count([*turned, Tick(120_001)])
    undisturbed = MergerCore(1, settings)
    undisturbed.apply(DELTAS.name, records(deltas))
    undisturbed.advance()
    outputs, blobs = undisturbed.drain()
    core, found = MergerCore(1, settings), list[Blob]()
    for delta in deltas:
        core.apply(DELTAS.name, records([delta]))
        core.advance()
        found += core.drain()[1]
        state = core.dump()
        core = MergerCore(1, settings)
        core.load(state)
    assert found == blobs and core.counters == undisturbed.counters
    pointers = [decode(SNAPSHOTS.kind, o.value) for o in outputs]
    assert pointers[-1].pairs == 8 and pointers[-1].evicted == undisturbed.counters["evicted_pairs"] > 0
    assert pointers[-1].examination_version == pointers[-1].version


def test_a_pointer_names_its_file_and_its_versions() -> None:
    pointers, blobs = merge(count([view("r", 5_000, clicked=1), Tick(10_001)]), 1)
    found = PosteriorSnapshot(blobs[0].data)
    assert pointers == [SnapshotPointer(1, 10_000, blobs[0].path, found.sha256, 0, 3, 0, "", 0, 1.0)]
    tell_snapshots([Output(SNAPSHOTS.name, b"1", encode(pointers[0]), 0), Output("else", b"", b"", 0)])
    assert REGISTRY.get_sample_value("headrace_posterior_pairs") == 3
    assert REGISTRY.get_sample_value("headrace_posterior_evicted_pairs") == 0


def test_a_state_of_another_form_is_refused_with_its_remedy() -> None:
    """What the first version dumped: no form, counts by name."""
    old = msgspec.msgpack.encode({"told": [0], "counts": [["q", "i", 0, 1, 0, 0, 0]], "counters": {}})
    with pytest.raises(Incompatible, match=r"expected 2, found 1; .*start a new run folder"):
        MergerCore(1, SETTINGS).load(old)


@pytest.mark.parametrize("build", [lambda settings: CountsCore(0, settings), lambda settings: MergerCore(1, settings)])
def test_a_state_whose_buckets_have_another_length_is_refused_with_its_remedy(
    build: Callable[[PosteriorSettings], CountsCore | MergerCore],
) -> None:
    """By another unit all its counts would be of another time. What an earlier version dumped does not say: it is taken, and says so
    from then on."""
    longer = SETTINGS.model_copy(update={"bucket_s": 20})
    dumped = build(SETTINGS).dump()
    for state in (dumped, reloaded(build(SETTINGS), dumped)):
        with pytest.raises(
            Incompatible, match=r"bucket_s of the state .*expected 5, found 20; set it back to 5.*new run folder"
        ):
            build(longer).load(state)
    fields = msgspec.msgpack.decode(dumped)
    del fields["bucket_s"]
    taken = reloaded(build(longer), msgspec.msgpack.encode(fields))
    with pytest.raises(Incompatible, match="expected 20, found 5"):
        build(SETTINGS).load(taken)


def reloaded(core: CountsCore | MergerCore, state: bytes) -> bytes:
    core.load(state)
    return core.dump()
