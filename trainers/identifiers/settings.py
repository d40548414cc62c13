"""Settings of the identifiers, and the codebook sizes that fit a catalogue."""

from __future__ import annotations

from typing import Final, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from schemas.errors import InvalidSetting

#: L: three levels of residual k-means, then two sub-quantisers of OPQ.
LEVELS: Final = 5
#: The first of the OPQ levels.
RESIDUAL_LEVELS: Final = 3


class IdentifierSettings(BaseModel):
    """How identifiers are made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    level_sizes: tuple[int, ...] | None = Field(
        default=None, description="codebook sizes K of the 5 levels, each 1 to 65536; none: from the number of items"
    )
    keyword_share: float = Field(
        default=0.5, ge=0, le=1, description="share of the keywords' mean in the enhanced embedding"
    )
    iterations: int = Field(default=20, ge=1, le=1000, description="rounds of each k-means")
    opq_iterations: int = Field(default=10, ge=1, le=1000, description="rounds of the OPQ rotation")
    max_training_points: int = Field(
        default=200_000, ge=100, description="items and queries the codebooks are fitted on at most, drawn by the seed"
    )
    capacity_slack: float = Field(
        default=1.1, ge=1, le=10, description="largest level-3 cluster, as a multiple of an even share of the points"
    )

    share_equal_texts: bool = Field(
        default=False,
        description="whether items with the same title share an identifier; if not, each item learns its own appeal",
    )

    @model_validator(mode="after")
    def _five_levels(self) -> Self:
        sizes = self.level_sizes
        if sizes is not None and (len(sizes) != LEVELS or not all(1 <= size <= 65_536 for size in sizes)):
            bound = f"{LEVELS} sizes from 1 to 65536"
            raise InvalidSetting("setting trainers.identifiers.level_sizes", sizes, bound, "leave it out to adapt")
        return self

    def sizes(self, items: int) -> tuple[int, ...]:
        """Level sizes for a catalogue of that many items."""
        return self.level_sizes or adapted_sizes(items)


def adapted_sizes(items: int) -> tuple[int, ...]:
    """Sizes that keep the proportions 8:2:1 of 4096/1024/512 and follow the square root of the catalogue.

    First level: the power of two nearest the square root, so that a cell of it holds about as many items as there are
    cells; a quarter and an eighth of it below (never under 16, the least that still splits a cell usefully). The OPQ
    levels take half the first, at most 256. 2,000 items: 32/16/16/16/16; 54,667: 256/64/32/128/128; 10 million:
    4096/1024/512/256/256.
    """
    first = min(max(_power_of_two(max(items, 1) ** 0.5), 4), 4096)
    floor = min(16, first)
    fine = min(max(first // 2, floor), 256)
    return first, max(first // 4, floor), max(first // 8, floor), fine, fine


def _power_of_two(value: float) -> int:
    """The power of two nearest ``value`` on the logarithmic scale: 2^k for 2^(k - 1/2) <= value < 2^(k + 1/2)."""
    power = 1
    while power * 2**0.5 <= value:
        power *= 2
    return power
