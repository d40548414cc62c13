"""From the database to the topic, so that the two never disagree for good.

A book and its record wait in the outbox from one transaction on; whoever publishes next sends what a killed process left.
Two who publish at once may send in the wrong order, or the same twice; so each compares afterwards, and sends the newest
book again where the topic ends with another.
"""

from __future__ import annotations

import time
from typing import Final

import msgspec
from confluent_kafka import KafkaException, Producer
from sqlalchemy import Engine, select, update
from sqlalchemy.orm import Session

from reward.desk import records
from schemas import tails
from schemas.admission import admit_kafka
from schemas.clients import librdkafka
from schemas.connections import Connections
from schemas.errors import Incompatible, Unavailable
from schemas.offsets import bounds
from schemas.tables import BookRow, OutboxRow
from schemas.topics import WEIGHTS
from schemas.weights import RewardWeights

#: How long a publication may take (s).
PATIENCE_S: Final = 10.0
#: Times that the newest book is sent again, while others send too.
TRIES: Final = 5
_REMEDY: Final = "the change is saved and goes out with the next one"


def publish(engine: Engine, connections: Connections, patience_s: float = PATIENCE_S) -> int:
    """Send what waits, in order, and compare; returns how many records. Takes at most about ``patience_s`` for each.

    Raises:
        Unavailable: the broker does not take them, or does not let us in (`Refused`); they stay for the next call.
    """
    with Session(engine) as session:
        waiting = session.scalars(select(OutboxRow).where(OutboxRow.sent_ms == 0).order_by(OutboxRow.id)).all()
    if not waiting:
        return 0
    admit_kafka(connections)
    sent = _send(connections, [(row.id, row.topic, row.key, row.value) for row in waiting], patience_s)
    with Session(engine) as session, session.begin():
        session.execute(update(OutboxRow).where(OutboxRow.id.in_(sent)).values(sent_ms=int(time.time() * 1000)))
    if len(sent) < len(waiting):
        raise _away(connections, f"{len(waiting) - len(sent)} records were not taken within {patience_s:g} s")
    return len(sent) + compare(engine, connections, patience_s)


def compare(engine: Engine, connections: Connections, patience_s: float = PATIENCE_S) -> int:
    """Where the topic does not end with the newest book, send that again; returns how often. While something waits in the
    outbox nothing is compared: whoever sends that compares.

    Raises:
        Incompatible: the topic is ahead of the database: it was written from another one.
        Unavailable: as `publish`; or (`Refused`) we may not read the topic, so that what it ends with is not known.
    """
    admit_kafka(connections)
    for times in range(TRIES):
        told = _last(connections, patience_s)
        with Session(engine) as session:
            waits = session.scalars(select(OutboxRow.id).where(OutboxRow.sent_ms == 0).limit(1)).first() is not None
            body = session.scalars(select(BookRow.body).order_by(BookRow.version.desc()).limit(1)).first()
        ours = body.encode() if body else b""
        if waits or told == ours or not (told or ours):
            return times
        ahead = _version(told)
        if ahead > (here := _version(ours)):
            remedy = "restore the newer database, or empty the topic"
            raise Incompatible(f"topic {WEIGHTS.name} and database", f"version {here} at most", f"version {ahead}", remedy)
        if not _send(connections, [(0, WEIGHTS.name, records.KEY, ours)], patience_s):
            raise _away(connections, f"the newest version was not taken within {patience_s:g} s")
    return TRIES  # so many were quicker meanwhile; each of them compares too


def _send(connections: Connections, rows: list[tuple[int, str, bytes, bytes]], patience_s: float) -> list[int]:
    """The ids that the broker has acknowledged."""
    # One request at a time keeps the order, and the same record twice does no harm; an idempotent producer waits half a second
    # for its id.
    producer = Producer({
        **librdkafka(connections), "acks": "all", "max.in.flight.requests.per.connection": 1, "linger.ms": 0,
        "message.timeout.ms": int(patience_s * 1000),
    })  # fmt: skip
    sent: list[int] = []
    try:
        for number, topic, key, value in rows:
            producer.produce(
                topic, key=key, value=value, partition=0,
                on_delivery=lambda error, _, number=number: None if error else sent.append(number),
            )  # fmt: skip
        producer.flush(patience_s + 5)
    except KafkaException as error:
        raise _away(connections, str(error)) from error
    return sent


def _last(connections: Connections, patience_s: float) -> bytes:
    """The last record of the topic; empty: there is none."""
    low, high = bounds(connections, [(WEIGHTS.name, 0)], patience_s)[WEIGHTS.name, 0]
    found = b""
    # The last offset may be a marker, or compacted away; then the whole topic is looked through.
    for start in (max(low, high - 1), low):
        for message in tails.read(connections, WEIGHTS, {0: start}, patience_s=patience_s):
            found = message.value() or b""
        if found:
            return found
    return b""


def _version(raw: bytes) -> int:
    return msgspec.json.decode(raw, type=RewardWeights).version if raw else 0


def _away(connections: Connections, detail: str) -> Unavailable:
    return Unavailable(f"Kafka at {connections.kafka}", detail, _REMEDY)
