"""A benchmark ends, its two sides agree, and its JSON has the form that is promised to readers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest
import torch

from benchmarks import (
    advantages,
    attribution,
    beam,
    common,
    identifiers,
    preview,
    replay_files,
    rollout,
    server,
    trie,
    weights_latency,
)
from benchmarks.attribution_peers import loop, rules, workload
from benchmarks.attribution_peers.stage import Stage
from benchmarks.attribution_peers.systems import System
from benchmarks.plane import load
from reward.campaigns.facts import ItemFacts
from reward.preview.rates import Rates
from reward.snapshot import PosteriorSnapshot
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.topics import VIEWS
from schemas.views import View, ViewItem
from streams.attribution.core import AttributionCore
from streams.settings import AttributionSettings

FIELDS = {"case": str, "ours": float, "peer": float, "peer_name": str, "ratio": float, "unit": str, "repeats": int}


def checked(file: Path, name: str, once: int = 0) -> list[str]:
    """The cases of a result whose form is right; the first ``once`` are long, and measured a single time."""
    result = json.loads(file.read_text())
    assert set(result) == {"name", "machine", "rows"} and result["name"] == name and result["machine"]
    for number, row in enumerate(result["rows"]):
        assert {key: type(value) for key, value in row.items()} == FIELDS
        assert row["ours"] > 0 and row["peer"] > 0 and row["ratio"] > 0 and row["repeats"] >= (1 if number < once else 5)
    return [row["case"] for row in result["rows"]]


def test_advantages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "new" / "advantages.json"
    advantages.main(["--quick", "--groups", "32", "--json", str(file)])
    assert checked(file, "advantages") == ["32 groups"]
    assert "32 groups" in capsys.readouterr().out


def test_trie(tmp_path: Path) -> None:
    file = tmp_path / "trie.json"
    trie.main(["--quick", "--sids", "3000", "--json", str(file)])
    masks = [f"4096 prefixes, level {level} of 5" for level in range(1, 6)]
    changes = [
        f"3k {did} one item, {told}" for did in ("add", "remove") for told in ("merging shared out", "99th percentile")
    ]
    assert checked(file, "trie") == ["3k build", "3k memory", *masks, *changes]


def test_beam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both searches find the same, also where the first level has fewer codes than there are beams; a difference is an error."""
    file = tmp_path / "beam.json"
    beam.main(["--quick", "--sids", "2000", "--text", "300", "--json", str(file)])
    cases = [f"beam {width}{scored}" for width in (512, 50) for scored in ("", ", scored over the vocabulary")]
    assert checked(file, "beam") == cases
    case = beam.Case(2_000, 64, text=300)
    monkeypatch.setattr(case, "peer", beam.Case(2_000, 64, text=300, seed=2).peer)
    with pytest.raises(AssertionError, match="the two searches differ"):
        case.check()


def test_identifiers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The smallest build of all: three processes, then the races, whose codes agree."""
    file, few = tmp_path / "identifiers.json", ["--vectors", "1200", "--width", "16", "--sample", "600", "--threads", "1"]
    identifiers.main(["--quick", *few, "--json", str(file)])
    cases = checked(file, "identifiers", once=2)
    assert cases[:2] == ["build 1,200 vectors, a vector", "build 1,200 vectors, peak memory"]
    assert [case.split(",")[0] for case in cases[2:]] == ["encode 1.2k vectors", "assign a new item"]
    assert "slope: encode" in capsys.readouterr().out


def test_rollout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A small BART in both precisions and a small GPT-2; that both sides mean the same distribution is checked inside."""
    small = {True: rollout.bart(width=64, layers=1), False: rollout.gpt2(width=64, layers=1)}
    cases = [
        replace(case, make=small["BART" in case.name], text=500, tokens=12, group=4, sids=3000) for case in rollout.CASES
    ]
    monkeypatch.setattr(rollout, "CASES", cases)
    file = tmp_path / "rollout.json"
    rollout.main(["--quick", "--json", str(file)])
    size = "2 prompts x 4, 12 tokens, trie 3k"
    expected = [f"{case.name}, {size}, {peer}" for case in cases for peer in ("as TRL", "prompt once")]
    assert checked(file, "rollout") == expected and len(expected) == 6


