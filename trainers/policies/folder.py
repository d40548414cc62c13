"""The folder a policy is saved into: ``model/`` for transformers, ``extra.safetensors`` and ``policy.json`` for us."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors.torch import save_file

from schemas.errors import Corrupt, Incompatible, Unavailable
from trainers.policies.settings import PolicySettings

if TYPE_CHECKING:
    from torch import Tensor, nn

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
    about = load_about(folder)
    if about.backbone != "bart":
        raise Incompatible(f"backbone of {folder}", "bart", about.backbone, "use a version of Headrace that knows it")
    from trainers.policies.bart import BartPolicy

    return BartPolicy.load(folder, about)


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


def save_about(folder: Path, about: About, extra: dict[str, Tensor]) -> None:
    """Write policy.json and extra.safetensors."""
    save_file({name: tensor.detach().contiguous() for name, tensor in extra.items()}, folder / EXTRA)
    data = {
        "backbone": about.backbone,
        "codebook_version": about.codebook_version,
        "dense_width": about.dense_width,
        "settings": about.settings.model_dump(),
        "v": 1,
    }
    (folder / ABOUT).write_text(json.dumps(data, indent=1, sort_keys=True))


def load_weights(module: nn.Module, weights: dict[str, Tensor], path: str, tied: str = "") -> None:
    """Fill a module; parameters tied to ``tied`` may be missing from the file.

    Raises:
        Corrupt: names or shapes do not fit.
    """
    try:
        report = module.load_state_dict(weights, strict=False)
    except RuntimeError as error:
        raise Corrupt(path, str(error), "use the checkpoint before it") from error
    own = module.state_dict()
    shared = own[tied].data_ptr() if tied else 0
    missing = [name for name in report.missing_keys if not tied or own[name].data_ptr() != shared]
    if missing or report.unexpected_keys or (tied and tied not in weights):
        raise Corrupt(path, f"missing {missing}, unexpected {report.unexpected_keys}", "use the checkpoint before it")
