"""Alembic's entry: migrate over the connection that `schemas.database` hands in."""

from __future__ import annotations

from alembic import context

from schemas.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
