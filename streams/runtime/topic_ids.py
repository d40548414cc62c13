"""Which topic a name stands for: the broker's id of it, another one once the topic was deleted and made anew.

Offsets do not tell: a new topic that has grown past the committed ones holds them all, of other records.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from confluent_kafka import TopicCollection
from confluent_kafka.admin import AdminClient

from schemas.asking import ask
from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Corrupt

#: What brokers say that have no ids.
NONE: Final = "A" * 22


def topic_ids(connections: Connections, names: Sequence[str], patience_s: float) -> dict[str, str]:
    """Topic -> id; none from a broker that has no ids. For one thread of a process at a time: see `schemas.offsets`.

    Raises:
        Unavailable: no answer within ``patience_s``, or there is no such topic.
    """

    def question(seconds: float) -> dict[str, str]:
        admin = AdminClient(librdkafka(connections))
        asked = admin.describe_topics(TopicCollection(list(names)), request_timeout=seconds)
        return {name: str(answer.result().topic_id) for name, answer in asked.items()}

    return {name: found for name, found in ask(connections, patience_s, question).items() if found != NONE}


def check_same(then: Mapping[str, str], now: Mapping[str, str]) -> None:
    """That the names stand for the topics that they stood for ``then``; what is not told on one side is passed over.

    Raises:
        Corrupt: a topic was made anew.
    """
    for name in then.keys() & now.keys():
        if then[name] != now[name]:
            raise Corrupt(
                name,
                f"its id is {now[name]}, and was {then[name]}: it was deleted and made anew, so committed offsets say nothing",
                "how to go on without the old one: docs/operations.md, what to do when",
            )