def test_server_rows_by_hand() -> None:
    """Ten answers of 1 to 10 ms, one of them an error: the median 5.5 ms is 9 times better than allowed, 9 of 10 were answered."""
    seen = load.Seen([float(ms) for ms in range(1, 11)], [200] * 9 + [503], ["c"] * 10, [1] * 10)
    median, tail, answered = server.rows_of(seen)
    assert (median.ours, tail.ours) == (5.5, pytest.approx(9.91)) and median.ratio == pytest.approx(50 / 5.5)
    assert (answered.ours, answered.peer, answered.ratio, answered.repeats) == (9, 10, 0.9, 10)


def test_the_loop_by_hand() -> None:
    """One target 1 1 1 1 1. Rollout 1 matches tokens 1 and 3, rollout 2 none.

    Rollout 1 gains 2, 0, 2, 0, 0, rollout 2 nothing: of two values that differ the z-scores are 1 and -1, of equal ones 0.
    Gates: matches before, by their number: 1, 1/1, 1/2, 2/3, 2/4 and 1, 0, 0, 0, 0.
    """
    position, gates, item = advantages.loop([[[1, 0, 1, 0, 0], [0] * 5]], [[[1] * 5]], [[3.0, 3.0]])
    assert position[0][0] == pytest.approx([1, 0, 1, 0, 0], abs=1e-5)
    assert position[0][1] == pytest.approx([-1, 0, -1, 0, 0], abs=1e-5)
    assert gates == [[[1, 1, 1 / 2, 2 / 3, 2 / 4], [1, 0, 0, 0, 0]]] and item == [[0, 0]]


def test_a_difference_between_the_two_sides_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = advantages.make_batch(4, seed=0)
    advantages.check(batch)
    position_BGL, gate_BGL, item_BG = advantages.ours(batch)
    monkeypatch.setattr(advantages, "ours", lambda _: (position_BGL, gate_BGL + 0.01, item_BG))
    with pytest.raises(AssertionError, match="gates"):
        advantages.check(batch)


def test_a_ratio_above_one_is_ours() -> None:
    """Pairs (1, 4), (2, 4), (4, 4) of seconds and twice more the middle one: ratios 4, 2, 1, 2, 2."""
    pairs = [(1.0, 4.0), (2.0, 4.0), (4.0, 4.0), (2.0, 4.0), (2.0, 4.0)]
    row = common.row("a", pairs, "b", "s")
    assert (row.ours, row.peer, row.ratio, row.repeats) == (2, 4, 2, 5)
    assert common.row("a", pairs, "b", "1/s", higher_is_better=True).ratio == 0.5
    with pytest.raises(ValueError, match="at least 5"):
        common.row("a", pairs[:4], "b", "s")


def test_the_peers_join_is_ours() -> None:
    """What the keyed peers emit for a view when it closes is what the product's core emits, item by item."""
    log = workload.make_log(1_500, seed=3, start_ms=1_700_000_000_000, partitions=2)
    clock, users, peer = rules.Clock(), dict[bytes, rules.User](), list[bytes]()
    for record in log:
        top = rules.head(record.value)
        watermark = clock.see(record.topic, record.partition, top.ts)
        if record.key:
            peer += rules.step(users.setdefault(record.key, rules.User()), top.ts, record.value, watermark)
    ours = list[bytes]()
    for partition in range(2):
        core = AttributionCore(partition, AttributionSettings(**workload.RULES))
        for chunk in loop.chunks(log, partition):
            for topic, records in chunk:
                core.apply(topic, records)
            core.advance()
            ours += [output.value for output in core.drain()[0] if output.topic == VIEWS.name]
    closed, expected = provisional(peer), provisional(ours)
    assert len(expected) == core_views(log) and len(closed) > 0.8 * len(expected)
    assert closed == {request: expected[request] for request in closed}
    assert any(item.orders for items in closed.values() for item in items)


