"""The folder a policy is saved into: ``model/`` for transformers, ``extra.safetensors`` and ``policy.json`` for us."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from schemas.errors import Corrupt, Unavailable
from trainers.policies.settings import PolicySettings

if TYPE_CHECKING:
    from torch import nn

    from trainers.policies.base import Policy

ABOUT = "policy.json"
EXTRA = "extra.safetensors"


@dataclass(frozen=True)
class About:
    """What ``policy.json`` says."""

    backbone: str
    codebook_version: str
    dense_width: int  #: width of the sentence embedding
    settings: PolicySettings


def load(folder: Path) -> Policy:
    """Open a saved policy, whichever its backbone.

    Raises:
        Unavailable, Corrupt, Incompatible: as `trainers.policies.load_policy`.
    """
    from trainers.policies.backbones import backbone

    about = load_about(folder)
    return backbone(about.backbone, f"backbone of {folder}").load(folder, about)


def load_about(folder: Path) -> About:
    """Read policy.json.

    Raises:
        Unavailable: it is not there.
        Corrupt: it does not have this form.
    """
    path = folder / ABOUT
    if not path.exists():
        raise Unavailable(str(path), "no such file", "use a folder that a policy was saved into")
    try:
        data = json.loads(path.read_text())
        settings = PolicySettings.model_validate(data["settings"])
        return About(str(data["backbone"]), str(data["codebook_version"]), int(data["dense_width"]), settings)
    except (json.JSONDecodeError, KeyError, TypeError, ValidationError) as error:
        raise Corrupt(str(path), str(error), "use the checkpoint before it") from error


def save_about(folder: Path, about: About) -> None:
    """Write policy.json."""
    data = {
        "backbone": about.backbone,
        "codebook_version": about.codebook_version,
        "dense_width": about.dense_width,
        "settings": about.settings.model_dump(),
        "v": 1,
    }
    (folder / ABOUT).write_text(json.dumps(data, indent=1, sort_keys=True))


def save_weights(module: nn.Module, path: Path) -> None:
    """Write a module's parameters and buffers; the same weights give the same bytes."""
    weights = {name: tensor.detach().contiguous() for name, tensor in module.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})


def load_weights(module: nn.Module, path: Path, repeated: Sequence[str] = ()) -> None:
    """Fill a module; names in ``repeated`` say again what another name holds, and are passed over.

    Raises:
        Corrupt: the file is missing or torn, or names or shapes do not fit.
    """
    remedy = "use the checkpoint before it"
    try:
        weights = {name: tensor for name, tensor in load_file(path).items() if name not in repeated}
        report = module.load_state_dict(weights, strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise Corrupt(str(path), str(error), remedy) from error
    if report.missing_keys or report.unexpected_keys:
        raise Corrupt(str(path), f"missing {report.missing_keys}, unexpected {report.unexpected_keys}", remedy)
