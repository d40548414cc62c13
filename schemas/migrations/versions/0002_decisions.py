"""Books in place of rows of four weights; decisions, audit and tokens."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

OLD = sa.table(
    "reward_weights",
    *(
        sa.column(name)
        for name in ("version", "relevance", "ctr", "click", "order_weight", "created_ms", "author", "reason")
    ),
)
BOOKS = sa.table("books", *(sa.column(name) for name in ("version", "body", "author", "reason", "created_ms")))


def upgrade() -> None:
    """Make the tables, and a book of each old row: it means what it meant."""
    op.create_table(
        "books",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_books"),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(OLD).order_by(OLD.c.version)).mappings().all()
    if rows:
        connection.execute(sa.insert(BOOKS), [_book(dict(row)) for row in rows])
    op.drop_table("reward_weights")
    op.create_table(
        "decisions",
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("parent", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(20), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("override_bound", sa.Boolean(), nullable=False),
        sa.Column("approved_by", sa.String(200), nullable=False),
        sa.Column("book_version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("subject", "revision", name="pk_decisions"),
    )
    op.create_index("ix_decisions_book_version", "decisions", ["book_version"])
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("who", sa.String(200), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("action", sa.String(40), nullable=False),
        sa.Column("subject", sa.String(64), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("book_version", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("changes", sa.Text(), nullable=False),
        sa.Column("override_bound", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit"),
    )
    op.create_index("ix_audit_at_ms", "audit", ["at_ms"])
    op.create_index("ix_audit_subject", "audit", ["subject"])
    op.create_table(
        "api_tokens",
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("role", sa.String(20), nullable=False),
        sa.Column("secret_sha256", sa.String(64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_api_tokens"),
    )


def downgrade() -> None:
    """Drop the tables; the four weights of each book are kept, its campaigns are not."""
    op.drop_table("api_tokens")
    op.drop_table("audit")
    op.drop_table("decisions")
    op.create_table(
        "reward_weights",
        sa.Column("version", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("relevance", sa.Float(), nullable=False),
        sa.Column("ctr", sa.Float(), nullable=False),
        sa.Column("click", sa.Float(), nullable=False),
        sa.Column("order_weight", sa.Float(), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("author", sa.String(200), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_reward_weights"),
    )
    connection = op.get_bind()
    rows = connection.execute(sa.select(BOOKS).order_by(BOOKS.c.version)).mappings().all()
    if rows:
        connection.execute(sa.insert(OLD), [_row(json.loads(row["body"])) for row in rows])
    op.drop_table("books")


def _book(row: dict[str, object]) -> dict[str, object]:
    kept = {name: row[name] for name in ("version", "author", "reason", "created_ms")}
    weights = {name: row[name] for name in ("relevance", "ctr", "click")} | {"order": row["order_weight"]}
    return kept | {"body": json.dumps({"type": "weights"} | kept | weights)}


def _row(book: dict[str, object]) -> dict[str, object]:
    names = ("version", "relevance", "ctr", "click", "created_ms", "author", "reason")
    return {name: book[name] for name in names} | {"order_weight": book["order"]}
