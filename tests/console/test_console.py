"""The console's API over a real database and broker: decisions with their reasons, conflicts, bounds, live training."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import httpx
import msgspec
import pytest

from console.app import create_app
from console.settings import ConsoleSettings
from reward.desk.desk import Desk
from reward.desk.tokens import Tokens
from schemas.codec import encode
from schemas.connections import Connections
from schemas.database import open_database
from schemas.decisions import Actor, Role
from schemas.documents import documents, render
from schemas.integrity import Check
from schemas.journal import GateDecision, StepIntent, StepResult, TrainingHold
from schemas.log import scan
from schemas.topics import STEPS, TOPICS, WEIGHTS
from schemas.weights import RewardWeights
from streams.producing import EventProducer
from tests.console.served import listening

pytestmark = pytest.mark.services

ANN = {"Headrace-Name": "ann"}


@pytest.fixture
def client(fresh_topics: Connections) -> Iterator[httpx.Client]:
    """A client of an open console, who is ann."""
    app = create_app(fresh_topics, ConsoleSettings(access="open", publish_every_s=0.2))
    with listening(app) as url, httpx.Client(base_url=url, timeout=60.0, trust_env=False, headers=ANN) as http:
        yield http


def change(client: Any, expected: int | None = None, **changes: float) -> Any:
    body = {"changes": changes, "why": "winter sale", "expected_version": expected}
    return client.post("/api/weights", json=body)


def test_a_change_is_a_new_version_with_its_reason_and_is_published(client: Any, fresh_topics: Connections) -> None:
    """Version 1 are the defaults; order=8 makes version 2, in the history and in the topic."""
    assert client.get("/api/weights").json() | {"order": 4.0, "version": 1} == client.get("/api/weights").json()
    saved = change(client, 1, order=8.0).json()
    assert saved["published"] and saved["weights"]["version"] == 2
    active = client.get("/api/weights").json()
    assert (active["order"], active["click"], active["author"], active["reason"]) == (8.0, 3.0, "ann", "winter sale")
    assert [w["version"] for w in client.get("/api/books").json()] == [2, 1]
    sent = [entry.record for entry in scan(fresh_topics, WEIGHTS)]  # twice where the console's sweep came between
    assert sent and set(map(encode, sent)) == {encode(msgspec.convert(active, RewardWeights))}


def test_rollback_is_a_new_version_of_old_values(client: Any) -> None:
    """After 2 and 3, going back to 2 makes 4."""
    change(client, order=8.0)
    change(client, order=9.0, ctr=2.0)
    body = {"version": 2, "why": "too strong", "expected_version": 3}
    back = client.post("/api/books/rollback", json=body, headers={"Headrace-Name": "Zo%C3%AB"}).json()["weights"]
    assert (back["version"], back["order"], back["ctr"], back["author"]) == (4, 8.0, 1.0, "Zoë")
    stale = client.post("/api/books/rollback", json=body)
    assert stale.status_code == 409
    missing = client.post("/api/books/rollback", json=body | {"version": 99, "expected_version": 4})
    assert missing.status_code == 404 and "99" in missing.json()["error"]


def test_a_stale_expectation_is_409_and_changes_nothing(client: Any) -> None:
    """Two operators looked at version 1; the second is told who was quicker."""
    assert change(client, 1, order=8.0).status_code == 200
    refused = change(client, 1, order=2.0)
    assert refused.status_code == 409
    assert "version 2 by ann" in refused.json()["error"] and refused.json()["remedy"]
    assert client.get("/api/weights").json()["order"] == 8.0


@pytest.mark.parametrize(
    ("body", "named", "bound"),
    [
        ({"changes": {"order": 101}}, "order", "0 to 100"),
        ({"changes": {"order": -0.1}}, "order", "0 to 100"),
        ({"changes": {"orders": 1}}, "weight", "relevance, ctr, click, order"),
        ({"changes": {}}, "changes", "at least one of"),
        ({"changes": {"order": "much"}}, "changes.order", "Expected `float`"),
        ({"why": ""}, "why", "length >= 1"),
        ({"surprise": 1}, "surprise", "one of the fields changes, expected_version"),
    ],
)
def test_bad_input_names_value_and_bound(client: Any, body: dict[str, Any], named: str, bound: str) -> None:
    """422 in the one form of all errors; nothing is saved."""
    refused = client.post("/api/weights", json={"changes": {"order": 5}, "why": "why"} | body)
    answer = refused.json()
    assert refused.status_code == 422, answer
    assert named in answer["what"] and bound in answer["bound"] and answer["remedy"], answer
    assert client.get("/api/weights").json()["version"] == 1


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"{", "JSON"),
        (b'"\xff"', "JSON"),
        (b"[" * 100_000, "JSON"),
        (b'{"changes": {"order": 5}, "why": "a\\u0000b"}', "zero"),
        (b'{"changes": {"order": 5, "order": 6}, "why": "why"}', 'duplicate key "order"'),
        (b'{"changes": {"order": 5}, "why": "why", "changes": {"click": 5}}', 'duplicate key "changes"'),
        (b'{"changes": {"order": 5}, "why": "' + b"x" * 1_100_000 + b'"}', "1000000"),
    ],
)
def test_a_body_that_cannot_be_read_is_told_without_a_stack_trace(client: Any, raw: bytes, told: str) -> None:
    """Databases have no character zero, and nobody needs a megabyte."""
    refused = client.post("/api/weights", content=raw, headers={"content-type": "application/json"})
    assert refused.status_code == 422 and refused.json()["what"] == "the body" and told in refused.json()["error"]
    plain = client.post("/api/weights", content=raw, headers={"content-type": "text/plain"})
    assert plain.status_code == 422 and plain.json()["what"] == "content-type"  # what a page of elsewhere could send


def test_an_open_console_asks_for_a_name_and_knows_its_host(client: httpx.Client) -> None:
    """Who decides says who they are; and a name that was bound to this address gets no answer."""
    nameless = client.post("/api/weights", json={"changes": {"order": 5}, "why": "why"}, headers={"Headrace-Name": ""})
    assert nameless.status_code == 401 and "Headrace-Name" in nameless.json()["remedy"]
    assert client.get("/api/weights", headers={"Headrace-Name": ""}).status_code == 200
    assert client.get("/api/me").json() == {"name": "ann", "role": "approver"}
    assert client.get("/api/weights", headers={"Host": "evil.example"}).status_code == 400
    assert client.get("/api/audit", params={"who": "a\0b"}).status_code == 422


def test_a_token_in_an_open_console_is_looked_at(client: httpx.Client, fresh_topics: Connections) -> None:
    """Who gives one is its holder, whatever name stands beside it; one that nobody holds is refused, also for reading."""
    engine = open_database(fresh_topics)
    secret = Tokens(engine).create("vic", Role.VIEWER, Actor("root", Role.APPROVER))
    engine.dispose()
    vic, nobody = ({"Authorization": f"Bearer {token}"} for token in (secret, "garbage"))
    assert client.get("/api/me", headers=vic).json() == {"name": "vic", "role": "viewer"}
    body = {"changes": {"order": 5}, "why": "why"}
    assert client.post("/api/weights", json=body, headers=vic).status_code == 403
    refused = client.get("/api/weights", headers=nobody)
    assert (refused.status_code, refused.json()["kind"]) == (401, "UnknownToken")


def test_an_open_console_is_for_this_machine_alone() -> None:
    with pytest.raises(ValueError, match=r"0\.0\.0\.0.*127\.0\.0\.1.*tokens"):
        ConsoleSettings(access="open", host="0.0.0.0")
    assert ConsoleSettings(host="0.0.0.0").access == "tokens"


def test_what_another_left_unpublished_goes_out(client: httpx.Client, fresh_topics: Connections) -> None:
    """A command line that was killed after its commit; the console looks every fifth of a second here."""
    engine = open_database(fresh_topics)
    saved = Desk(engine).set({"order": 9}, Actor("bob", Role.EDITOR), "killed")
    engine.dispose()
    deadline = time.monotonic() + 30
    while not (found := [entry.record for entry in scan(fresh_topics, WEIGHTS)]):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert found == [saved]


def test_training_shows_the_last_finished_steps_and_gate(client: Any, fresh_topics: Connections) -> None:
    """Of five steps the last three, oldest first; a later look finds the sixth, without reading the first five again."""
    from kafka import KafkaProducer

    def result(step: int) -> StepResult:
        return StepResult(step, 16, 8, 1, {"reward": step / 2}, 0)

    gate = GateDecision("00000005-aa", "00000000-bb", True, "reward", 0.1, 0.02, 0.2, 96, "better", 0)
    intent = StepIntent(9, {}, RewardWeights(), None, 0, 0, 0)
    producer = KafkaProducer(bootstrap_servers=fresh_topics.kafka, acks="all")
    try:
        assert client.get("/api/training").json() == {"steps": [], "gate": [], "hold": None}
        for record in (*(result(n) for n in range(1, 6)), gate, intent):
            producer.send(STEPS.name, encode(record))
        producer.flush(20)
        seen = client.get("/api/training", params={"last": 3}).json()
        assert [(s["step"], s["metrics"]["reward"]) for s in seen["steps"]] == [(3, 1.5), (4, 2.0), (5, 2.5)]
        assert [g["checkpoint"] for g in seen["gate"]] == ["00000005-aa"]
        producer.send(STEPS.name, encode(result(6)))
        producer.flush(20)
        assert [s["step"] for s in client.get("/api/training").json()["steps"]] == [1, 2, 3, 4, 5, 6]
    finally:
        producer.close()
    for last in (0, 10_000, "all"):
        assert client.get("/api/training", params={"last": last}).status_code == 422


def test_training_says_why_it_stands_still(client: Any, fresh_topics: Connections) -> None:
    """Since when, for which window and checks, and how to look; until it goes on."""
    ctr = Check("ctr", 0.5, 0.1, None, 0.2, 900, "look at what clicks so often", True)
    with EventProducer(fresh_topics) as producer:
        producer.send(STEPS.name, encode(TrainingHold(7, True, 3_600_000, (ctr,), 5_000)), b"", 0)
    hold = client.get("/api/training").json()["hold"]
    assert (hold["since_ms"], hold["step"], hold["window"]) == (5_000, 7, 3_600_000)
    assert [check["name"] for check in hold["checks"]] == ["ctr"] and hold["look"] == "headrace integrity status"
    with EventProducer(fresh_topics) as producer:
        producer.send(STEPS.name, encode(TrainingHold(7, False, 7_200_000, (), 9_000)), b"", 0)
    assert client.get("/api/training").json()["hold"] is None


def test_the_page_asks_only_for_what_there_is(client: httpx.Client) -> None:
    """Every address in its script is one of the API's; the preview, the campaigns and the audit are among them."""
    ways = [re.sub(r"\{\w+\}", "X", path) for path in client.get("/openapi.json").json()["paths"]]
    asked = {re.sub(r"\$\{\w+\}", "X", path) for path in re.findall(r"[\"`](api/[^\"`?]*)", client.get("/").text)}
    assert {"api/standings", "api/audit", "api/preview", "api/weights", "api/campaigns/X"} <= asked
    assert all(any(f"{way}/".startswith(f"/{path}/") for way in ways) for path in asked), asked


