"""Settings of the log-integrity breaker. The width of a window is `streams.attribution.integrity_window_s`."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class IntegritySettings(BaseModel):
    """How sure a check has to be, and how much the world may change on its own."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    apart: bool = Field(
        default=False, description="under `headrace up` a process of its own, instead of a place in attribution's"
    )
    false_alarms: float = Field(
        default=1e-6, gt=0, le=0.05, description="chance that a check breaks in a healthy window, under its assumption"
    )
    least: int = Field(
        default=200, ge=20, le=10_000_000, description="observations a check waits for, over as many windows as that takes"
    )
    strength: float = Field(
        default=2_000, ge=20, le=1e9, description="observations that the past counts as, at most: fewer allow more change"
    )
    duplicates: float = Field(default=0.05, ge=0, le=1, description="share of repeated records that is never too much")
    quarantine: float = Field(default=0.05, ge=0, le=1, description="share of refused records that is never too much")
    unjoined: float = Field(default=0.05, ge=0, le=1, description="share of clicks that join no page and is never too much")
    delay_shift: float = Field(
        default=0.1, ge=0, le=1, description="share of delays that may move to other octaves from the past to a window"
    )
    arrival_s: float = Field(
        default=900, gt=0, le=31_536_000, description="s by which the way to the broker may grow from one window to the next"
    )
