"""The event plane over TLS with a user: a real broker with a SASL_SSL listener, SCRAM users, and one that asks for certificates."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from headrace.doctor import examine
from headrace.topics_admin import create_topics, differences
from schemas import log
from schemas.admission import probe_kafka
from schemas.connections import Connections
from schemas.errors import InvalidSetting, Refused
from schemas.events import Click, Impression, ShownItem, Tick
from schemas.security import KafkaSecurity
from schemas.topics import STEPS, VIEWS
from streams.lag import lags
from streams.replaying.files import replay_file
from tests.secure_broker import WRONG, Broker, secure_broker
from tests.streams.conftest import Worker, caught_up
from tests.streams.event_log import START
from trainers.journal import Journal, read_journal

pytestmark = pytest.mark.services

#: What a refusal may take; without the question asked first, clients try for 30 s to minutes.
QUICK_S = 20.0


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """One for all tests of this module."""
    with secure_broker(tmp_path_factory.mktemp("secure")) as broker:
        yield broker


def secured(connections: Connections, **changes: object) -> Connections:
    """The same address with other security."""
    fields = dict(connections.kafka_security) | changes
    return connections.model_copy(update={"kafka_security": KafkaSecurity.model_validate(fields)})


def test_events_are_joined_over_tls_as_a_user(secure: Broker, unique: Callable[[str], str], tmp_path: Path) -> None:
    """Topics, replay, worker, lag and reading, each with another client: librdkafka, aiokafka, kafka-python."""
    connections = secure.user
    create_topics(connections)
    assert differences(connections) == {}
    worker = Worker(connections, unique("attribution"), tmp_path / "worker.log", {})
    try:
        worker.ready()
        view = Impression(START, "r1", "u", "shoes", (ShownItem("a", 1), ShownItem("b", 2)))
        events = [view, Click(START + 1_000, "u", "a", "r1"), Tick(START + 400_000)]
        recorded = tmp_path / "log.jsonl"
        recorded.write_bytes(b"\n".join(map(msgspec.json.encode, events)))
        assert replay_file(connections, recorded)["search.clicks"] > 1
        caught_up(connections)
        (joined,) = [e.record for e in log.scan(connections, VIEWS) if not isinstance(e.record, Tick)]
        assert joined.request_id == "r1" and [item.clicks for item in joined.items] == [1, 0]
        assert {(row.agent, row.lag) for row in lags(connections)} == {("attribution", 0)}
        assert worker.stop() == 0
    finally:
        worker.kill()
    journal = Journal(connections)
    journal.close()
    (start,) = [entry.record for entry in log.scan(connections, STEPS)]
    assert start.where.startswith(f"{os.getpid()} of ")


def test_a_wrong_password_is_told_at_once_and_not_shown(
    secure: Broker, unique: Callable[[str], str], tmp_path: Path
) -> None:
    """A worker, the topics, the lag and the doctor: each names the setting, none the password."""
    (tmp_path / "password").write_text(WRONG)
    wrong = secured(secure.user, password_file=str(tmp_path / "password"))
    began = time.monotonic()
    worker = Worker(wrong, unique("attribution"), tmp_path / "worker.log", {})
    assert worker.process.wait(60) == 1
    for call in (
        lambda: create_topics(wrong),
        lambda: lags(wrong),
        lambda: Journal(wrong),
        lambda: read_journal(wrong),
    ):
        with pytest.raises(Refused, match=r"HEADRACE_KAFKA_SECURITY__USERNAME.*PASSWORD_FILE"):
            call()
    (kafka,) = [check for check in examine(wrong, tmp_path) if check.name == "kafka"]
    assert time.monotonic() - began < QUICK_S
    assert not kafka.ok and "uthentication" in kafka.detail and "PASSWORD_FILE" in kafka.remedy
    said = worker.log.read_text()
    assert "HEADRACE_KAFKA_SECURITY__USERNAME" in said
    assert WRONG not in said + repr(kafka)


def test_an_authority_that_is_not_trusted_is_told_at_once(secure: Broker) -> None:
    """The broker's certificate comes from elsewhere than the ca_file says."""
    began = time.monotonic()
    with pytest.raises(Refused, match=r"certificate.*HEADRACE_KAFKA_SECURITY__CA_FILE \(now .*stranger.pem"):
        lags(secured(secure.user, ca_file=secure.stranger.file))
    assert time.monotonic() - began < QUICK_S


def test_a_listener_with_tls_does_not_take_plaintext_nor_the_other_way_round(secure: Broker) -> None:
    """Each is refused with what the listener speaks, not told that nothing answers."""
    plain = Connections(kafka=secure.user.kafka)
    with pytest.raises(Refused, match=r"listener speaks TLS; set HEADRACE_KAFKA_SECURITY__PROTOCOL to ssl or sasl_ssl"):
        probe_kafka(plain)


def test_a_client_certificate_opens_the_listener_that_asks_for_one(secure: Broker) -> None:
    """With it, under a key that has a password; not without it, nor with a stranger's."""
    connections = secure.certificate
    probe_kafka(connections)
    create_topics(connections)
    assert differences(connections) == {}
    foreign = secure.stranger.issue("foreign")
    for changes in (
        {"certificate_file": "", "key_file": "", "key_password": ""},
        {"certificate_file": foreign.certificate, "key_file": foreign.key, "key_password": ""},
    ):
        with pytest.raises(Refused, match="CERTIFICATE_FILE"):
            probe_kafka(secured(connections, **changes))


def test_a_key_that_does_not_open_names_its_setting(secure: Broker) -> None:
    """A wrong key password, and a certificate that is none."""
    with pytest.raises(InvalidSetting, match=r"kafka_security\.certificate_file") as caught:
        probe_kafka(secured(secure.certificate, key_password=WRONG))
    assert WRONG not in str(caught.value)
    with pytest.raises(InvalidSetting, match=r"kafka_security\.ca_file"):
        probe_kafka(secured(secure.certificate, ca_file=secure.user.kafka_security.password_file))


def test_the_hostname_is_checked_unless_told_otherwise(secure: Broker) -> None:
    """The certificate names 127.0.0.1; localhost is another name."""
    port = secure.user.kafka.rpartition(":")[2]
    elsewhere = secure.user.model_copy(update={"kafka": f"localhost:{port}"})
    with pytest.raises(Refused, match="certificate"):
        probe_kafka(elsewhere)
    probe_kafka(secured(elsewhere, check_hostname=False))
