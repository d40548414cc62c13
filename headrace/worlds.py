"""The world of a run: opened from its settings, the same in every process that asks."""

from __future__ import annotations

import time

from headrace.adapters.opening import open_world
from headrace.settings import Settings
from headrace.world import World


def open_run_world(settings: Settings) -> World:
    """The world that the run's settings name; the same settings give the same world, to the bit.

    With ``now_ms`` 0, as in a deployment without a simulated clock, its times end at the present.

    Raises:
        InvalidSetting, InvalidData: as `headrace.adapters.opening.open_world`.
    """
    return open_world(settings.data, settings.shop, settings.now_ms or int(time.time() * 1000), settings.seed)
