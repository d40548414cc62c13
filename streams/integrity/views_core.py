"""Facts of the joined page views: one partition of `search.views` in, `Facts` per window out.

A view counts once, at its first revision, in the window it is emitted in; views come in order of ``emitted_at``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.codec import encode
from schemas.events import SUPPORT_FLOOR
from schemas.integrity import SAMPLES, Facts, Sample
from schemas.topics import FACTS, VIEWS
from schemas.views import View
from streams.runtime.core import Output
from streams.views import Followed, ViewsCore

NAME: Final = "integrity"


class _Odd(msgspec.Struct, array_like=True):
    """A page and how noteworthy it is."""

    weight: float
    sample: Sample


class _State(Followed):
    stamp: int = 0  # end of the last window told
    draws: tuple[int, float, int] = (0, 0.0, 0)  # positions, inverse propensities, supports
    clicks: tuple[int, int] = (0, 0)  # items clicked, items shown
    drawn: list[_Odd] = msgspec.field(default_factory=list)
    clicked: list[_Odd] = msgspec.field(default_factory=list)


class ViewFactsCore(ViewsCore[_State]):
    """``width_s``: of a window, as the join has it."""

    name = NAME

    def __init__(self, partition: int, width_s: int) -> None:
        self._width = width_s * 1_000
        super().__init__(partition, _State())

    def _take(self, view: View, offset: int) -> None:
        if view.revision == 1:
            self._count(view, offset)

    def _count(self, view: View, offset: int) -> None:
        state = self._state
        hits, shown = sum(item.clicks > 0 for item in view.items), len(view.items)
        state.clicks = (state.clicks[0] + hits, state.clicks[1] + shown)
        self._keep(state.clicked, hits, view, offset, f"{hits} of {shown} items clicked")
        if view.support:
            inverse = sum(1 / item.propensity for item in view.items if item.propensity >= SUPPORT_FLOOR)
            draws, inverses, supports = state.draws
            state.draws = (draws + shown, inverses + inverse, supports + view.support)
            said = f"inverse propensities sum to {inverse:.4g}, its support is {view.support}"
            self._keep(state.drawn, abs(inverse - view.support), view, offset, said)

    def _keep(self, odd: list[_Odd], weight: float, view: View, offset: int, detail: str) -> None:
        """The `SAMPLES` of most weight, of equal ones the first."""
        if len(odd) < SAMPLES or weight > odd[-1].weight:
            odd.append(_Odd(weight, Sample(view.request_id, VIEWS.name, self._partition, offset, detail)))
            odd.sort(key=lambda one: -one.weight)  # stable
            del odd[SAMPLES:]

    def _pass(self, now: int) -> None:
        """Event time has come to ``now``: tell the window that had views, and the last one over, even if it is empty."""
        state = self._state
        over = now // self._width * self._width
        if over <= state.stamp:
            return
        end, told = (state.stamp // self._width + 1) * self._width, state.clicks[1] > 0
        if told:
            self._tell(end)
        if not told or over > end:
            self._tell(over)
        state.stamp = over

    def _tell(self, stamp: int) -> None:
        state, sums, samples = self._state, dict[str, tuple[float, ...]](), dict[str, tuple[Sample, ...]]()
        for check, counted, kept in (
            ("propensities", state.draws, state.drawn), ("ctr", state.clicks, state.clicked),
        ):  # fmt: skip
            if any(counted):
                sums[check], samples[check] = counted, tuple(odd.sample for odd in kept)
        facts = Facts(self._partition, "views", stamp, sums, samples)
        self._outputs.append(Output(FACTS.name, b"%d" % self._partition, encode(facts), 0))
        state.draws, state.clicks, state.drawn, state.clicked = (0, 0.0, 0), (0, 0), [], []
        self._add_to("windows")

    def dump(self) -> bytes:
        """The state as msgpack."""
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned."""
        self._become(msgspec.msgpack.decode(data, type=_State))
