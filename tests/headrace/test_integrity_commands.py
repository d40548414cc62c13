"""`headrace integrity` over real workers: a broken window is named, shown with its events, and released."""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import msgspec
import pytest
from typer.testing import CliRunner

from console.app import create_app
from console.settings import ConsoleSettings
from headrace.cli import app
from headrace.shop.sink import partition_of
from reward.desk.desk import Desk
from reward.desk.periods import shown
from reward.desk.tokens import Tokens
from schemas.codec import decode, encode
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import INTEGRITY, Actor, Change, Role
from schemas.errors import Forbidden, InvalidRequest
from schemas.events import Click, Impression, Order, Tick
from schemas.examples import TrainingExample
from schemas.integrity import Verdict
from schemas.posteriors import SnapshotPointer
from schemas.quarantine import Quarantined
from schemas.topics import EXAMPLES, INPUTS, QUARANTINE, SNAPSHOTS
from schemas.views import ViewStatus
from streams.integrity.reading import find, verdicts
from streams.integrity.releasing import release
from streams.quarantine import Wanted, listing
from tests.console.served import listening
from tests.streams.conftest import Worker, committed, feeder
from tests.streams.integrity_feed import HOUR, PARTITIONS, START, judged, sent, shop

pytestmark = pytest.mark.services
HOURS, BROKEN = 5, START + 4 * HOUR


def events() -> list[Impression | Click | Order]:
    """Four healthy hours, one in which a robot clicks on all that is shown."""
    found: list[Impression | Click | Order] = []
    for event in shop(HOURS, 150):
        found.append(event)
        if isinstance(event, Impression) and event.ts >= BROKEN:
            found += [Click(event.ts + 500, event.user, item.item, event.request_id) for item in event.items]
    return sorted(found, key=lambda event: event.ts)


def example(number: int, ts: int) -> TrainingExample:
    return TrainingExample(f"r{number}:provisional:1", f"r{number}", ViewStatus.PROVISIONAL, 1, ts, ts, "u", "q", (), "r", 0)


