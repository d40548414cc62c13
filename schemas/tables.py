"""SQL tables: books of reward weights and the decisions that made them, their audit, tokens, and the outbox.

Rows of books, decisions and audit are never changed.
"""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, MetaData, String, Text
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class Base(DeclarativeBase):
    """Names of constraints are fixed, so that migrations can change them on every database."""

    metadata = MetaData(
        naming_convention={
            "pk": "pk_%(table_name)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "ix": "ix_%(column_0_label)s",
        }
    )


class BookRow(Base):
    """One version of the whole of the reward weights (`schemas.weights.RewardWeights`). The newest is active."""

    __tablename__ = "books"

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    body: Mapped[str] = mapped_column(Text)  #: JSON, byte for byte what its topic carries
    author: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)
    created_ms: Mapped[int] = mapped_column(BigInteger)


class DecisionRow(Base):
    """One revision of a subject (`schemas.decisions.Decision`)."""

    __tablename__ = "decisions"

    subject: Mapped[str] = mapped_column(String(64), primary_key=True)
    revision: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    parent: Mapped[int] = mapped_column(Integer)
    state: Mapped[str] = mapped_column(String(20))
    body: Mapped[str] = mapped_column(Text)
    who: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    why: Mapped[str] = mapped_column(Text)
    at_ms: Mapped[int] = mapped_column(BigInteger)
    override: Mapped[bool] = mapped_column("override_bound", Boolean)
    approved_by: Mapped[str] = mapped_column(String(200))
    book_version: Mapped[int] = mapped_column(Integer, index=True)


class AuditRow(Base):
    """Who did what, written in the transaction that did it (`schemas.decisions.AuditEntry`)."""

    __tablename__ = "audit"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    at_ms: Mapped[int] = mapped_column(BigInteger, index=True)
    who: Mapped[str] = mapped_column(String(200))
    role: Mapped[str] = mapped_column(String(20))
    action: Mapped[str] = mapped_column(String(40))
    subject: Mapped[str] = mapped_column(String(64), index=True)
    revision: Mapped[int] = mapped_column(Integer)
    book_version: Mapped[int] = mapped_column(Integer)
    why: Mapped[str] = mapped_column(Text)
    changes: Mapped[str] = mapped_column(Text)  #: JSON list of `schemas.decisions.Change`
    override: Mapped[bool] = mapped_column("override_bound", Boolean)


class TokenRow(Base):
    """A token of the console's API: the hash of its secret, never the secret."""

    __tablename__ = "api_tokens"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    role: Mapped[str] = mapped_column(String(20))
    hash: Mapped[str] = mapped_column("secret_sha256", String(64))
    created_ms: Mapped[int] = mapped_column(BigInteger)
    revoked_ms: Mapped[int] = mapped_column(BigInteger, default=0)


class OutboxRow(Base):
    """A record to publish, written in the transaction of the decision it tells. ``sent_ms`` 0: not yet in its topic."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    topic: Mapped[str] = mapped_column(String(200))
    key: Mapped[bytes] = mapped_column("record_key", LargeBinary)
    value: Mapped[bytes] = mapped_column("record_value", LargeBinary)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    sent_ms: Mapped[int] = mapped_column(BigInteger, default=0, index=True)
