"""The checks: what each expects of a healthy window, and how far from it chance alone can lead.

A check judges a vector of sums (vectors of partitions and windows add up) against a vector of the healthy past, of the same
form. With alpha the setting ``false_alarms``, each states the assumption under which it breaks with chance alpha at most.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from scipy import special

from schemas.events import SUPPORT_FLOOR
from schemas.integrity import Check
from streams.integrity.settings import IntegritySettings

Vector = tuple[float, ...]


class Judge(Protocol):
    """One kind of check. ``name`` is also the name of its sums."""

    @property
    def name(self) -> str: ...

    def observed(self, sums: Vector) -> int:
        """Events that the sums rest on."""
        ...

    def judge(self, sums: Vector, past: Vector, alpha: float) -> Check | None:
        """The verdict on ``sums``; None where the past has nothing to compare with. ``past`` may be empty."""
        ...

    def learn(self, past: Vector, sums: Vector) -> Vector:
        """The past with a healthy window in it."""
        ...


@dataclass(frozen=True)
class Draws:
    """Propensities: the sum of inverse propensities against what it has to be.

    Sums: (draws, sum of 1/p over the draws with p >= f, sum of supports). A position of a page is a draw of one of the
    candidates left, x with chance p(x). For Z = 1[p(x) >= f] / p(x) of the drawn one, E Z = sum over x of p(x) Z(x) = the number
    s of candidates with p >= f, which the server logs (`Impression.support`). Without the floor f the mean would be the number of
    all candidates, but Z has no bound: one item in ten thousand weighs as much as all others, and no test of a window's
    size could fail. With it, 0 <= Z <= 1/f. The positions and pages of a window are a martingale (each drawn given what stands
    above), so by Azuma and Hoeffding P(|sum Z - sum s| >= t) <= 2 exp(-2 t^2 f^2 / n) over n draws: no variance to be
    estimated, t = sqrt(n ln(2/alpha) / 2) / f. (The variance is s/f - s^2 at most, and never more than this bound's 1/(4 f^2).)

    Assumption: each item was drawn with the propensity that was logged. Value: sum Z / sum s, expected 1.
    """

    name: str = "propensities"
    remedy: str = "find what reorders, drops or mis-states pages between the server's draw and the log"

    def observed(self, sums: Vector) -> int:
        return int(sums[0])

    def judge(self, sums: Vector, past: Vector, alpha: float) -> Check | None:
        draws, inverse, support = sums
        if support == 0:
            return None
        away = math.sqrt(draws * math.log(2 / alpha) / 2) / SUPPORT_FLOOR / support
        return _check(self.name, inverse / support, 1.0, 1 - away if away < 1 else None, 1 + away, draws, self.remedy)

    def learn(self, past: Vector, sums: Vector) -> Vector:
        return ()


@dataclass(frozen=True)
class Share:
    """A share of events: (those that have it, all).

    The healthy past, counted as ``strength`` observations at most, and the ``prior`` (those that have it, those that have not)
    make a Beta band for the window's true share; the band leaves out alpha/4 at either end, and the binomial around its ends
    another alpha/4. Shares inside ``fine`` are healthy whatever the past was.

    Assumption: the window's true share is a draw from that Beta, and events have it independently of each other. Shares
    move by themselves with the hour and come in clumps; a small ``strength`` is what allows for it.
    """

    name: str
    prior: tuple[float, float]
    fine: tuple[float, float]
    strength: float
    remedy: str

    def observed(self, sums: Vector) -> int:
        return int(sums[1])

    def judge(self, sums: Vector, past: Vector, alpha: float) -> Check | None:
        hits, of = sums
        had, all_ = past or (0.0, 0.0)
        a, b, tail = self.prior[0] + had, self.prior[1] + all_ - had, alpha / 4
        low_p = float(special.betaincinv(a, b, tail))
        high_p = 1 - float(special.betaincinv(b, a, tail))
        fine_low, fine_high = self.fine
        low = min(fine_low, _fewest(tail, of, low_p) / of) or None
        high = max(fine_high, 1 - _fewest(tail, of, 1 - high_p) / of)
        return _check(self.name, hits / of, a / (a + b), low, high if high < 1 else None, of, self.remedy)

    def learn(self, past: Vector, sums: Vector) -> Vector:
        return _capped(_added(past, sums), sums[1] + (past[1] if past else 0.0), self.strength)


@dataclass(frozen=True)
class Delays:
    """Delays by octave of milliseconds: the greatest distance between the window's distribution and the past's (Kolmogorov).

    By the inequality of Dvoretzky, Kiefer, Wolfowitz and Massart an empirical distribution of n strays further than
    sqrt(ln(2/a) / 2n) from its own with chance a at most, discrete ones too; with a = alpha/2 for the window and for the past.
    ``shift`` on top is how far the true ones may lie apart.

    Assumption: delays are independent, and their distribution moved by ``shift`` at most.
    """

    name: str
    shift: float
    strength: float
    least: int
    remedy: str

    def observed(self, sums: Vector) -> int:
        return int(sum(sums))

    def judge(self, sums: Vector, past: Vector, alpha: float) -> Check | None:
        n, m = sum(sums), sum(past)
        if m < self.least:
            return None
        away = float(np.abs(np.cumsum(sums) / n - np.cumsum(past) / m).max())
        chance = math.sqrt(math.log(4 / alpha) / 2)
        bound = min(1.0, self.shift + chance / math.sqrt(n) + chance / math.sqrt(m))
        return _check(self.name, away, 0.0, None, bound, n, self.remedy)

    def learn(self, past: Vector, sums: Vector) -> Vector:
        return _capped(_added(past, sums), sum(past) + sum(sums), self.strength)


@dataclass(frozen=True)
class Arrival:
    """The way to the broker: (ms from an event's own time to the broker's, summed; events), in seconds on average. Of every
    second of event time the first record counts.

    At most ``slack_s`` longer than in the healthy window before. Coming sooner is never wrong: a replay catches up so, its times
    lying days back. No chance is in it: a mean over hundreds of events does not stray by minutes.
    """

    name: str
    slack_s: float
    remedy: str

    def observed(self, sums: Vector) -> int:
        return int(sums[1])

    def judge(self, sums: Vector, past: Vector, alpha: float) -> Check | None:
        if not past:
            return None
        before, now = past[0] / past[1] / 1_000, sums[0] / sums[1] / 1_000
        return _check(self.name, now, before, None, before + self.slack_s, sums[1], self.remedy)

    def learn(self, past: Vector, sums: Vector) -> Vector:
        return sums


def checks(settings: IntegritySettings) -> tuple[Judge, ...]:
    """All of them, in the order of a verdict."""
    s, strength = settings, settings.strength
    clocks = "look at that producer's queue and clock"
    return (
        Draws(),
        Share(
            "click_join",
            (196, 4),
            (1 - s.unjoined, 1),
            strength,
            "look at the clicks' request ids, users and items in quarantine",
        ),
        Share("duplicates", (2, 198), (0, s.duplicates), strength, "find the producer that sends twice"),
        Share("quarantine", (2, 198), (0, s.quarantine), strength, "see `headrace quarantine list` for the reasons"),
        Share("ctr", (1, 9), (1, 0), strength, "compare what is shown and clicked with the shop's own figures"),
        Delays("click_delay", s.delay_shift, strength, s.least, "compare the clocks and units of click and page times"),
        Delays("order_delay", s.delay_shift, strength, s.least, "compare the clocks and units of order and page times"),
        Arrival("arrival_impressions", s.arrival_s, clocks),
        Arrival("arrival_clicks", s.arrival_s, clocks),
        Arrival("arrival_orders", s.arrival_s, clocks),
    )


#: Names of all checks.
NAMES: Final = tuple(check.name for check in checks(IntegritySettings()))


def _check(
    name: str, value: float, expected: float, low: float | None, high: float | None, observed: float, remedy: str
) -> Check:
    broken = (low is not None and value < low) or (high is not None and value > high)
    return Check(name, value, expected, low, high, int(observed), remedy, broken)


def _fewest(tail: float, of: float, p: float) -> float:
    """The least count of a binomial that is not in its lower tail: a smaller one has chance ``tail`` at most."""
    found = float(special.bdtrik(tail, of, p)) if 0 < p < 1 else math.nan
    return 0.0 if math.isnan(found) else math.floor(found)


def _added(past: Sequence[float], sums: Sequence[float]) -> Vector:
    return tuple(a + b for a, b in zip(past or (0.0,) * len(sums), sums, strict=True))


def _capped(sums: Vector, weight: float, strength: float) -> Vector:
    return sums if weight <= strength else tuple(value * strength / weight for value in sums)
