"""Reward weights as decisions: immutable versions in SQL, and an outbox that carries each into its topic.

The version and its outbox row are written in one transaction, so database and topic never disagree for good: whoever
publishes next sends what a killed process left behind. Sending twice is harmless, a version says which one it is.
"""

from __future__ import annotations

import math
import time
from typing import Final

import msgspec
from confluent_kafka import KafkaException, Producer
from sqlalchemy import Engine, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from schemas.admission import admit_kafka
from schemas.clients import librdkafka
from schemas.codec import encode
from schemas.connections import Connections
from schemas.errors import Conflict, InvalidRequest, Unavailable
from schemas.tables import OutboxRow, WeightsRow
from schemas.topics import WEIGHTS
from schemas.weights import RewardWeights

#: Names that can be changed, and their bound (`schemas.weights.Weight`).
NAMES: Final = ("relevance", "ctr", "click", "order")
LOWEST, HIGHEST = 0.0, 100.0
#: Key of the one set of weights in the compacted topic.
KEY: Final = b"global"
#: How long a publication may take (s).
PATIENCE_S: Final = 10.0


class WeightStore:
    """Versions of the weights. Version 1 are the defaults; it exists without a row."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def active(self) -> RewardWeights:
        """The newest version."""
        with Session(self._engine) as session:
            return _newest(session)

    def history(self) -> list[RewardWeights]:
        """Every version, the oldest first."""
        with Session(self._engine) as session:
            rows = session.scalars(select(WeightsRow).order_by(WeightsRow.version)).all()
            return [RewardWeights(), *map(_weights, rows)]

    def set(self, changes: dict[str, float], author: str, reason: str, expected_version: int | None = None) -> RewardWeights:
        """A new version: the active one with ``changes``, and its outbox row, in one transaction.

        Raises:
            InvalidRequest: an unknown name, a value that is not finite or outside 0 to 100, or nothing to change.
            Conflict: the active version is not ``expected_version``, or another editor was quicker.
        """
        if not changes:
            raise InvalidRequest("changes", changes, f"at least one of {', '.join(NAMES)}", "name a weight and its value")
        for name, value in changes.items():
            _check(name, value)
        return self._add(changes, author, reason, expected_version)

    def rollback(self, version: int, author: str, reason: str, expected_version: int | None = None) -> RewardWeights:
        """A new version with the weights of an earlier one.

        Raises:
            InvalidRequest: there is no such version.
            Conflict: as `set`.
        """
        found = {w.version: w for w in self.history()}.get(version)
        if found is None:
            raise InvalidRequest("version", version, "a version of the history", "look it up with `headrace weights show`")
        return self._add({name: getattr(found, name) for name in NAMES}, author, reason, expected_version)

    def _add(self, changes: dict[str, float], author: str, reason: str, expected_version: int | None) -> RewardWeights:
        try:
            with Session(self._engine) as session, session.begin():
                active = _newest(session)
                if expected_version is not None and active.version != expected_version:
                    raise _conflict(active)
                now_ms = int(time.time() * 1000)
                weights = msgspec.structs.replace(
                    active, **changes, version=active.version + 1, created_ms=now_ms, author=author, reason=reason
                )
                session.add(_row(weights))
                session.add(OutboxRow(topic=WEIGHTS.name, key=KEY, value=encode(weights), created_ms=now_ms, sent_ms=0))
                return weights
        except IntegrityError as error:  # both read the same newest version; the primary key lets one through
            raise _conflict(self.active()) from error


def publish_outbox(engine: Engine, connections: Connections, patience_s: float = PATIENCE_S) -> int:
    """Send what waits in the outbox, in order; returns how many records. Takes at most about ``patience_s``.

    Raises:
        Unavailable: the broker does not take them, or does not let us in (`Refused`); they stay in the outbox for the next call.
    """
    with Session(engine) as session:
        waiting = session.scalars(select(OutboxRow).where(OutboxRow.sent_ms == 0).order_by(OutboxRow.id)).all()
    if not waiting:
        return 0
    admit_kafka(connections)
    producer = Producer({
        **librdkafka(connections), "enable.idempotence": True, "message.timeout.ms": int(patience_s * 1000),
    })  # fmt: skip
    sent: list[int] = []
    try:
        for row in waiting:
            producer.produce(
                row.topic, key=row.key, value=row.value, partition=0,
                on_delivery=lambda error, _, id=row.id: None if error else sent.append(id),
            )  # fmt: skip
        producer.flush(patience_s + 5)
    except KafkaException as error:
        raise Unavailable(
            f"Kafka at {connections.kafka}", str(error), "the change is saved and goes out with the next one"
        ) from error
    with Session(engine) as session, session.begin():
        session.execute(update(OutboxRow).where(OutboxRow.id.in_(sent)).values(sent_ms=int(time.time() * 1000)))
    if len(sent) < len(waiting):
        detail = f"{len(waiting) - len(sent)} records were not taken within {patience_s:g} s"
        raise Unavailable(f"Kafka at {connections.kafka}", detail, "the change is saved and goes out with the next one")
    return len(sent)


def _check(name: str, value: float) -> None:
    if name not in NAMES:
        raise InvalidRequest("weight", name, f"one of {', '.join(NAMES)}", "use one of these names")
    if not math.isfinite(value) or not LOWEST <= value <= HIGHEST:
        raise InvalidRequest(f"weight {name}", value, f"a number from {LOWEST:g} to {HIGHEST:g}", "choose one in between")


def _newest(session: Session) -> RewardWeights:
    row = session.scalars(select(WeightsRow).order_by(WeightsRow.version.desc()).limit(1)).first()
    return _weights(row) if row else RewardWeights()


def _weights(row: WeightsRow) -> RewardWeights:
    return RewardWeights(row.version, row.relevance, row.ctr, row.click, row.order, row.created_ms, row.author, row.reason)


def _row(weights: RewardWeights) -> WeightsRow:
    names = ("version", *NAMES, "created_ms", "author", "reason")
    return WeightsRow(**{name: getattr(weights, name) for name in names})


def _conflict(active: RewardWeights) -> Conflict:
    return Conflict("the active weights", f"version {active.version} by {active.author}", "look at it, then set again")
