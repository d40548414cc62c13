"""An arm's result as one JSON file, written whole when the arm is done: what makes an ablation resumable."""

from __future__ import annotations

import hashlib
import re
import uuid
from functools import cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

import headrace
from headrace.ablation.arms import Arm
from headrace.ablation.lab import Facts
from headrace.ablation.settings import LoopSettings
from schemas.errors import Corrupt

#: Packages whose code shapes a result.
ROOMS = ("schemas", "reward", "streams", "trainers", "serving", "headrace")

#: A value is None where nobody knows it (an NDCG without labels).
Column = list[float | None]


class ArmResult(msgspec.Struct, frozen=True):
    """One arm of one seed. ``stream`` has a value per request of ``facts``, ``probes`` one per entry of ``probe_query``."""

    key: str  #: `headrace.ablation.settings.arm_key`
    data: str
    seed: int
    arm: Arm
    loop: LoopSettings  #: as the arm was played
    code: str  #: digest of the sources that played it
    facts: Facts
    stream: dict[str, Column]
    probe_query: list[str]
    probes: dict[str, Column]
    valid_sid_rate: float | None
    curves: dict[str, Column]
    publications: list[dict[str, float | bool]]
    refused: dict[str, int]  #: records that the event plane refused, by core and reason
    cpu_s: float  #: of the arm alone, on the machine that played it
    run: int = 0  #: further ones have other draws of the learner

    def columns(self, part: str) -> dict[str, NDArray[np.float64]]:
        """Arrays of ``stream`` or ``probes``; NaN where nobody knows."""
        found: dict[str, Column] = getattr(self, part)
        return {name: np.array(column, dtype=np.float64) for name, column in found.items()}


def path_of(root: Path, seed: int, arm: Arm, key: str) -> Path:
    """Where an arm's result lies below ``root``."""
    return root / "arms" / f"{seed}-{re.sub('[^a-z0-9.=_-]+', '_', arm.name)}-{key}.json"


def save(result: ArmResult, path: Path) -> None:
    """Write the file whole, or not at all."""
    write_whole(path, msgspec.json.encode(result, enc_hook=_plain))


def write_whole(path: Path, data: bytes) -> None:
    """Write a file whole, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    scratch.write_bytes(data)
    scratch.replace(path)


def load(path: Path) -> ArmResult | None:
    """What `save` wrote; None where there is nothing.

    Raises:
        Corrupt: the file does not have this form.
    """
    if not path.is_file():
        return None
    try:
        return msgspec.json.decode(path.read_bytes(), type=ArmResult, dec_hook=_model)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Corrupt(str(path), str(error), "delete it: the arm is then played again") from error


@cache
def code() -> str:
    """Digest of this installation's sources: tells results of different code apart. No key: a comment would cost hours."""
    found, top = hashlib.sha256(), Path(headrace.__file__).parents[1]
    for room in ROOMS:
        for file in sorted((top / room).rglob("*.py")):
            found.update(f"{file.relative_to(top)}\n".encode() + file.read_bytes())
    return found.hexdigest()[:12]


def _plain(value: BaseModel) -> Any:
    """msgspec asks for what it does not know: here that is settings alone."""
    return value.model_dump(mode="json")


def _model(kind: type[BaseModel], value: Any) -> BaseModel:
    return kind.model_validate(value)
