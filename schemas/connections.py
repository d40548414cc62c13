"""Where the outside is: Kafka, Redis, the database and the file store."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class Connections(BaseModel):
    """Addresses that every process needs. `headrace up` fills them with its embedded services."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kafka: str = Field("", description="Kafka bootstrap servers, host:port, comma separated")
    redis: str = Field("", description="Redis URL, redis://host:port/db or unix:///path")
    database: str = Field("", description="SQLAlchemy URL of the database, sqlite:///file or postgresql+psycopg://...")
    store: str = Field("", description="fsspec URL of the folder for snapshots, checkpoints, codebooks; a path is local")
    partitions: int = Field(2, ge=1, le=1000, description="partitions of each event topic when topics are created")
