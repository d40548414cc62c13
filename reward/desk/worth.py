"""Whether relevance still decides anything under the weights that somebody asks for."""

from __future__ import annotations

from reward.desk.meeting import Effective, effective
from reward.desk.outside import Facts
from schemas.errors import WorthlessRelevance
from schemas.weights import RewardWeights

#: The highest relevance tier.
TIERS = 3


def relevance_share(found: Effective) -> float:
    """Share of relevance in the reward when an item of the highest tier, multiplied least, meets one that has all the rest,
    multiplied most: ``3 w_rel m_lo / (3 w_rel m_lo + (w_ctr + max(w_click, w_order)) m_hi)``. 0 when nothing counts.
    """
    relevant = TIERS * found.relevance * found.low
    rest = (found.ctr + max(found.click, found.order)) * found.high
    return relevant / (relevant + rest) if relevant > 0 else 0.0


def worthless(old: RewardWeights, new: RewardWeights, facts: Facts, least: float, now_ms: int) -> WorthlessRelevance | None:
    """The worst place where relevance falls below ``least`` in ``new``; None: nowhere. Where it was below already, and falls
    no further, somebody has decided so before.
    """
    around = facts() if old.campaigns or new.campaigns else None
    before = {ids: relevance_share(found) for ids, found in effective(old, around, now_ms).items()}
    bad = [
        (share, found, ids)
        for ids, found in effective(new, around, now_ms).items()
        if (share := relevance_share(found)) < min(least, before.get(ids, 1.0))
    ]
    if not bad:
        return None
    share, found, ids = min(bad)
    where = f"under {', '.join(ids)}" if ids else "of the defaults"
    value = (
        f"{share:.3f} (relevance {found.relevance:g}, ctr {found.ctr:g}, click {found.click:g}, order {found.order:g}, "
        f"multipliers {found.low:g} to {found.high:g})"
    )
    remedy = "raise relevance or lower the others; an approver may override it, which the audit keeps"
    return WorthlessRelevance(f"the share of relevance {where}", value, f"at least {least:g}", remedy)
