"""Policies: models that write identifiers. Importing this package does not import torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainers.policies.base import Policy

__all__ = ["load_policy"]


def load_policy(folder: Path | str, like: Policy | None = None) -> Policy:
    """The policy in a folder that `Policy.save` wrote, in evaluation mode.

    ``like``: a policy in evaluation mode whose folder was the same in all but the weights, which makes it quicker.

    Raises:
        Unavailable: the folder has no policy.json.
        Corrupt: policy.json does not have the documented form.
        Incompatible: it names a backbone that this version does not know.
    """
    from trainers.policies.folder import load

    return load(Path(folder), like)
