"""Settings of the keyword agent, its writer and its store."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

#: Faust's app id, and so the consumer group.
GROUP: Final = "headrace-keywords"


class WriterSettings(BaseModel):
    """How the catalogue's own writer finds and calibrates keywords."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    support_items: int = Field(default=50, ge=1, le=10_000, description="items that a query's keywords are held against")
    keep_share: float = Field(
        default=0.05, ge=0, le=1, description="least weighted share of those items that holds a word of the query's own"
    )
    add_share: float = Field(default=0.3, ge=0, le=1, description="least weighted share that holds a keyword to be added")
    add_lift: float = Field(
        default=2.0, ge=1, le=1e6, description="how many times more frequent than in the catalogue an added one must be"
    )
    most: int = Field(default=8, ge=1, le=100, description="keywords of a query at most")


class KeywordSettings(BaseModel):
    """The agent and its store."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    writer: WriterSettings = Field(default=WriterSettings(), description="the catalogue's own writer")
    concurrency: int = Field(default=8, ge=1, le=1_000, description="queries worked on at once")
    write_timeout_s: float = Field(default=30.0, gt=0, le=3_600, description="s a writer may take for one query")
    refresh_after_s: float = Field(
        default=86_400.0, gt=0, le=31_536_000, description="s after which a chain is old (wall time)"
    )
    expire_after_s: int = Field(
        default=604_800, ge=60, le=31_536_000, description="s after which Redis forgets a chain that nobody refreshed"
    )
    remembered: int = Field(
        default=100_000, ge=1, le=10_000_000, description="fresh queries that a worker remembers without asking Redis"
    )
    retry_s: float = Field(default=1.0, gt=0, le=300, description="s between two attempts while Redis is away")
    session_timeout_s: float = Field(
        default=6.0, ge=1, le=300, description="s of silence after which the group drops a worker"
    )
