"""The folder a policy is saved into: ``model/`` for transformers, ``extra.safetensors`` and ``policy.json`` for us."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors import torch as safetensors
from safetensors.torch import load_file, save_file

from schemas.errors import Corrupt, Unavailable
from trainers.mapped import written
from trainers.policies.settings import PolicySettings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from trainers.policies.base import Policy

ABOUT = "policy.json"
EXTRA = "extra.safetensors"
REMEDY = "use the checkpoint before it"


@dataclass(frozen=True)
class About:
    """What ``policy.json`` says."""

    backbone: str
    codebook_version: str
    dense_width: int  #: width of the sentence embedding
    settings: PolicySettings


def load(folder: Path, like: Policy | None = None) -> Policy:
    """Open a saved policy, whichever its backbone; ``like``: one whose folder was the same in all but the weights.

    Raises:
        Unavailable, Corrupt, Incompatible: as `trainers.policies.load_policy`.
    """
    from trainers.policies.backbones import backbone
    from trainers.policies.levels import LevelPolicy

    if isinstance(like, LevelPolicy):
        return like.with_weights(folder)
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
        raise Corrupt(str(path), str(error), REMEDY) from error


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
    weights = {name: tensor.detach().contiguous() for name, tensor in _tensors(module).items()}
    save_file(weights, path, metadata={"format": "pt"})


def dump_weights(module: nn.Module) -> memoryview:
    """A module's parameters and buffers as one file; the same weights give the same bytes."""
    weights = {name: tensor.detach().contiguous() for name, tensor in _tensors(module).items()}
    return written(lambda path: save_file(weights, path))


def fill(module: nn.Module, data: bytes, where: str) -> None:
    """Fill a module with what `dump_weights` gave of one of the same shape.

    Raises:
        Corrupt: naming ``where``: the file is torn, or names or shapes do not fit.
    """
    try:
        weights = safetensors.load(data)
    except SafetensorError as error:
        raise Corrupt(where, str(error), REMEDY) from error
    _check(module, weights, Path(where))
    module.load_state_dict(weights)


def load_weights(module: nn.Module, path: Path, repeated: Sequence[str] = ()) -> None:
    """Fill a module; names in ``repeated`` say again what another name holds, and are passed over.

    Raises:
        Corrupt: the file is missing or torn, or names or shapes do not fit.
    """
    weights = _read(path, repeated)
    _check(module, weights, path)
    module.load_state_dict(weights)


def reweighted(module: nn.Module, path: Path, repeated: Sequence[str] = ()) -> nn.Module:
    """A module like this one with the weights of a file, as `load_weights` reads it; no tensor is shared, all else is.

    Building a module and filling it takes Python longer, and nothing else of the process runs meanwhile.

    Raises:
        Corrupt: as `load_weights`.
    """
    weights = _read(path, repeated)
    _check(module, weights, path)
    return _over(module, weights, "")


def _over(module: nn.Module, weights: Mapping[str, Tensor], prefix: str) -> nn.Module:
    made = copy.copy(module)
    made._parameters = {
        name: None if old is None else type(old)(_as(old, weights[prefix + name]), old.requires_grad)
        for name, old in module._parameters.items()
    }
    made._buffers = {
        name: None if old is None else _as(old, weights[prefix + name]) for name, old in module._buffers.items()
    }
    made._modules = {
        name: None if child is None else _over(child, weights, f"{prefix}{name}.") for name, child in module._modules.items()
    }
    return made


def _as(old: Tensor, new: Tensor) -> Tensor:
    return new.to(old.device, old.dtype, copy=True)


def _read(path: Path, repeated: Sequence[str]) -> dict[str, Tensor]:
    try:
        return {name: tensor for name, tensor in load_file(path).items() if name not in repeated}
    except (OSError, SafetensorError, RuntimeError) as error:
        raise Corrupt(str(path), str(error), REMEDY) from error


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name. FSDP2 has ``state_dict`` give a rank's own part, and divides the weights anew for it."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _check(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    own, found = ({n: tuple(t.shape) for n, t in tensors.items()} for tensors in (_tensors(module), weights))
    if own != found:
        missing, unexpected = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
        shapes = [f"{n} is {found[n]}, not {own[n]}" for n in sorted(own.keys() & found.keys()) if own[n] != found[n]]
        raise Corrupt(str(path), f"missing {missing}, unexpected {unexpected}, of another shape {shapes}", REMEDY)
