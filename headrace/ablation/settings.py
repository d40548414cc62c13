"""Settings of an ablation: how long the stream is, how fast the learner steps, and the run that all arms share."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from pathlib import Path
from typing import Any, Final

import msgspec
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from headrace.ablation.arms import Arm
from headrace.demo.profile import HOUR_S, WARM_STEPS_PER_S, YOUNG, over
from headrace.settings import Settings, load_settings
from headrace.shop.settings import DAY_MS
from schemas.errors import InvalidSetting
from schemas.store import sha256

#: Raised when the harness changes what it measures: results of another number are made anew.
FORM: Final = 1
#: Event time at which every ablation ends (ms): the same run on any day.
NOW_MS: Final = 20_000 * DAY_MS
#: Of a demo of five minutes: seconds of its warm start.
WARM_S: Final = 28.7
#: What `--quick` makes small.
QUICK: Final = {
    "shop": {"items": 400, "queries": 80, "history_impressions": 500},
    "reward": {"relevance": {"epochs": 15}},
    "trainers": {"warm_start": {"steps": 60}, "learner": {"held_out_share": 0.3}},
}
#: Sections and fields of the settings that shape what is prepared; an arm cannot change them.
PREPARED: Final = ("data", "seed", "now_ms", "shop", "reward.relevance", "trainers.identifiers", "trainers.policy",
                   "trainers.warm_start")  # fmt: skip
#: Sections that shape an arm besides.
PLAYED: Final = ("reward.posterior", "reward.serving", "streams.attribution", "serving.engine", "delivery.page",
                 "trainers.learner", "trainers.gate")  # fmt: skip


class LoopSettings(BaseModel):
    """The closed loop. The same for all arms, but for what an arm changes on purpose."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    requests: int = Field(4_000, ge=1, le=10_000_000, description="live searches, at most; beyond, users are drawn")
    step_every: int = Field(4, ge=1, le=10_000, description="searches for each step of the learner")
    publish_every: int = Field(40, ge=1, le=100_000, description="steps between two publications of the policy")
    gated: bool = Field(True, description="a publication is served only if the gate lets it through, as in the product")
    block: int = Field(32, ge=1, le=1024, description="searches between two looks at what has become of earlier ones")
    withheld_share: float = Field(
        0.1, ge=0, lt=1, description="share of queries kept out of log, judgments and stream: unseen to every arm"
    )
    probes: int = Field(400, ge=1, le=1_000_000, description="searches for withheld queries, asked when the stream is over")


class Setup(msgspec.Struct, frozen=True):
    """One arm's effective settings."""

    settings: Settings
    loop: LoopSettings


def base_settings(data: str, seed: int, loop: LoopSettings, items: int | None = None, quick: bool = False) -> Settings:
    """The run that all arms of one seed share: the demo's shop (or the folder), at a fixed time, warm-started by steps.

    File and environment go over it, as everywhere. ``quick``: a shop and a warm start of seconds.

    Raises:
        InvalidSetting: ``items`` for a folder, which has its own.
    """
    if items is not None and data != "shop":
        raise InvalidSetting("--items", items, "left out with --data PATH", "the folder's catalogue is used whole")
    changes: dict[str, Any] = {
        "now_ms": NOW_MS,
        "shop": YOUNG | {"live_requests": ceil(loop.requests / (1 - loop.withheld_share))},
        "reward": {"posterior": {"snapshot_every_s": 3 * HOUR_S, "bucket_s": 6 * HOUR_S}},
        "trainers": {
            "warm_start": {"steps": round(WARM_S * WARM_STEPS_PER_S), "seconds": 0},
            "learner": {"held_out_share": 0.1},
        },
    }
    if quick:
        changes = over(changes, QUICK)
    seeds = {"shop": {"seed": seed}, "serving": {"engine": {"seed": seed}}, "trainers": {"learner": {"seed": seed}}}
    typed: dict[str, Any] = {"data": data, "seed": seed, **({"shop": {"items": items}} if items else {})}
    given = load_settings().model_dump(exclude_unset=True)
    return load_settings(**over(over(over(changes, given), seeds), typed))


def setup_of(base: Settings, loop: LoopSettings, arm: Arm) -> Setup:
    """The settings of an arm: what it sets over ``base`` and ``loop``.

    Raises:
        InvalidSetting: a field that is not there, or a value beyond its bound.
    """
    changes = arm.sections()
    try:
        own = LoopSettings.model_validate(loop.model_dump() | changes.pop("loop", {}))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("loop", *map(str, first["loc"])))
        raise InvalidSetting(where, first["input"], first["msg"], "correct the arm") from error
    return Setup(load_settings(**over(base.model_dump(exclude_unset=True), changes)), own)


def prepared_key(settings: Settings, loop: LoopSettings) -> str:
    """Names what all arms of a seed share: world, identifiers, scorer and warm start."""
    return _digest({"form": FORM, "withheld": loop.withheld_share, **_sections(settings, PREPARED)})


def arm_key(setup: Setup, arm: Arm) -> str:
    """Names an arm's result: everything that shapes it. Equal keys, equal results, to the bit."""
    shape = {"answers": arm.answers, "tiers": arm.tiers, "trained": arm.trained, "loop": setup.loop.model_dump(mode="json")}
    return _digest({"form": FORM, **shape, **_sections(setup.settings, (*PREPARED, *PLAYED))})


def _sections(settings: Settings, names: tuple[str, ...]) -> dict[str, Any]:
    dumped = settings.model_dump(mode="json")
    if settings.data != "shop":  # a folder is known by its files, wherever it lies
        root = Path(settings.data)
        dumped["data"] = [(str(f.relative_to(root)), f.stat().st_size) for f in sorted(root.rglob("*")) if f.is_file()]
    made: dict[str, Any] = {}
    for name in names:
        value: Any = dumped
        for step in name.split("."):
            value = value[step]
        made[name] = value
    return made


def _digest(shape: Mapping[str, Any]) -> str:
    return sha256(msgspec.json.encode(shape, order="sorted"))[:16]
