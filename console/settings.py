"""Settings of the web console."""

from __future__ import annotations

from typing import Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import InvalidSetting

#: Hosts that only this machine reaches.
LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class ConsoleSettings(BaseModel):
    """The console process."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8081, ge=0, le=65_535, description="TCP port to listen on; 0: any free one")
    access: Literal["tokens", "open"] = Field(
        "tokens", description="who may what: by API token, or everybody everything, by the name they give"
    )
    last_steps: int = Field(200, ge=1, le=5_000, description="training steps on the page when `last` is not given")
    max_steps: int = Field(2_000, ge=1, le=5_000, description="most training steps one request may ask for")
    refresh_s: float = Field(2.0, ge=0.2, le=60, description="s between updates of the page")
    publish_every_s: float = Field(5.0, ge=0.1, le=600, description="s between two looks for decisions left unpublished")

    @model_validator(mode="after")
    def _open_is_for_this_machine(self) -> Self:
        if self.access == "open" and self.host not in LOOPBACK:
            bound, remedy = f"one of {', '.join(LOOPBACK)} when console.access is open", "set console.access to tokens"
            raise InvalidSetting("setting console.host", self.host, bound, remedy)
        return self
