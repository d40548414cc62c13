"""A question to the brokers is asked again until its time is over."""

from __future__ import annotations

import time

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer

from schemas.asking import ask
from schemas.connections import Connections
from schemas.errors import Unavailable
from schemas.offsets import bounds

NOWHERE = Connections(kafka="127.0.0.1:1")


def test_it_is_asked_again_and_never_for_longer_than_is_left() -> None:
    """Two refusals at once, then the answer: three tries, none of them told to take more than its share or what is left of 3 s."""
    allowed: list[float] = []

    def question(seconds: float) -> str:
        allowed.append(seconds)
        if len(allowed) < 3:
            raise KafkaException(KafkaError(KafkaError.COORDINATOR_LOAD_IN_PROGRESS))
        return "yes"

    assert ask(NOWHERE, 3.0, question) == "yes"
    assert allowed[0] == 2.0 and 2.0 < allowed[1] < 3.0 and allowed[2] < allowed[1]


def test_refused_until_the_end_it_says_by_whom_and_why() -> None:
    """As often as there is time for, not once more."""
    asked = []

    def question(seconds: float) -> None:
        asked.append(seconds)
        raise KafkaException(KafkaError(KafkaError.NOT_COORDINATOR))

    began = time.monotonic()
    with pytest.raises(Unavailable, match=r"127\.0\.0\.1:1 is not available: .*NOT_COORDINATOR"):
        ask(NOWHERE, 0.7, question)
    assert 0.4 < time.monotonic() - began < 0.7 and len(asked) in (3, 4)


@pytest.mark.services
def test_a_place_that_is_not_there_is_not_available(fresh_topics: Connections) -> None:
    """Whereas an empty one begins and ends at 0, and one with a record ends at 1; of no place there is nothing to ask."""
    producer = Producer({"bootstrap.servers": fresh_topics.kafka})
    producer.produce("search.clicks", b"{}", partition=1)
    assert producer.flush(30) == 0
    places = [("search.clicks", 0), ("search.clicks", 1)]
    assert bounds(fresh_topics, places, 10) == {places[0]: (0, 0), places[1]: (0, 1)}
    assert bounds(fresh_topics, [], 0) == {}
    with pytest.raises(Unavailable, match="is not available"):
        bounds(fresh_topics, [("search.clicks", 99)], 0.5)
