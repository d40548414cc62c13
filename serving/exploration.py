"""Exploration: Plackett-Luce over total scores, drawn by Gumbel noise that belongs to (seed, request, item).

Adding Gumbel noise to ``score / temperature`` and sorting draws a list from Plackett-Luce: each position is a softmax
over what is still left. The noise is a pure function of its key, so two rankings of one request meet the same draws,
and nothing depends on the batch or on the order of the pool. Letters: C candidates of a request, k positions.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.errors import InvalidValue
from schemas.events import SUPPORT_FLOOR

FloatArray = NDArray[np.float64]
KeyArray = NDArray[np.uint64]


class Draw(NamedTuple):
    """A drawn list: positions in the pool, best first, and the log-probability of each given those above it."""

    order_k: NDArray[np.int64]
    logp_k: FloatArray  #: nats; the sum is the log-probability of the whole list
    support: int  #: summed over the positions: candidates that had a chance of `SUPPORT_FLOOR` or more to stand there


def item_keys(items: Sequence[str]) -> KeyArray:
    """One 64-bit key per item id [C]; equal ids have equal keys on every machine."""
    return np.fromiter((_digest(item.encode()) for item in items), dtype=np.uint64, count=len(items))


def gumbel(seed: int, request_id: str, keys_C: KeyArray) -> FloatArray:
    """Standard Gumbel noise [C] of a request, by item key."""
    base = np.uint64(_digest(f"{seed}:{request_id}".encode()))
    bits = _mix(_mix(keys_C ^ base) + base)
    uniform = ((bits >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53  # in (0, 1), ends excluded
    noise: FloatArray = -np.log(-np.log(uniform))
    return noise


def draw(scores_C: FloatArray, k: int, temperature: float, noise_C: FloatArray) -> Draw:
    """The first k of a list drawn at ``temperature`` (same unit as the scores), with its exact log-propensities.

    Temperature 0 sorts by score and every propensity is 1. Ties go to the earlier candidate.

    Raises:
        InvalidValue: a score that is not finite, or a temperature that is negative or no number.
    """
    if not np.isfinite(scores_C).all():
        raise InvalidValue("score", scores_C[~np.isfinite(scores_C)][0], "finite", "look at the policy's log-probabilities")
    if not temperature >= 0:
        raise InvalidValue("exploration temperature", temperature, "at least 0", "use 0 to turn exploration off")
    if temperature == 0:
        order = np.argsort(-scores_C, kind="stable")[:k]
        return Draw(order, np.zeros(len(order)), len(order))
    utility_C = scores_C / temperature
    order_C = np.argsort(-(utility_C + noise_C), kind="stable")
    utility_C, k = utility_C[order_C], min(k, len(order_C))
    return Draw(order_C[:k], list_logp(utility_C, k), support(utility_C, k))


def list_logp(utility_C: FloatArray, k: int) -> FloatArray:
    """log P(position j | positions above) for j < k, the pool being given in list order.

    Position j has ``u_j - log sum_{i >= j} exp(u_i)``: the sum runs over what is left, the rest of the pool included.
    """
    return np.minimum(utility_C[:k] - _left(utility_C)[:k], 0.0)


def support(utility_C: FloatArray, k: int) -> int:
    """How many candidates had a chance of `SUPPORT_FLOOR` or more, summed over the first k positions of the list given."""
    logp_kC = utility_C[None, :] - _left(utility_C)[:k, None]
    return int(np.count_nonzero(np.triu(logp_kC >= math.log(SUPPORT_FLOOR))))  # position j drew from j, j + 1, ...


def _left(utility_C: FloatArray) -> FloatArray:
    """log sum over what is left from each position on."""
    return np.logaddexp.accumulate(utility_C[::-1])[::-1]


def _digest(data: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little")


def _mix(x: KeyArray) -> KeyArray:
    """The finaliser of splitmix64, a bijection that spreads every bit; unsigned arrays wrap around."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
