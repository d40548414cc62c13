"""`headrace quarantine` as it is typed: filters, counts, and a replay that sends nothing twice."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headrace.cli import app
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import InvalidRequest
from schemas.quarantine import RAW_LIMIT, Quarantined
from schemas.topics import CLICKS, ORDERS, QUARANTINE
from streams.producing import EventProducer
from tests.streams.conftest import committed

pytestmark = pytest.mark.services

#: 2001-09-09T01:46:40Z
START = 1_000_000_000_000


@pytest.fixture
def headrace(fresh_topics: Connections) -> Callable[..., Result]:
    """Runs a command against the session's broker."""
    env = {"HEADRACE_KAFKA": fresh_topics.kafka, "HEADRACE_SERVICES": "external"}
    return lambda *words, **more: CliRunner().invoke(app, ["quarantine", *words], env=env, **more)


@pytest.fixture
def filled(fresh_topics: Connections) -> None:
    """In partition 0: late clicks 0, 1 and 2, a second apart, and one that was cut; in 1 an order without a click, a minute
    later, and a late view that rewarding refused."""

    def refused(n: int, topic: str, reason: str, partition: int, agent: str = "attribution", size: int = 0) -> None:
        raw = b"%s %d" % (topic.encode(), n)
        record = Quarantined(agent, topic, partition, n, reason, "why", raw, size or len(raw), START + n * 1_000)
        producer.send(QUARANTINE.name, encode(record), agent.encode(), partition)

    with EventProducer(fresh_topics) as producer:
        for n in range(3):
            refused(n, CLICKS.name, "late", 0)
        refused(3, CLICKS.name, "late", 0, size=RAW_LIMIT + 1)
        refused(60, ORDERS.name, "no_click", 1)
        refused(61, "search.views", "late", 1, "rewarding")


def records(connections: Connections, topic: str) -> list[list[bytes]]:
    return [[raw for _, raw in partition] for partition in committed(connections, topic)]


@pytest.mark.parametrize(
    ("words", "ids"),
    [
        ((), ["1-1", "1-0", "0-3", "0-2", "0-1", "0-0"]),
        (("--limit", "2"), ["1-1", "1-0"]),
        (("--reason", "no_click"), ["1-0"]),
        (("--topic", CLICKS.name, "--limit", "1"), ["0-3"]),
        (("--agent", "rewarding"), ["1-1"]),
        (("--since", "2001-09-09T01:46:41", "--until", str(START + 3_000)), ["0-2", "0-1"]),
        (("--reason", "late", "--agent", "attribution", "--until", str(START + 1_000)), ["0-0"]),
        (("--reason", "unreadable"), []),
    ],
)
def test_filters_take_what_fits_all_of_them(
    filled: None, headrace: Callable[..., Result], tmp_path: Path, words: tuple[str, ...], ids: list[str]
) -> None:
    """Newest first; the start of the time is included, its end is not."""
    file = tmp_path / "list.json"
    done = headrace("list", *words, "--json", str(file))
    assert done.exit_code == 0 and [line.split()[0] for line in done.output.splitlines()] == ["id", *ids]
    assert [row["id"] for row in json.loads(file.read_text())] == ids


def test_a_replay_by_filter_asks_sends_once_and_says_what_it_left_out(
    filled: None, fresh_topics: Connections, headrace: Callable[..., Result], tmp_path: Path
) -> None:
    """Of four late clicks three are whole. A refusal and a dry run send nothing; a second run sends nothing more."""
    file, late = tmp_path / "sent.json", ("replay", "--reason", "late", "--topic", CLICKS.name)

    def told() -> Any:
        return json.loads(file.read_text())

    dry = headrace(*late, "--dry-run", "--json", str(file))
    assert (
        dry.exit_code == 0
        and "would send 3 of 4 records" in dry.output
        and "1 longer than quarantine keeps (0-3)" in dry.output
    )
    assert told() == {"matched": 4, "to_send": 3, "sent": 0, "before": 0, "cut": 1}
    refused = headrace(*late, input="n\n")
    assert refused.exit_code == 1 and "Send 3 records again?" in refused.output
    assert headrace(*late).exit_code == 1  # nobody there to be asked
    assert records(fresh_topics, CLICKS.name) == [[], []]

    assert "sent 3 of 4 records" in headrace(*late, input="y\n").output
    clicks = [b"%s %d" % (CLICKS.name.encode(), n) for n in range(3)]
    assert records(fresh_topics, CLICKS.name) == [clicks, []]
    second = headrace(*late, "--yes", "--json", str(file))
    assert second.exit_code == 0 and "left out: 3 sent again before" in second.output
    assert told() == {"matched": 4, "to_send": 0, "sent": 0, "before": 3, "cut": 1}
    by_id = headrace("replay", "0-1")
    assert by_id.exit_code == 1 and "left out: 1 sent again before" in by_id.output
    assert records(fresh_topics, CLICKS.name) == [clicks, []]
    assert headrace("replay", "0-1", "1-0", "--again").exit_code == 0
    assert records(fresh_topics, CLICKS.name) == [[*clicks, clicks[1]], []]
    assert records(fresh_topics, ORDERS.name) == [[], [b"%s 60" % ORDERS.name.encode()]]

    counted = headrace("counts", "--json", str(file))
    assert [(row["records"], row["sent_again"], row["reason"], row["agent"]) for row in told()] == [
        (4, 3, "late", "attribution"), (1, 0, "late", "rewarding"), (1, 1, "no_click", "attribution"),
    ]  # fmt: skip
    assert counted.output.splitlines()[1].split()[:3] == ["4", "3", "late"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("replay",), "neither"),
        (("replay", "0-1", "--reason", "late"), "exactly one of ids and filters"),
        (("replay", "0-9"), "`headrace quarantine list` shows"),
        (("list", "--reason", "lte"), "one of unreadable, "),
        (("counts", "--since", "yesterday"), "ISO 8601"),
    ],
)
def test_what_makes_no_sense_is_refused(
    filled: None, headrace: Callable[..., Result], words: tuple[str, ...], said: str
) -> None:
    """With what would."""
    done = headrace(*words)
    assert isinstance(done.exception, InvalidRequest) and said in str(done.exception)
