"""A broker that cannot be used is told within seconds: its address, what was tried, what was seen, what to do."""

from __future__ import annotations

import time

import pytest

from headrace.services.ports import free_port
from schemas.admission import admit_kafka, probe_kafka
from schemas.connections import Connections
from schemas.errors import Refused, Unavailable
from schemas.security import KafkaSecurity
from schemas.topics import IMPRESSIONS

SSL = KafkaSecurity(protocol="ssl")
#: What an answer may take, however slow the machine is (s).
QUICK_S = 10.0


@pytest.mark.services
def test_a_plaintext_listener_that_is_asked_for_tls_is_told_at_once(kafka: str) -> None:
    """Whoever makes a first client, and whoever asks: both name address, protocol, cause and setting."""
    began = time.monotonic()
    for ask in (admit_kafka, probe_kafka):
        with pytest.raises(Refused) as caught:
            ask(Connections(kafka=kafka, kafka_security=SSL))
        assert kafka in str(caught.value)
        assert "tried over ssl" in caught.value.detail and "SSL handshake failed" in caught.value.detail
        assert "the listener speaks plaintext" in caught.value.detail
        assert "set HEADRACE_KAFKA_SECURITY__PROTOCOL to plaintext" in caught.value.remedy
    assert time.monotonic() - began < QUICK_S


@pytest.mark.services
def test_a_broker_that_lets_us_in_tells_its_topics(fresh_topics: Connections) -> None:
    """With their partitions."""
    assert probe_kafka(fresh_topics)[IMPRESSIONS.name] == fresh_topics.partitions
    admit_kafka(fresh_topics)


@pytest.mark.parametrize("security", [KafkaSecurity(), SSL], ids=lambda security: security.protocol)
def test_an_address_where_nobody_listens_is_waited_for_by_whoever_needs_it(security: KafkaSecurity) -> None:
    """Admission does not hold anybody up; who asks is told the cause when the patience is over."""
    connections = Connections(kafka=f"127.0.0.1:{free_port()}", kafka_security=security)
    began = time.monotonic()
    admit_kafka(connections)
    with pytest.raises(Unavailable, match="Connection refused") as caught:
        probe_kafka(connections, patience_s=0.5)
    assert time.monotonic() - began < QUICK_S
    assert not isinstance(caught.value, Refused)
    assert connections.kafka in str(caught.value) and f"tried over {security.protocol}" in caught.value.detail
    assert "HEADRACE_KAFKA" in caught.value.remedy
