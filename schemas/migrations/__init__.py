"""Alembic migrations; `schemas.database.open_database` runs them."""
