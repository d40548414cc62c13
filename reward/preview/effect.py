"""What a change has done since: pages that the new weights ordered against those of the control share, which kept the old ones.

Letters: U users of one side, V values, R repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec
import numpy as np
from scipy.stats import binomtest

from reward.preview.pages import Floats
from reward.settings import PreviewSettings
from schemas.errors import InvalidRequest
from schemas.examples import TrainingExample
from schemas.weights import RewardWeights

#: Per page; tier: the mean of its items.
VALUES: Final = ("clicks", "orders", "revenue", "tier")
LEVEL: Final = 0.95
CHUNK: Final = 50


class Difference(msgspec.Struct, frozen=True):
    """A value per page on both sides; the interval of the difference resamples users, as pages of one user are not independent."""

    treated: float
    control: float
    change: float
    low: float | None  #: None: fewer than two users on a side
    high: float | None


class Split(msgspec.Struct, frozen=True):
    """Did chance divide the users as it should have? If not, the sides differ by more than the weights."""

    wanted: float  #: share of users in the control group, by the setting
    found: float
    p: float  #: probability of a split at least this odd
    both: int  #: users with pages of both sides since the change: none, if all servers have the same setting


class Effect(msgspec.Struct, frozen=True):
    """A book against the one before it."""

    version: int
    before: int
    since_ms: int  #: event time of the first page that the new book ordered
    treated_pages: int
    control_pages: int
    treated_users: int
    control_users: int
    values: dict[str, Difference]
    split: Split
    warnings: tuple[str, ...]
    made_by: str = ""  #: what made the version: who did what; of a rollback, what it undid


def effect(
    examples: Sequence[TrainingExample], book: RewardWeights, control_share: float, settings: PreviewSettings,
    since_ms: int | None = None,
) -> Effect:  # fmt: skip
    """Compare pages ordered by ``book`` with those ordered by ``book.before`` since the change.

    Args:
        examples: of several revisions of a page the newest counts.
        control_share: part of the users that was to keep the old book (setting ``serving.control_share``).
        since_ms: event time of the change; None: of the first page that the new book ordered.

    Raises:
        InvalidRequest: the book replaced nothing, or no page on one of the sides.
    """
    if book.before is None:
        raise InvalidRequest("version", book.version, "one that replaced another", "there is nothing to compare it with")
    newest: dict[str, TrainingExample] = {}
    for example in examples:
        held = newest.get(example.request_id)
        if held is None or example.revision > held.revision:
            newest[example.request_id] = example
    pages = sorted(newest.values(), key=lambda e: e.request_id)
    treated = [e for e in pages if e.weights_version == book.version]
    if since_ms is None:
        since_ms = min((e.ts for e in treated), default=0)
    treated = [e for e in treated if e.ts >= since_ms]
    control = [e for e in pages if e.weights_version == book.before.version and e.ts >= since_ms]
    for side, found, version in (("new", treated, book.version), ("old", control, book.before.version)):
        if not found:
            remedy = "wait until click windows have closed; the control share is serving.control_share"
            raise InvalidRequest(f"pages of the {side} weights (version {version})", 0, "at least 1", remedy)
    sides = [_by_user(found) for found in (treated, control)]
    split = _split({e.user for e in treated}, {e.user for e in control}, control_share)
    return Effect(
        version=book.version,
        before=book.before.version,
        since_ms=since_ms,
        treated_pages=len(treated),
        control_pages=len(control),
        treated_users=len(sides[0]),
        control_users=len(sides[1]),
        values=_differences(sides, settings),
        split=split,
        warnings=tuple(_warnings(sides, split, settings)),
    )


def _by_user(pages: Sequence[TrainingExample]) -> Floats:
    """[U, V + 1]: sums of the values over each user's pages, and the number of pages; users in the order of their ids."""
    number = {user: n for n, user in enumerate(sorted({e.user for e in pages}))}
    sums_UV = np.zeros((len(number), len(VALUES) + 1))
    for e in pages:
        items = e.items
        sums_UV[number[e.user]] += (
            sum(min(item.clicks, 1) for item in items),
            sum(item.orders for item in items),
            sum(item.value for item in items),
            sum(item.tier for item in items) / len(items),
            1.0,
        )
    return sums_UV


def _differences(sides: list[Floats], settings: PreviewSettings) -> dict[str, Difference]:
    means = [_means(np.ones((1, len(side_UV))), side_UV)[0] for side_UV in sides]
    low_V = high_V = None
    if min(map(len, sides)) > 1:
        random = np.random.default_rng(settings.seed)
        drawn = [_resampled(side_UV, settings.repeats, random) for side_UV in sides]
        low_V, high_V = np.quantile(drawn[0] - drawn[1], [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return {
        name: Difference(
            treated=float(means[0][v]),
            control=float(means[1][v]),
            change=float(means[0][v] - means[1][v]),
            low=None if low_V is None else float(low_V[v]),
            high=None if high_V is None else float(high_V[v]),
        )
        for v, name in enumerate(VALUES)
    }


def _means(times_RU: Floats, sums_UV: Floats) -> Floats:
    """[R, V] per page, when user u is taken ``times_RU`` times."""
    totals_RV = times_RU @ sums_UV
    means: Floats = totals_RV[:, :-1] / totals_RV[:, -1:]
    return means


def _resampled(sums_UV: Floats, repeats: int, random: np.random.Generator) -> Floats:
    users, found = len(sums_UV), []
    for begin in range(0, repeats, CHUNK):
        count = min(CHUNK, repeats - begin)
        drawn = random.integers(0, users, (count, users)) + users * np.arange(count)[:, None]
        times_RU = np.bincount(drawn.ravel(), minlength=count * users).reshape(count, users)
        found.append(_means(times_RU.astype(np.float64), sums_UV))
    return np.concatenate(found)


def _split(treated: set[str], control: set[str], wanted: float) -> Split:
    """Users are what was divided, so users are counted, not pages."""
    both = len(treated & control)
    alone, users = len(control - treated), len(treated | control) - both
    p = float(binomtest(alone, users, wanted).pvalue) if users else 0.0
    return Split(wanted, alone / users if users else 0.0, p, both)


def _warnings(sides: list[Floats], split: Split, settings: PreviewSettings) -> list[str]:
    said = []
    fewest = min(map(len, sides))
    if fewest < settings.least_users:
        said.append(f"early: {fewest:,} users on the smaller side (at least {settings.least_users:,} wanted)")
    if split.p < settings.split_p:
        said.append(
            f"the split is broken: {100 * split.found:.1f} % of the users are in the control group instead of "
            f"{100 * split.wanted:.1f} % (p = {split.p:.1g}); do not trust the differences"
        )
    if split.both:
        said.append(f"{split.both:,} users have pages of both sides: do all servers have the same control share?")
    return said