def command(monkeypatch: pytest.MonkeyPatch, connections: Connections, *words: str) -> str:
    for name in ("kafka", "redis", "database", "store"):
        monkeypatch.setenv(f"HEADRACE_{name.upper()}", getattr(connections, name))
    result = CliRunner().invoke(app, ["integrity", *words], catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_a_broken_window_is_named_shown_and_released(
    fresh_topics: Connections, unique: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers, killed once on the way, say what the cores say in one process. Of two examples put aside the one that the
    window touches is sent again when it is released; it cannot be released twice."""
    log = [sent(event) for event in events()]
    want = judged(log).verdicts
    assert [verdict.start for verdict in want if verdict.broken] == [
        BROKEN,
        BROKEN + HOUR,
    ]  # its last pages go out half an hour later

    def start() -> Worker:
        return Worker(fresh_topics, unique("integrity"), tmp_path / "log", {"INSTANCE": "one"}, "integrity_worker.py")

    worker = start()
    try:
        for half in (log[: len(log) // 2], log[len(log) // 2 :]):
            with feeder(fresh_topics) as send:
                for record in half:
                    send(record.topic, partition_of(record.key, PARTITIONS), record.raw)
            if half[0] is log[0]:
                worker.ready()
                worker.kill()
                worker = start()
        with feeder(fresh_topics) as send:
            for topic in INPUTS:
                for partition in range(PARTITIONS):
                    send(topic.name, partition, encode(Tick(log[-1].ts + 5 * 24 * HOUR)))
        deadline = time.monotonic() + 120
        while len(found := verdicts(fresh_topics)) < len(want):
            assert time.monotonic() < deadline and worker.process.poll() is None, worker.log.read_text()[-3_000:]
            time.sleep(0.3)
        assert [told(verdict) for verdict in found] == [told(verdict) for verdict in want]
        look(fresh_topics, tmp_path, monkeypatch)
        let_pass(fresh_topics, tmp_path, monkeypatch)
        assert worker.stop() == 0
    finally:
        worker.kill()


def test_a_viewer_releases_nothing(fresh_topics: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who acts is the token's holder; an editor gets as far as the window, which nobody has judged. Neither
    leaves a line in the audit."""
    engine, root = open_database(fresh_topics), Actor("root", Role.APPROVER)
    tokens = Tokens(engine)
    for role, refusal in ((Role.VIEWER, Forbidden), (Role.EDITOR, InvalidRequest)):
        monkeypatch.setenv("HEADRACE_TOKEN", tokens.create(str(role), role, root))
        with pytest.raises(refusal):
            command(monkeypatch, fresh_topics, "release", str(BROKEN), "--why", "x")
    assert Desk(engine).audit((INTEGRITY,)) == []
    engine.dispose()


def told(verdict: Verdict) -> Verdict:
    """Without what the broker's clock shaped."""
    checks = [c for c in verdict.checks if not c.name.startswith("arrival")]
    kept = tuple(msgspec.structs.replace(check, samples=()) for check in checks)
    return msgspec.structs.replace(verdict, checks=kept)


def look(connections: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = command(monkeypatch, connections, "status", "--json", str(tmp_path / "status.json"))
    assert "The log is broken" in said and "ctr" in said
    assert "counts what 2 broken windows told, from the next snapshot on" in " ".join(said.split())
    with feeder(connections) as send:
        for version, stamp in ((1, BROKEN - HOUR), (2, BROKEN + HOUR), (3, BROKEN + 9 * HOUR)):
            send(SNAPSHOTS.name, 0, encode(SnapshotPointer(version, stamp, "p", "", 0, 1)))
    again = command(monkeypatch, connections, "status")
    assert "from snapshot 2 on; it weighs half after 7 days" in " ".join(again.split())
    assert [v["broken"] for v in json.loads((tmp_path / "status.json").read_text())].count(True) == 2
    said = command(monkeypatch, connections, "show", str(BROKEN))
    ctr = next(check for check in find(connections, BROKEN).failed if check.name == "ctr")
    assert len(ctr.samples) == 5 and all(sample.id in said for sample in ctr.samples) and ctr.remedy.split()[0] in said
    with pytest.raises(InvalidRequest, match="the start of a judged one"):
        find(connections, 1)


def let_pass(connections: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inside, before = example(1, BROKEN + 5), example(2, BROKEN - 2 * HOUR)
    with feeder(connections) as send:
        for offset, one in enumerate((inside, before)):
            send(EXAMPLES.name, 1, encode(one))
            kept = Quarantined("learner", EXAMPLES.name, 1, offset, "broken_window", "", b"", 0, 1)
            send(QUARANTINE.name, 0, encode(kept))
    said = command(
        monkeypatch, connections, "release", "--why", "a sale", str(BROKEN), "--json", str(tmp_path / "released.json")
    )
    assert "1 examples" in said
    assert json.loads((tmp_path / "released.json").read_text()) == {"window": BROKEN, "sent_again": 1}
    kept = [decode(TrainingExample, value) for _, value in committed(connections, EXAMPLES.name)[1]]
    assert [one.example_id for one in kept] == [inside.example_id, before.example_id, inside.example_id]
    marked = {entry.record.offset: entry.replayed_ms > 0 for entry in listing(connections, 10, Wanted("broken_window"))}
    assert marked == {0: True, 1: False}  # quarantine's own replay would not send it a third time
    assert find(connections, BROKEN).reason == "a sale"
    over_http(connections)
    engine = open_database(connections)
    with pytest.raises(InvalidRequest, match="released by"):
        release(engine, connections, BROKEN, Actor("ann", Role.EDITOR), "again")
    other, line = Desk(engine).audit((INTEGRITY,))
    engine.dispose()
    assert (other.who, other.why) == ("zoe", "the same sale")
    assert (line.who, line.action, line.why) == (getpass.getuser(), "release window", "a sale")
    assert line.changes == (Change(f"window {shown(BROKEN)}", "broken", "released"),)
    for group in ("weights", "campaigns"):
        file = tmp_path / f"{group}.json"
        CliRunner().invoke(app, [group, "audit", "--json", str(file)], catch_exceptions=False)
        assert [one["who"] for one in json.loads(file.read_text())] == [other.who, line.who]


def over_http(connections: Connections) -> None:
    """The other broken window, by somebody at the console; without a reason, or twice, it is refused."""
    app = create_app(connections, ConsoleSettings(access="open"))
    with listening(app, "off") as url, httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
        broken = [one["start"] for one in http.get("/api/integrity").json() if one["broken"] and not one["released_by"]]
        assert broken == [BROKEN + HOUR]
        headers, body = {"Headrace-Name": "zoe"}, {"window": BROKEN + HOUR, "why": "the same sale"}
        assert http.post("/api/integrity/release", json=body | {"why": "  "}, headers=headers).status_code == 422
        done = http.post("/api/integrity/release", json=body, headers=headers)
        assert done.json() == {"window": BROKEN + HOUR, "sent_again": 0}
        again = http.post("/api/integrity/release", json=body, headers=headers)
        assert again.status_code == 422 and "released by zoe" in again.json()["error"]
