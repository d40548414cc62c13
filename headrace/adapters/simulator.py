"""A data folder's own simulator: its ``simulate.py`` is run as code, with ``sim_config.json`` as its configuration."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from headrace.adapters.reading import found
from headrace.shop.settings import DAY_MS
from schemas.errors import InvalidData


class Simulator(NamedTuple):
    """``world`` is the folder's ``World(folder, config)``; times are its own (ms)."""

    world: Any
    start_ms: int
    drift_ms: int | None  #: when its taste changes, if its configuration says so


def load_simulator(folder: Path) -> Simulator | None:
    """The simulator, or None when the folder has no ``simulate.py``.

    Raises:
        InvalidData: the configuration or the class is not as documented.
    """
    path = folder / "simulate.py"
    if not path.is_file():
        return None
    config_path = found(folder / "sim_config.json")
    try:
        config = msgspec.json.decode(config_path.read_bytes(), type=dict[str, Any])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise InvalidData(str(config_path), None, "file", str(error), "a JSON object") from error
    start_ms = config.get("start_ms")
    if not isinstance(start_ms, int):
        raise InvalidData(str(config_path), None, "start_ms", start_ms, "event time in ms")
    drift = config.get("drift")
    day = drift.get("day") if isinstance(drift, dict) else None
    if not isinstance(day, int | float | None):
        raise InvalidData(str(config_path), None, "drift.day", day, "a number of days")
    return Simulator(_world(path, folder, config), start_ms, None if day is None else start_ms + int(day * DAY_MS))


def _world(path: Path, folder: Path, config: dict[str, Any]) -> Any:
    spec = importlib.util.spec_from_file_location("simulate", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "World"):
        raise InvalidData(str(path), None, "World", "missing", "a class World(folder, config)")
    return module.World(str(folder), config)
