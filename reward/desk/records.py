"""Rows of the desk as the words of `schemas.decisions`, inside a transaction of the caller."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

import msgspec
from sqlalchemy import select
from sqlalchemy.orm import Session

from reward.desk.words import readable
from schemas.campaigns import Campaign
from schemas.codec import MAX_RECORD_BYTES, encode
from schemas.decisions import Actor, AuditEntry, Change, Decision, Role, State
from schemas.errors import InvalidRequest, NotFound
from schemas.tables import AuditRow, BookRow, DecisionRow, OutboxRow
from schemas.topics import WEIGHTS
from schemas.weights import RewardWeights

#: Key of the one book in the compacted topic.
KEY: Final = b"global"

_BOOK = msgspec.json.Decoder(RewardWeights)
_BODY = msgspec.json.Decoder(Campaign)
_CHANGES = msgspec.json.Decoder(tuple[Change, ...])


def newest_book(session: Session) -> RewardWeights:
    """The active book; version 1 are the defaults, it exists without a row."""
    body = session.scalars(select(BookRow.body).order_by(BookRow.version.desc()).limit(1)).first()
    return _BOOK.decode(body) if body else RewardWeights()


def all_books(session: Session) -> list[RewardWeights]:
    """Every version, the oldest first."""
    return [RewardWeights(), *map(_BOOK.decode, session.scalars(select(BookRow.body).order_by(BookRow.version)))]


def book(session: Session, version: int) -> RewardWeights:
    """One version.

    Raises:
        NotFound: there is none.
    """
    body = session.scalars(select(BookRow.body).where(BookRow.version == version)).first()
    if body is None and version != 1:
        raise NotFound("version", version, "a version of the history", "look it up with `headrace weights show`")
    return _BOOK.decode(body) if body else RewardWeights()


def add_book(session: Session, made: RewardWeights) -> None:
    """The version and its record for the topic.

    Raises:
        InvalidRequest: larger than a record may be.
    """
    raw = record_of(made)
    session.add(BookRow(
        version=made.version, body=raw.decode(), author=made.author, reason=made.reason, created_ms=made.created_ms
    ))  # fmt: skip
    session.flush()  # of two at once the second fails here, before it has a place in the outbox
    session.add(OutboxRow(topic=WEIGHTS.name, key=KEY, value=raw, created_ms=made.created_ms, sent_ms=0))


def record_of(made: RewardWeights) -> bytes:
    """A version as the topic carries it.

    Raises:
        InvalidRequest: larger than a record may be.
    """
    raw = encode(made)
    if len(raw) > MAX_RECORD_BYTES:
        bound, remedy = f"at most {MAX_RECORD_BYTES} bytes", "end campaigns, or name fewer queries"
        raise InvalidRequest("the size of all campaigns", len(raw), bound, remedy)
    return raw


def decisions(session: Session, subject: str | None = None) -> list[Decision]:
    """Rows of a subject, or of all; each subject's oldest first.

    Raises:
        InvalidRequest: a subject that no text can be; a database would not say so.
    """
    asked = select(DecisionRow).order_by(DecisionRow.subject, DecisionRow.revision)
    if subject is not None:
        readable("id", subject)
        asked = asked.where(DecisionRow.subject == subject)
    return list(map(_decision, session.scalars(asked)))


def decisions_of(session: Session, book_version: int) -> list[Decision]:
    """Rows that made a version of the book."""
    return list(map(_decision, session.scalars(select(DecisionRow).where(DecisionRow.book_version == book_version))))


def add_decision(session: Session, made: Decision) -> None:
    """One row more."""
    fields = msgspec.structs.asdict(made) | {"body": encode_body(made.body)}
    session.add(DecisionRow(**fields))
    session.flush()


def add_audit(session: Session, action: str, made: Decision, changes: Iterable[Change]) -> None:
    """The line of the audit for a decision."""
    session.add(AuditRow(
        at_ms=made.at_ms, who=made.who, role=made.role, action=action, subject=made.subject, revision=made.revision,
        book_version=made.book_version, why=made.why, changes=_told(changes),
        override=made.override,
    ))  # fmt: skip


def add_line(
    session: Session, actor: Actor, action: str, subject: str, why: str, at_ms: int, changes: Iterable[Change] = (), *,
    book_version: int = 0, override: bool = False,
) -> None:  # fmt: skip
    """The line of the audit for what is no revision of a decision."""
    session.add(AuditRow(
        at_ms=at_ms, who=actor.name, role=actor.role, action=action, subject=subject, revision=0, why=why,
        book_version=book_version, changes=_told(changes), override=override,
    ))  # fmt: skip


def audit(
    session: Session,
    subjects: Collection[str] = (),
    who: str | None = None,
    action: str | None = None,
    since_ms: int = 0,
    limit: int = 100,
    book_version: int | None = None,
) -> list[AuditEntry]:
    """Lines of the audit, the newest first; ``subjects``: only of these.

    Raises:
        InvalidRequest: a name that no text can be.
    """
    for what, names in (("id", subjects), ("person", [who or ""]), ("action", [action or ""])):
        for name in names:
            readable(what, name)
    asked = select(AuditRow).where(AuditRow.at_ms >= since_ms).order_by(AuditRow.id.desc()).limit(limit)
    if subjects:
        asked = asked.where(AuditRow.subject.in_(subjects))
    for column, value in ((AuditRow.who, who), (AuditRow.action, action), (AuditRow.book_version, book_version)):
        if value is not None:
            asked = asked.where(column == value)
    return [
        AuditEntry(
            row.id, row.at_ms, row.who, Role(row.role), row.action, row.subject, row.revision, row.book_version, row.why,
            _CHANGES.decode(row.changes), row.override,
        )
        for row in session.scalars(asked)
    ]  # fmt: skip


def encode_body(body: Campaign) -> str:
    """A body as its column has it."""
    return msgspec.json.encode(body).decode()


def _told(changes: Iterable[Change]) -> str:
    return msgspec.json.encode(tuple(changes)).decode()


def _decision(row: DecisionRow) -> Decision:
    return Decision(
        row.subject, row.revision, row.parent, State(row.state), _BODY.decode(row.body), row.who, Role(row.role), row.why,
        row.at_ms, row.override, row.approved_by, row.book_version,
    )  # fmt: skip
