"""The whole loop, as its user starts it, with every process killed once on the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from headrace.folder import RunFolder
from headrace.stack import open_stack
from schemas import log
from schemas.journal import StepIntent, StepResult
from schemas.topics import EXAMPLES, STEPS
from trainers.batches import is_held_out

VICTIMS = (
    "worker-attribution",
    "learner",
    "kafka",
    "worker-rewarding",
    "server",
    "worker-posteriors",
    "redis",
    "worker-keywords",
)
#: A small shop, so that the loop fits a test.
SMALL = {
    "HEADRACE_SHOP__HISTORY_IMPRESSIONS": "1200",
    "HEADRACE_SHOP__QUERIES": "80",
    "HEADRACE_SHOP__USERS": "200",
    "HEADRACE_SHOP__JUDGED_SHARE": "0.8",
    "HEADRACE_TRAINERS__LEARNER__CHECKPOINT_EVERY_S": "4",
    "HEADRACE_TRAINERS__GATE__VIEWS": "48",
    "HEADRACE_TRAINERS__GATE__MIN_VIEWS": "8",
    # Whether a few seconds of learning are an improvement is not the claim here; that a promotion reaches searches is.
    "HEADRACE_TRAINERS__GATE__MARGIN": "1",
    "HEADRACE_TRAINERS__LEARNER__HELD_OUT_SHARE": "0.1",
    # A slow machine takes longer for the same searches: the learner is as slow, and must not be cut off before it promotes.
    "HEADRACE_DELIVERY__OVERRUN": "20",
}
#: One demo serves all tests here, whichever of them comes first; how long it takes is the machine's matter.
pytestmark = [pytest.mark.slow, pytest.mark.services, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, dict, list[str]]:
    """A demo whose processes are killed with -9 one after the other during the live stream; run folder, report, killed."""
    place = tmp_path_factory.mktemp("demo")
    command = [sys.executable, "-m", "headrace.cli", "demo", "--minutes", "1.5", "--items", "300", "--seed", "3"]
    with (place / "out.log").open("wb") as out:
        process = subprocess.Popen(
            [*command, "--report", str(place / "report")], cwd=place, stdout=out, stderr=out, env={**os.environ, **SMALL}
        )
        try:
            killed = _kill_all(process, place)
            process.wait()
        finally:
            process.kill()
            process.wait()
    said = (place / "out.log").read_text()
    assert process.returncode == 0, said
    assert "Exception in thread" not in said, said  # the broker is away for a while, and who looks on goes on looking
    report = json.loads((place / "report" / "report.json").read_text())
    return RunFolder(next((place / "runs").iterdir())), report, killed


def _kill_all(process: subprocess.Popen[bytes], place: Path) -> list[str]:
    """Wait for the first searches, then kill a process every two seconds."""
    said = place / "out.log"
    while "searches" not in said.read_text():
        assert process.poll() is None, said.read_text()
        time.sleep(0.2)
    killed = []
    for name in VICTIMS:
        time.sleep(2)
        [pid_file] = place.glob(f"runs/*/pids/{name}")
        while not _kill(json.loads(pid_file.read_text())):
            assert process.poll() is None, f"{name} does not run\n{said.read_text()}"
            time.sleep(0.1)
        killed.append(name)
    return killed


def _kill(noted: dict[str, float]) -> bool:
    """False when that process has ended and a successor is not noted yet: its pid may be somebody else's."""
    try:
        victim = psutil.Process(int(noted["pid"]))
        if abs(victim.create_time() - noted["started"]) < 0.05:
            victim.kill()
            return True
    except psutil.NoSuchProcess:
        pass
    return False


def test_every_process_killed_once_the_run_completes_and_nothing_is_lost(demo: tuple[RunFolder, dict, list[str]]) -> None:
    _, report, killed = demo
    assert killed == list(VICTIMS)
    assert report["restarts"] >= len(VICTIMS)
    assert report["closed"] is True
    assert report["events"]["lost"] == 0
    assert report["views"]["provisional"] == report["events"]["impressions"]
    assert report["events"]["quarantined"] > 0, "dirty delivery is on"


def test_no_view_is_learned_twice_though_the_learner_was_killed(demo: tuple[RunFolder, dict, list[str]]) -> None:
    """Steps follow each other without gap; what they read are disjoint stretches; each first revision counts once."""
    folder, report, _ = demo
    with open_stack(folder, folder.settings()) as stack:
        records = [entry.record for entry in log.scan(stack.settings.connections, STEPS)]
        examples = list(log.scan(stack.settings.connections, EXAMPLES))
    intents = {r.step: r for r in records if isinstance(r, StepIntent)}
    results = {r.step: r for r in records if isinstance(r, StepResult)}
    assert sorted(intents) == list(range(1, len(intents) + 1))
    settings = folder.settings().trainers.learner
    at: dict[int, int] = {}
    for step in sorted(intents):
        for partition, offset in intents[step].offsets.items():
            assert offset >= at.get(partition, 0)
            at[partition] = offset
    read = [e.record for e in examples if e.offset < at.get(e.partition, 0)]
    ids = [r.request_id for r in read if r.revision == 1]
    assert len(ids) == len(set(ids))
    fresh = [
        r for r in read
        if r.revision == 1 and r.ts >= settings.learn_from_ms and not is_held_out(r.request_id, settings.held_out_share)
    ]  # fmt: skip
    assert sum(r.examples for r in results.values()) == len(fresh) == report["learner"]["examples"]


def test_the_report_has_every_field_of_the_contract(demo: tuple[RunFolder, dict, list[str]]) -> None:
    _, report, _ = demo
    assert set(report["events"]) >= {
        "impressions",
        "clicks",
        "orders",
        "returns",
        "duplicates",
        "late",
        "quarantined",
        "lost",
    }
    assert set(report["views"]) >= {"provisional", "final", "retracted"}
    assert set(report["learner"]) >= {"steps", "examples", "rollouts_per_s", "checkpoints", "promoted"}
    assert set(report["latency_s"]) >= {"event_to_served", "weights_to_gradient"}
    assert set(report["latency_s"]["event_to_served"]) >= {"p50", "p99", "window_s"}
    assert set(report["keywords"]) >= {"coverage", "refreshed"}
    assert set(report["seconds"]) >= {"install", "services", "identifiers", "warm_start", "live", "total"}
    metrics = {"clicks_per_search", "orders_per_search", "reward_per_search", "ndcg10", "hr10", "mrr10"}
    for arm in ("frozen", "online"):
        assert set(report["quality"]["arms"][arm]) >= metrics | {"valid_sid_rate"}
    for metric in metrics:
        assert set(report["quality"]["paired"][metric]) >= {"diff", "low", "high", "n"}


def test_the_page_opens_without_network(demo: tuple[RunFolder, dict, list[str]], tmp_path: Path) -> None:
    from headrace.report.page import render

    page = render(demo[1])
    assert "<svg" in page
    for outside in ('src="http', 'href="http', "@import", "url(http"):
        assert outside not in page
