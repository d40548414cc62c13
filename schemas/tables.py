"""SQL tables: reward weights as immutable versions, and the outbox that carries each into its topic."""

from __future__ import annotations

from sqlalchemy import BigInteger, Float, Integer, LargeBinary, MetaData, String, Text
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


class WeightsRow(Base):
    """A version of the reward weights. The newest is active. Rows are never changed: a rollback is a new version."""

    __tablename__ = "reward_weights"

    version: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    relevance: Mapped[float] = mapped_column(Float)
    ctr: Mapped[float] = mapped_column(Float)
    click: Mapped[float] = mapped_column(Float)
    order: Mapped[float] = mapped_column("order_weight", Float)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    author: Mapped[str] = mapped_column(String(200))
    reason: Mapped[str] = mapped_column(Text)


class OutboxRow(Base):
    """A record to publish, written in the transaction of the decision it tells. ``sent_ms`` 0: not yet in its topic."""

    __tablename__ = "outbox"

    id: Mapped[int] = mapped_column(Integer, primary_key=True)
    topic: Mapped[str] = mapped_column(String(200))
    key: Mapped[bytes] = mapped_column("record_key", LargeBinary)
    value: Mapped[bytes] = mapped_column("record_value", LargeBinary)
    created_ms: Mapped[int] = mapped_column(BigInteger)
    sent_ms: Mapped[int] = mapped_column(BigInteger, default=0, index=True)
