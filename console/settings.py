"""Settings of the web console."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class ConsoleSettings(BaseModel):
    """The console process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on; there is no login, so keep it inside")
    port: int = Field(8081, ge=0, le=65_535, description="TCP port to listen on; 0: any free one")
    last_steps: int = Field(200, ge=1, le=5_000, description="training steps on the page when `last` is not given")
    max_steps: int = Field(2_000, ge=1, le=5_000, description="most training steps one request may ask for")
    refresh_s: float = Field(2.0, ge=0.2, le=60, description="s between updates of the page")