def provisional(values: list[bytes]) -> dict[str, list[ViewItem]]:
    """Request -> its items when its window closed."""
    views = [msgspec.json.decode(value, type=View) for value in values if b'"type":"view"' in value]
    return {view.request_id: list(view.items) for view in views if view.status == "provisional"}


def core_views(log: list[workload.Delivered]) -> int:
    """Page views in the log, each once."""
    return len({record.value for record in log if record.topic == workload.IMPRESSIONS and record.key})


def test_systems_of_the_attribution_benchmark(fresh_topics: Connections, tmp_path: Path) -> None:
    """Ours and plain Faust run in processes of their own, end by themselves, and have joined the log."""
    at = Stage(tmp_path, fresh_topics)
    runs = attribution.Runs(at, attribution.Sizes(events=1_500, faust=150, views=0, stretch_s=0))
    with System("ours", tmp_path) as ours, System("faust_join", tmp_path) as faust:
        run, peer = runs.ours(ours), runs.peer(faust)
    assert run.tally is not None and run.tally.views == round(1_500 / workload.EVENTS_A_VIEW) and run.tally.orders > 0
    assert peer.tally is not None and peer.tally.views > 0 and peer.tally.clicks > 0
    assert run.a_cpu_second > 0 and peer.a_cpu_second > 0


def test_files_of_every_form_are_sent_whole_by_both_sides(fresh_topics: Connections, tmp_path: Path) -> None:
    """`check` compares the partitions' ends; one that loses a record is found."""
    at = Stage(tmp_path, fresh_topics)
    rows = replay_files.measure(at, 600)
    assert [row.case for row in rows] == ["jsonl", "jsonl.zst", "parquet, a column value", "parquet, typed columns"]
    path, read = replay_files.write_files(tmp_path, 600)["jsonl"]

    def forgetful() -> None:
        rows = read(path)
        next(rows)
        replay_files.plain_loop(fresh_topics.kafka, rows)

    with pytest.raises(AssertionError, match="the peer"):
        replay_files.check(at, lambda: replay_files.replay_file(fresh_topics, path), forgetful)


def test_memory_of_open_views(tmp_path: Path) -> None:
    with System("memory", tmp_path) as system:
        told = system.run({"views": 2_000}).told
    assert 0 < told["views"] < told["clicked"]


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Benchmarks hold torch to one thread; other tests keep theirs."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def test_a_failed_measurement_of_weights_keeps_the_logs_it_names() -> None:
    """The folder goes when all went well, and only then."""
    with weights_latency.scratch() as fine:
        assert fine.is_dir()
    assert not fine.exists()
    with pytest.raises(Unavailable), weights_latency.scratch() as failed:
        raise Unavailable("learner", "no step", str(failed))
    failed.rmdir()


def test_the_previews_loop_is_the_preview() -> None:
    """Rewards of both books and the mean weight of whole lists, over thirty pages; another number is an error."""
    rng = np.random.default_rng(0)
    pages = [preview.page(n, rng) for n in range(30)]
    examples, pools = [example for example, _ in pages], {pool.request_id: pool for _, pool in pages}
    shop = preview.shop()
    rates = PosteriorSnapshot(preview.snapshot_of(examples))
    plain = preview.loop(examples, pools, shop, rates)
    facts = (shop.row, ItemFacts.of(shop), preview.SETTINGS, common.NOW_MS, Rates(1, rates, rates.examination))
    found = preview.preview(examples, pools, preview.CURRENT, preview.DRAFT, *facts)
    preview.check(found, plain)
    with pytest.raises(AssertionError, match="the loop"):
        preview.check(found, (plain[0], plain[1] + 1e-3, plain[2]))
