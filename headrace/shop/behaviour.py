"""How people answer a page: position-based clicks, orders some time after, and some of them sent back.

``P(click on o at rank k) = k^-power * sigma(logit(ATTRACTION[tier]) + appeal_o(t) + taste)``: relevance sets the base,
a hidden appeal of the item and the user's taste move it. The numbers drawn belong to (request, item), so an item is
clicked or not for the same reason wherever another ranking puts it.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

#: Probability of a click on an examined item of average appeal, by tier: the usual graded form, at most 0.45.
ATTRACTION = 0.45 * (0.05 + 0.95 * (2.0 ** np.arange(4) - 1) / 7)

#: Which of an item's draws is for what.
CLICK, CLICK_DELAY, ORDER, ORDER_DELAY, RETURN, RETURN_DELAY = range(6)

#: Median (ms), spread of the logarithm, and longest delay (ms).
CLICK_AFTER = (12_000.0, 0.8, 20 * 60_000)
ORDER_AFTER = (20 * 60_000.0, 1.3, 20 * 3_600_000)
RETURN_AFTER = (22 * 3_600_000.0, 0.5, 60 * 3_600_000)


def attraction(tier_N: NDArray[np.int8], appeal_N: NDArray[np.float64], taste_N: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability [N] of a click on an examined item."""
    base_N = ATTRACTION[tier_N]
    return np.asarray(1 / (1 + np.exp(-(np.log(base_N / (1 - base_N)) + appeal_N + taste_N))))


def examination(k: int, power: float) -> NDArray[np.float64]:
    """Probability [k] that positions 1..k are looked at."""
    return np.asarray(np.arange(1.0, k + 1) ** -power)


def delay_ms(u: float, law: tuple[float, float, int]) -> int:
    """A log-normal delay (ms) at quantile ``u``, cut at the law's longest."""
    median, spread, longest = law
    z = NormalDist().inv_cdf(min(max(u, 1e-9), 1 - 1e-9))
    return int(min(median * np.exp(spread * z), longest))
