"""What both sides of `benchmarks.update` are told: the model, the prompts, the catalogue, the reward. No torch, none of the product."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray


class Work(msgspec.Struct, frozen=True):
    """One case. ``folder`` holds ``model/``, as `from_pretrained` opens it, and `ARRAYS`."""

    folder: str
    opens: str  #: the class of transformers
    threads: int
    group: int
    micro: int  #: rows that TRL computes at once; the gradients of a step's parts are added
    bos: int
    learning_rate: float
    max_grad_norm: float

    @property
    def model(self) -> Path:
        """The model's folder."""
        return Path(self.folder) / "model"

    @property
    def arrays(self) -> Path:
        """`Arrays` as a file."""
        return Path(self.folder) / "arrays.npz"


class Arrays(msgspec.Struct, frozen=True):
    """Prompts, catalogue and given rollouts, all as tokens of the model's vocabulary."""

    prompt_BS: NDArray[np.int64]
    catalogue_NL: NDArray[np.int64]
    rollout_BGL: NDArray[np.int64]

    def write(self, path: Path) -> None:
        """To a file."""
        np.savez(path, **{name: getattr(self, name) for name in self.__struct_fields__})

    @classmethod
    def read(cls, path: Path) -> Arrays:
        """What `write` wrote."""
        with np.load(path) as held:
            return cls(**{name: held[name] for name in cls.__struct_fields__})


def reward(sids: NDArray[np.int64]) -> NDArray[np.float64]:
    """A tier of 0 to 3 and a rate below 0.1 for each identifier [..., L], by its tokens: always the same."""
    mixed = (sids * (31 ** np.arange(sids.shape[-1]))).sum(axis=-1)
    rate: NDArray[np.float64] = mixed % 4 + mixed % 97 / 1000
    return rate


def nested(sids: Sequence[Sequence[int]]) -> dict[int, Any]:
    """The catalogue as dictionaries of dictionaries, as a `prefix_allowed_tokens_fn` walks it."""
    root: dict[int, Any] = {}
    for sid in sids:
        node = root
        for token in sid:
            node = node.setdefault(token, {})
    return root
