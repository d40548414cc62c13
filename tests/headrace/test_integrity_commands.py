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
from schemas.integrity import Release, Verdict, moment
from schemas.posteriors import SnapshotPointer
from schemas.quarantine import Quarantined
from schemas.topics import EXAMPLES, FACTS, INPUTS, QUARANTINE, SNAPSHOTS
from schemas.views import ViewStatus
from streams.integrity.reading import find, verdicts
from streams.integrity.releasing import BACK
from streams.quarantine import Wanted, listing
from streams.runtime.log import LogReader
from tests.console.served import listening
from tests.streams.conftest import Worker, committed, feeder
from tests.streams.integrity_feed import HOUR, PARTITIONS, START, judged, sent, shop

pytestmark = pytest.mark.services
HOURS, BROKEN = 7, START + 4 * HOUR
#: Three hours; the pages of the last go out half an hour later.
WINDOWS = [BROKEN + n * HOUR for n in range(4)]


def events() -> list[Impression | Click | Order]:
    """Four healthy hours, three in which a robot clicks on all that is shown."""
    found: list[Impression | Click | Order] = []
    for event in shop(HOURS, 110):
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


@pytest.mark.slow
def test_a_broken_window_is_named_shown_and_released(
    fresh_topics: Connections, unique: Callable[[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The workers, killed once on the way, say what the cores say in one process. Of the examples put aside those
    that no other broken window touches are sent again when one is released; it cannot be released twice."""
    log = [sent(event) for event in events()]
    want = judged(log).verdicts
    assert [verdict.start for verdict in want if verdict.broken] == WINDOWS

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
    assert "counts what 4 broken windows told, from the next snapshot on" in " ".join(said.split())
    with feeder(connections) as send:
        for version, stamp in ((1, BROKEN - HOUR), (2, BROKEN + HOUR), (3, BROKEN + 9 * HOUR)):
            send(SNAPSHOTS.name, 0, encode(SnapshotPointer(version, stamp, "p", "", 0, 1)))
    again = command(monkeypatch, connections, "status")
    assert "from snapshot 2 on; it weighs half after 7 days" in " ".join(again.split())
    assert [v["broken"] for v in json.loads((tmp_path / "status.json").read_text())].count(True) == 4
    said = command(monkeypatch, connections, "show", str(BROKEN))
    ctr = next(check for check in find(connections, BROKEN).failed if check.name == "ctr")
    assert len(ctr.samples) == 5 and all(sample.id in said for sample in ctr.samples) and ctr.remedy.split()[0] in said
    with pytest.raises(InvalidRequest, match="the start of a judged one"):
        find(connections, 1)


def let_pass(connections: Connections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put aside are an example of the first window alone, one of none, and two of two neighbours each, which wait for both."""
    ages = (BROKEN + 5, BROKEN - 2 * HOUR, WINDOWS[1] - 5, WINDOWS[3] - 5)
    inside, _, early, late = aside = [example(number, ts) for number, ts in enumerate(ages)]
    with feeder(connections) as send:
        for offset, one in enumerate(aside):
            send(EXAMPLES.name, 1, encode(one))
            kept = Quarantined("learner", EXAMPLES.name, 1, offset, "broken_window", "", b"", 0, 1)
            send(QUARANTINE.name, 0, encode(kept))
    file = tmp_path / "released.json"
    said = command(monkeypatch, connections, "release", "--why", "a sale", str(BROKEN), "--json", str(file))
    assert "1 of 4 examples" in said and "3 stay aside for these windows, still broken:" in said
    assert all(f"{moment(start)} 1 examples" in " ".join(said.split()) for start in WINDOWS[1:])
    assert "1 are of no window that is broken" in said
    assert json.loads(file.read_text()) == {
        "windows": [BROKEN], "new_normal": False, "sent_again": 1, "stay_aside": 3, "of_none": 1,
        "kept_by": [{"window": start, "examples": 1} for start in WINDOWS[1:]],
    }  # fmt: skip
    marked = {entry.record.offset: entry.replayed_ms > 0 for entry in listing(connections, 10, Wanted("broken_window"))}
    assert marked == {0: True, 1: False, 2: False, 3: False}  # quarantine's own replay would not send it a third time
    assert find(connections, BROKEN).reason == "a sale"
    over_http(connections)
    refuse_some(connections, monkeypatch)
    new_normal(connections, file, monkeypatch)
    kept = [decode(TrainingExample, value).example_id for _, value in committed(connections, EXAMPLES.name)[1]]
    assert kept == [one.example_id for one in (*aside, inside, early, late)]
    reader = LogReader(connections, 20)
    batches = reader.read(FACTS.name, 0, *reader.bounds(FACTS.name, 0))
    facts = [decode(FACTS.kind, record.value) for batch in batches for record in batch]
    releases = [(one.start, one.new_normal) for one in facts if isinstance(one, Release)]
    assert releases == list(zip(WINDOWS, (False, False, True, True), strict=True))
    engine = open_database(connections)
    both, other, line = Desk(engine).audit((INTEGRITY,))
    engine.dispose()
    state = ("broken", "released as the new normal")
    back = Change("to go back", None, BACK)
    assert both.changes == (*(Change(f"window {shown(start)}", *state) for start in WINDOWS[2:]), back)
    assert (other.who, other.why) == ("zoe", "the same sale")
    assert (line.who, line.action, line.why) == (getpass.getuser(), "release window", "a sale")
    assert line.changes == (Change(f"window {shown(BROKEN)}", "broken", "released"),)
    for group in ("weights", "campaigns"):
        file = tmp_path / f"{group}.json"
        CliRunner().invoke(app, [group, "audit", "--json", str(file)], catch_exceptions=False)
        assert [one["who"] for one in json.loads(file.read_text())] == [both.who, other.who, line.who]


def refuse_some(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several windows, one of them released already, none is released; the message has its time as typed, and its ms."""
    named = rf"window {moment(BROKEN)} \({BROKEN} ms\) is 'released by {getpass.getuser()}', but must be broken"
    with pytest.raises(InvalidRequest, match=named):
        command(monkeypatch, connections, "release", "--why", "again", moment(WINDOWS[2]), moment(BROKEN))
    assert find(connections, WINDOWS[2]).stands
    with pytest.raises(InvalidRequest, match="none begins from"):
        command(monkeypatch, connections, "release", "--why", "again", "--to", moment(WINDOWS[1]))
    for words in ((), (str(BROKEN), "--from", str(BROKEN))):
        with pytest.raises(InvalidRequest, match="exactly one of windows and times"):
            command(monkeypatch, connections, "release", "--why", "again", *words)


def new_normal(connections: Connections, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it means is said and asked first; who does not agree has released nothing."""
    words = ("release", "--why", "a new page", "--new-normal", "--from", moment(WINDOWS[1]), "--json", str(file))
    asked = CliRunner().invoke(app, ["integrity", *words], input="n\n")
    ctr = next(check for check in find(connections, WINDOWS[3]).failed if check.name == "ctr")
    said = " ".join(asked.output.split())
    assert f"ctr: {ctr.value:.4g} as in {moment(WINDOWS[3])}, no longer {ctr.expected:.4g}" in said
    assert "a fault like this one is not found again" in said and "Make it the new normal?" in said and BACK in said
    assert asked.exit_code == 1 and find(connections, WINDOWS[2]).stands
    command(monkeypatch, connections, *words, "--yes")
    assert json.loads(file.read_text()) == {
        "windows": WINDOWS[2:], "new_normal": True, "sent_again": 1, "stay_aside": 1, "of_none": 1, "kept_by": [],
    }  # fmt: skip


def over_http(connections: Connections) -> None:
    """The second broken window, by somebody at the console; without a reason, or twice, it is refused."""
    app = create_app(connections, ConsoleSettings(access="open"))
    with listening(app, "off") as url, httpx.Client(base_url=url, timeout=60.0, trust_env=False) as http:
        broken = [one["start"] for one in http.get("/api/integrity").json() if one["broken"] and not one["released_by"]]
        assert broken == WINDOWS[1:]
        headers, body = {"Headrace-Name": "zoe"}, {"window": WINDOWS[1], "why": "the same sale"}
        assert http.post("/api/integrity/release", json=body | {"why": "  "}, headers=headers).status_code == 422
        done = http.post("/api/integrity/release", json=body, headers=headers)
        assert done.json() == {
            "window": WINDOWS[1], "sent_again": 1, "stay_aside": 2, "of_none": 1,
            "kept_by": [{"window": start, "examples": 1} for start in WINDOWS[2:]],
        }  # fmt: skip
        again = http.post("/api/integrity/release", json=body, headers=headers)
        assert again.status_code == 422 and "released by zoe" in again.json()["error"]
