"""Two speeds without counting twice: the server adds what was wished and the model has not taken up yet.

A change of the weights acts on the next search through the serving score, and sinks into the model over many steps. When
the model has it, its log-probabilities carry the wish, and the same weights in the score would ask for it again. So the
server orders with ``served = reference + wished - absorbed``. The reference is the defaults, with which the serving scales were
chosen; absorbed is the average of what the checkpoint's steps used, recent steps more (`Absorbed`). At rest every
checkpoint is served by the reference; right after a change the whole difference is in the score.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from numpy.typing import NDArray

from reward.campaigns.weighing import ItemWeights
from schemas.checkpoints import Absorbed
from schemas.weights import RewardWeights

#: What the serving scales of `reward.settings` were chosen with.
REFERENCE: Final = RewardWeights()
#: Shares below this are forgotten, theirs going to the rest.
LEAST_SHARE: Final = 1e-3
#: A served multiplier stays in these bounds: twice what one campaign may ask, either way.
LEAN: Final = (0.25, 4.0)

Floats = NDArray[np.float64]


def absorb(absorbed: Sequence[Absorbed], used: RewardWeights, half_life: float) -> tuple[Absorbed, ...]:
    """The average after one more step that ``used`` these weights in force: what was before halves in ``half_life`` steps.

    Nothing absorbed yet: the warm start, which stands for the reference.
    """
    keep = 0.5 ** (1.0 / half_life)
    shares = {_content(entry.weights): entry for entry in absorbed or (Absorbed(1.0, REFERENCE),)}
    shares = {key: msgspec.structs.replace(entry, share=entry.share * keep) for key, entry in shares.items()}
    before = shares.pop(_content(used), Absorbed(0.0, used))
    kept = [entry for entry in shares.values() if entry.share >= LEAST_SHARE]
    return (*kept, Absorbed(1.0 - sum(entry.share for entry in kept), before.weights))


def relative(
    wished: ItemWeights | RewardWeights, absorbed: Sequence[tuple[float, ItemWeights | RewardWeights]]
) -> ItemWeights | RewardWeights:
    """What the serving score takes, [K] like ``wished``: the reference, plus what is wished and not yet absorbed.

    ``absorbed``: pairs of share (they sum to 1) and the weights [K] of that share for the same request and items. Only the
    terms of the serving score are made relative: relevance, ctr, multiplier. A weight does not fall below 0: the score
    never works against relevance or clicks, whatever an average says.
    """
    if not absorbed:
        return wished  # trained with the defaults: reference and absorbed are the same
    served = {}
    for name in ("relevance", "ctr"):
        taken = sum(share * np.asarray(getattr(entry, name), dtype=np.float64) for share, entry in absorbed)
        served[name] = np.maximum(getattr(REFERENCE, name) + getattr(wished, name) - taken, 0.0)
    taken = sum(share * np.log(entry.multiplier) for share, entry in absorbed)
    multiplier = np.clip(wished.multiplier / np.exp(taken), *LEAN)
    columns = np.broadcast_arrays(served["relevance"], served["ctr"], wished.click, wished.order, multiplier)
    return ItemWeights(*(np.asarray(column, dtype=np.float64) for column in columns))


def _content(weights: RewardWeights) -> bytes:
    """Two versions that decide the same are one."""
    return msgspec.json.encode(msgspec.structs.replace(weights, version=0, created_ms=0, author="", reason="", before=None))
