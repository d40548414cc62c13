"""Facts of all partitions added up, and a verdict on each window once every source has told it.

A check with too little to judge keeps what it has for the next window; one that broke stays broken until it has judged again.
Only healthy windows enter the past that later ones are held against. A released window leaves that past as it is, unless
it is released as the new normal: then it takes the place of the past, for what had broken in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from schemas.codec import decode, encode
from schemas.errors import InvalidEvent
from schemas.integrity import SAMPLES, Check, Facts, Release, Sample, Verdict, window
from schemas.quarantine import Reason
from schemas.topics import FACTS, VERDICTS
from streams.integrity.checks import Vector, checks
from streams.integrity.settings import IntegritySettings
from streams.runtime.core import Blob, Output, Record
from streams.runtime.refusal import refuse

NAME: Final = "integrity-judge"
#: Of the facts: the only one there is.
PARTITION: Final = 0
STAGES: Final = ("join", "views")
#: Broken windows that can still be released, the newest: a fortnight of hours.
KEPT: Final = 336


class _Sums(msgspec.Struct):
    """What has been told of a window, or carried into it."""

    sums: dict[str, Vector] = {}
    samples: dict[str, tuple[Sample, ...]] = {}

    def add(self, sums: Mapping[str, Vector], samples: Mapping[str, tuple[Sample, ...]]) -> None:
        for name, vector in sums.items():
            known = self.sums.get(name)
            self.sums[name] = vector if known is None else tuple(a + b for a, b in zip(known, vector, strict=True))
        for name, some in samples.items():
            self.samples[name] = (self.samples.get(name, ()) + some)[:SAMPLES]


class _Broken(msgspec.Struct):
    """A broken window, and the sums of what broke in it."""

    verdict: Verdict
    sums: dict[str, Vector]


class _State(msgspec.Struct):
    told: dict[str, list[int]]  # stage -> per source: the last stamp told; 0 before any
    waiting: dict[int, dict[str, list[Facts]]] = {}  # stamp -> stage -> facts
    carried: _Sums = msgspec.field(default_factory=_Sums)
    past: dict[str, Vector] = {}
    standing: dict[str, Check] = {}  # checks that broke when they judged last
    broken: dict[int, _Broken] = {}  # start -> windows that nobody has released
    counters: dict[str, int] = {}


class JudgeCore:
    """`Facts` of ``sources`` partitions and `Release` in, `Verdict` out."""

    def __init__(self, sources: int, settings: IntegritySettings, width_s: int, click_window_s: int) -> None:
        """``width_s``: of a window; ``click_window_s``: how long after a page its clicks may come."""
        self._sources, self._settings, self._width = sources, settings, width_s * 1_000
        self._reach = (click_window_s + 1) * 1_000  # a page goes out with the second in which its clicks end
        self._checks = checks(settings)
        self._outputs: list[Output] = []
        self._become(_State({stage: [0] * sources for stage in STAGES}))

    def _become(self, state: _State) -> None:
        self._state, self.counters = state, state.counters

    @property
    def watermark(self) -> int:
        """The stamp that every source has told."""
        return min(min(stamps) for stamps in self._state.told.values())

    @property
    def progress(self) -> Mapping[str, int]:
        """Nothing: there is one input."""
        return {}

    def apply(self, topic: str, records: Sequence[Record]) -> None:
        """Keep facts until their window is complete; judge what is; let released windows pass. In the order of the log."""
        for record in records:
            try:
                event: Facts | Release = decode(FACTS.kind, record.value)
                if isinstance(event, Release):
                    self._release(event)
                else:
                    self._take(event)
            except InvalidEvent as error:
                self._add_to(f"quarantined.{error.reason}")
                self._outputs.append(refuse(NAME, topic, PARTITION, record, error.reason, str(error)))

    def _take(self, facts: Facts) -> None:
        if not 0 <= facts.source < self._sources:
            raise InvalidEvent(Reason.INVALID, "source", facts.source, f"0 to {self._sources - 1}")
        state = self._state
        if facts.sums:
            state.waiting.setdefault(facts.stamp, {}).setdefault(facts.stage, []).append(facts)
        stamps = state.told[facts.stage]
        stamps[facts.source] = max(stamps[facts.source], facts.stamp)
        self._add_to("facts")
        complete = self.watermark
        for stamp in sorted(stamp for stamp in state.waiting if stamp <= complete):
            self._judge(stamp, state.waiting.pop(stamp))

    def _judge(self, stamp: int, told: dict[str, list[Facts]]) -> None:
        state, found = self._state, _summed(self._state.carried, told)
        judged, sums, state.carried = list[Check](), dict[str, Vector](), _Sums()
        for check in self._checks:
            vector = found.sums.get(check.name)
            enough = vector is not None and check.observed(vector) >= self._settings.least
            if vector is not None and not enough:
                state.carried.add({check.name: vector}, {check.name: found.samples.get(check.name, ())})
            if vector is None or not enough:
                judged += [state.standing[check.name]] if check.name in state.standing else []
                continue
            sums[check.name] = vector
            said = check.judge(vector, state.past.get(check.name, ()), self._settings.false_alarms)
            state.standing.pop(check.name, None)
            if said is not None and said.broken:
                said = msgspec.structs.replace(said, samples=found.samples.get(check.name, ()))
                state.standing[check.name] = said
            judged += [said] if said is not None else []
        start, broken = stamp - self._width, any(check.broken for check in judged)
        verdict = Verdict(start, stamp, max(0, start - self._reach), broken, tuple(judged))
        if broken:
            state.broken[start] = _Broken(verdict, {n: s for n, s in sums.items() if n in state.standing})
            for late in sorted(state.broken)[:-KEPT]:
                del state.broken[late]
        else:
            for check in self._checks:
                if check.name in sums:
                    state.past[check.name] = check.learn(state.past.get(check.name, ()), sums[check.name])
        self._say(verdict)
        self._add_to("broken" if broken else "healthy")

    def _release(self, release: Release) -> None:
        """Let the window pass. As the new normal it becomes the past of what broke in it, which starts anew from there."""
        state = self._state
        found = state.broken.pop(release.start, None)
        if found is None:
            raise InvalidEvent(Reason.INVALID, "window to release", window(release.start), "a broken one")
        if release.new_normal:
            for check in self._checks:
                if check.name in found.sums:
                    state.past[check.name] = check.learn((), found.sums[check.name])
        for failed in found.verdict.failed:
            if release.new_normal or state.standing.get(failed.name) == failed:  # a later window's finding stays
                state.standing.pop(failed.name, None)
        self._say(msgspec.structs.replace(found.verdict, released_by=release.author, reason=release.reason))
        self._add_to("released")

    def _say(self, verdict: Verdict) -> None:
        self._outputs.append(Output(VERDICTS.name, b"%d" % verdict.start, encode(verdict), 0))

    def advance(self) -> None:
        """Nothing is left to fire: a window is judged with the facts that complete it."""

    def drain(self) -> tuple[list[Output], list[Blob]]:
        """Outputs since the last call."""
        outputs, self._outputs = self._outputs, []
        return outputs, []

    def dump(self) -> bytes:
        """The state as msgpack."""
        return msgspec.msgpack.encode(self._state)

    def load(self, data: bytes) -> None:
        """Become what `dump` returned; partitions that have been added since have told nothing yet."""
        state = msgspec.msgpack.decode(data, type=_State)
        for stamps in state.told.values():
            stamps += [0] * (self._sources - len(stamps))
        self._become(state)

    def _add_to(self, name: str) -> None:
        self.counters[name] = self.counters.get(name, 0) + 1


def _summed(carried: _Sums, told: dict[str, list[Facts]]) -> _Sums:
    """What was carried, then the facts by stage and source: sums of floats in one order, whatever order they came in."""
    found = _Sums(dict(carried.sums), dict(carried.samples))
    for stage in STAGES:
        for facts in sorted(told.get(stage, ()), key=lambda one: one.source):
            found.add(facts.sums, facts.samples)
    return found
