"""The one exception tree of Headrace.

HeadraceError
├── InvalidValue          a value breaks a bound: carries ``value``, ``bound``, ``remedy``
│   ├── InvalidSetting    in the settings
│   ├── InvalidEvent      in a record from a topic; ``reason`` is the quarantine's code
│   ├── InvalidData       in a data set: carries ``file``, ``row``, ``field``
│   └── InvalidRequest    in a search or console request
│       ├── NotFound            no such campaign, revision, version or token (HTTP 404)
│       ├── WrongState          the verb does not fit the state of the decision
│       ├── InvalidWeight       a weight or factor is not finite, negative or out of its bounds
│       ├── WorthlessRelevance  weights under which relevance would decide next to nothing
│       ├── EndsBeforeStart     a period that ends before, or when, it starts
│       ├── EndsInPast          a period that is over already
│       ├── StartsInPast        a start to wait for that has passed
│       ├── InvalidTime         text that is no time
│       │   ├── NonexistentTime     a local time that a clock change skips
│       │   ├── AmbiguousTime       a local time that a clock change repeats
│       │   └── ClockChange         a clock change inside a period given in local times
│       ├── UnknownZone         no such time zone
│       ├── EmptyScope          a scope that matches nothing
│       └── NoMargins           a margin multiplier over a catalogue without margins
├── Unavailable           something outside does not answer: a broker, Redis, a database, a file store
│   ├── Refused           it answers, but does not let us in: a wrong password, a certificate that is not trusted
│   └── ServiceFailed     a child process that Headrace started has ended or never became ready
├── Conflict              somebody else holds the thing: a run folder, a newer version, a fenced producer
│   └── Superseded        another editor was quicker: carries ``who``, ``at_ms``, ``changes``
├── Forbidden             the role is not enough
│   └── FourEyes          nobody approves what they wrote
├── Unauthorised          no token, and nothing in its place
│   └── UnknownToken      a token that nobody holds, or that was revoked
├── Corrupt               a stored artefact fails its check: carries ``path``, ``check``
├── Incompatible          two artefacts do not belong together: carries ``expected``, ``found``
└── LearningError         the learner's mathematics left its domain (a group of one)
    └── NotFinite         a loss or a gradient is NaN or infinite

To add one: derive it from the nearest class above, give it the attributes a handler needs, and write the message so
that it names the value, the bound and the remedy.
"""

from __future__ import annotations

#: Changes that the message of `Superseded` tells.
_TOLD = 6


class HeadraceError(Exception):
    """Root of everything Headrace raises on purpose."""


class InvalidValue(HeadraceError, ValueError):
    """A value breaks its bound; the message names value, bound and remedy."""

    def __init__(self, what: str, value: object, bound: str, remedy: str) -> None:
        self.what, self.value, self.bound, self.remedy = what, value, bound, remedy
        super().__init__(f"{what} is {short(value)}, but must be {bound}; {remedy}")


class InvalidSetting(InvalidValue):
    """A setting breaks its bound."""


class InvalidEvent(InvalidValue):
    """A record cannot be used; ``reason`` is a code of `schemas.quarantine.Reason`."""

    def __init__(
        self, reason: str, what: str, value: object, bound: str, remedy: str = "the record goes to quarantine"
    ) -> None:
        self.reason = reason
        super().__init__(what, value, bound, remedy)


class InvalidData(InvalidValue):
    """A data set does not have the documented form."""

    def __init__(self, file: str, row: int | None, field: str, value: object, bound: str) -> None:
        self.file, self.row, self.field = file, row, field
        place = f"{file}" + (f", row {row}" if row is not None else "") + f", field {field!r}"
        super().__init__(place, value, bound, "correct the file; docs/data.md describes the form")


class InvalidRequest(InvalidValue):
    """A request to the search server or the console breaks a bound (HTTP 422)."""


class NotFound(InvalidRequest):
    """There is no such campaign, revision, version or token (HTTP 404)."""


class WrongState(InvalidRequest):
    """The verb does not fit the state that the decision is in."""


class InvalidWeight(InvalidRequest):
    """A weight or a factor is not finite, negative or out of its bounds."""


class WorthlessRelevance(InvalidRequest):
    """Under these weights relevance would decide next to nothing; an approver may override it."""


class EndsBeforeStart(InvalidRequest):
    """A period ends before it starts, or at the same moment."""


