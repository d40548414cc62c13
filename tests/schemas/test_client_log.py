"""What Kafka's clients say goes through structlog, one line per cause and interval with a count."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from structlog.testing import capture_logs

from headrace.services.ports import free_port
from schemas.client_log import ClientLog, plain_cause
from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.quiet import CAUSES, Quiet


def test_a_line_is_due_once_an_interval_and_counts_what_came_meanwhile() -> None:
    """At 0, 1, ..., 9 s one line, at 10 s the next one: it stands for the nine before it and itself."""
    now = [0.0]
    quiet = Quiet(10.0, lambda: now[0])
    found = []
    for second in range(21):
        now[0] = second
        found.append(quiet.due("a"))
    assert found == [1, *[0] * 9, 10, *[0] * 9, 10]
    assert quiet.due("b") == 1  # a cause of its own


def test_it_remembers_so_many_causes_and_forgets_the_one_told_longest_ago() -> None:
    """The first is forgotten, and so told anew; the last is still quiet."""
    quiet = Quiet(10.0, lambda: 0.0)
    assert all(quiet.due(cause) for cause in range(CAUSES + 1))
    assert (quiet.due(CAUSES), quiet.due(0)) == (0, 1)


def test_lines_of_one_cause_differ_only_by_thread_scheme_and_times() -> None:
    """What is left names the broker and what was seen."""
    seen = "SSL handshake failed: Disconnected: connecting to a PLAINTEXT broker listener?"
    lines = (
        f"[thrd:ssl://b:9093/bootstrap]: ssl://b:9093/bootstrap: {seen} (after 14ms in state SSL_HANDSHAKE)",
        f"[thrd:ssl://b:9093/2]: ssl://b:9093/2: {seen} (after 3ms in state SSL_HANDSHAKE, 7 identical error(s) suppressed)",
        f"ssl://b:9093/bootstrap: {seen} (after 1ms in state SSL_HANDSHAKE)",
    )
    assert {plain_cause(line) for line in lines} == {f"b:9093: {seen}"}


@pytest.mark.parametrize("make", [AdminClient, Producer, lambda options: Consumer(options | {"group.id": "g"})])
def test_a_client_without_a_broker_says_so_in_one_line(make: object, capfd: pytest.CaptureFixture[str]) -> None:
    """It tries several times a second; nothing of it goes past structlog to standard error."""
    address = f"127.0.0.1:{free_port()}"
    client = make(librdkafka(Connections(kafka=address)) | {"logger": ClientLog()})  # type: ignore[operator]
    with capture_logs() as lines:
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            client.poll(0.1)
    (told,) = [line for line in lines if line.get("facility") == "FAIL"]
    assert told["cause"].startswith(f"{address}: Connect to") and told["log_level"] == "error" and told["times"] == 1
    assert "rdkafka" not in capfd.readouterr().err