def test_the_page_needs_nothing_from_elsewhere(client: Any) -> None:
    """One file: no address of another host, nothing to load, placeholders filled, and a policy that forbids the rest."""
    page = client.get("/")
    assert page.status_code == 200
    assert re.findall(r'(?:src|href)\s*=\s*"([^"]*)', page.text) == ["/schemas"]
    assert set(re.findall(r"https?://[^\s\"']+", page.text)) == {"http://www.w3.org/2000/svg"}  # a name, never fetched
    assert "__" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]


def test_the_schemas_are_served_as_the_code_says(client: httpx.Client) -> None:
    """The page links to every document, and each is what `schemas.documents` makes; one more is refused by name."""
    page = client.get("/schemas")
    assert page.status_code == 200 and "default-src 'none'" in page.headers["content-security-policy"]
    links = re.findall(r'href="([^"]*)"', page.text)
    assert links == ["/schemas/asyncapi.json", *(f"/schemas/{topic.name}.json" for topic in TOPICS)]
    made = documents(version("headrace"))
    for link in links:
        answer = client.get(link)
        assert answer.headers["content-type"] == "application/json"
        assert answer.content == render(made[link.removeprefix("/schemas/").removesuffix(".json")])
    refused = client.get("/schemas/search.none.json")
    assert refused.status_code == 422 and "search.none" in refused.json()["error"] and refused.json()["remedy"]