class EndsInPast(InvalidRequest):
    """A period is over already."""


class StartsInPast(InvalidRequest):
    """A start that was to be waited for has passed."""


class InvalidTime(InvalidRequest):
    """A time cannot be read."""


class NonexistentTime(InvalidTime):
    """A local time that a clock change skips."""


class AmbiguousTime(InvalidTime):
    """A local time that is there twice, before and after a clock change."""


class ClockChange(InvalidTime):
    """The clocks change inside a period given in local times."""


class UnknownZone(InvalidRequest):
    """There is no such time zone."""


class EmptyScope(InvalidRequest):
    """A scope that matches nothing: no item, no query, no user."""


class NoMargins(InvalidRequest):
    """A margin multiplier over a catalogue that has no margins."""


class Unavailable(HeadraceError):
    """Something outside this process does not answer."""

    def __init__(self, what: str, detail: str, remedy: str) -> None:
        self.what, self.detail, self.remedy = what, detail, remedy
        super().__init__(f"{what} is not available: {detail}; {remedy}")


class Refused(Unavailable):
    """It answers, but user, password or certificate are not accepted: waiting does not help."""


class ServiceFailed(Unavailable):
    """A child process ended or never became ready; ``log`` is the file to read."""

    def __init__(self, what: str, detail: str, log: str) -> None:
        self.log = log
        super().__init__(what, detail, f"its log is {log}")


class Conflict(HeadraceError):
    """Somebody else holds it; ``holder`` says who."""

    def __init__(self, what: str, holder: str, remedy: str, how: str = "is held by") -> None:
        self.what, self.holder, self.remedy = what, holder, remedy
        super().__init__(f"{what} {how} {holder}; {remedy}")


class Superseded(Conflict):
    """Another editor was quicker; ``changes`` is what they changed (`schemas.decisions.Change`)."""

    def __init__(
        self, what: str, holder: str, who: str, at_ms: int, changes: tuple[object, ...],
        remedy: str = "look at it, then decide again",
    ) -> None:  # fmt: skip
        self.who, self.at_ms, self.changes = who, at_ms, changes
        more = f"; and {len(changes) - _TOLD} more" if len(changes) > _TOLD else ""
        told = "; ".join(map(str, changes[:_TOLD])) + more or "nothing that differs"
        super().__init__(what, f"{holder} ({told})", remedy, how="now stands at")


class Forbidden(HeadraceError):
    """Who asks may not do this (HTTP 403)."""

    def __init__(self, who: str, may_not: str, bound: str, remedy: str) -> None:
        self.what, self.value, self.bound, self.remedy = may_not, who, bound, remedy
        super().__init__(f"{who} may not {may_not}: that takes {bound}; {remedy}")


class FourEyes(Forbidden):
    """What one person wrote another has to approve."""


class Unauthorised(HeadraceError):
    """Nobody known asks (HTTP 401)."""

    def __init__(self, detail: str, remedy: str) -> None:
        self.what, self.detail, self.remedy = "access", detail, remedy
        super().__init__(f"access: {detail}; {remedy}")


class UnknownToken(Unauthorised):
    """A token was given that nobody holds, or that was revoked: never taken as none."""


class Corrupt(HeadraceError):
    """A stored artefact fails its check and is not used."""

    def __init__(self, path: str, check: str, remedy: str) -> None:
        self.path, self.check, self.remedy = path, check, remedy
        super().__init__(f"{path} failed its check ({check}); {remedy}")


class Incompatible(HeadraceError):
    """Two artefacts do not belong together."""

    def __init__(self, what: str, expected: object, found: object, remedy: str) -> None:
        self.what, self.expected, self.found, self.remedy = what, expected, found, remedy
        super().__init__(f"{what}: expected {short(expected)}, found {short(found)}; {remedy}")


class LearningError(HeadraceError):
    """The learner's mathematics left its domain; ``remedy`` says what to change."""

    def __init__(self, what: str, remedy: str) -> None:
        self.what, self.remedy = what, remedy
        super().__init__(f"{what}; {remedy}")


class NotFinite(LearningError):
    """A loss or a gradient is NaN or infinite; the weights are as before."""


def short(value: object) -> str:
    """As a message shows a value: a long one by its beginning and end."""
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:38]}...{text[-39:]}"  # of a path the end says most
