"""Errors of a web application as JSON: what is wrong, its value, its bound, what to do. Never a stack trace.

Each refusal is a line in the log too, without the value: it may be what a person searched for. The request's id and
trace are bound by whoever knows them.
"""

from __future__ import annotations

import math
from typing import Any, Final

import msgspec
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from schemas.errors import (
    Conflict,
    Forbidden,
    HeadraceError,
    InvalidRequest,
    InvalidValue,
    NotFound,
    Superseded,
    Unauthorised,
    Unavailable,
)

log = structlog.get_logger()

#: Whole numbers up to here every client of JSON reads as they are.
_LARGEST: Final = 2**53

#: Asked every second while a server starts: that it is not ready yet is an answer, no refusal.
PROBES = frozenset({"/readyz"})


def _tell(request: Request, status: int, reason: str) -> None:
    if request.url.path in PROBES:
        return
    say = log.info if status < 500 else log.warning
    say("request refused", status=status, path=request.url.path, reason=reason)


def _answer(status: int, error: object, **about: Any) -> JSONResponse:
    return JSONResponse({"error": str(error), **about}, status_code=status)


def _short(value: object) -> object:
    if (
        value is None
        or (isinstance(value, int) and abs(value) <= _LARGEST)
        or (isinstance(value, float) and math.isfinite(value))
    ):
        return value  # JSON has no NaN and no infinity: those go out as text, and what clients take for infinity
    text = str(value)
    return text if len(text) <= 200 else f"{text[:200]}..."


async def _invalid(request: Request, error: InvalidValue) -> JSONResponse:
    status = 404 if isinstance(error, NotFound) else 422
    _tell(request, status, f"{error.what} must be {error.bound}")
    return _answer(
        status,
        error,
        kind=type(error).__name__,
        what=error.what,
        value=_short(error.value),
        bound=error.bound,
        remedy=error.remedy,
    )


async def _unreadable(request: Request, error: RequestValidationError) -> JSONResponse:
    first = error.errors()[0]
    # "Input should be a valid integer, unable to parse string as an integer": what it should be is the bound.
    name, bound = str(first["loc"][-1]), str(first["msg"]).removeprefix("Input should be ").split(", unable to")[0]
    _tell(request, 422, f"{name}: {bound}")
    value, remedy = _short(first.get("input")), "correct the parameter"
    about = f"{name} is {value!r}, but must be {bound}; {remedy}"
    return _answer(422, about, kind=InvalidRequest.__name__, what=name, value=value, bound=bound, remedy=remedy)


async def _elsewhere(request: Request, error: HTTPException) -> JSONResponse:
    """What the framework refuses itself: a path or a method that is not there."""
    allowed = (error.headers or {}).get("Allow", "")
    value = f"{request.method} {request.url.path}"
    bound, remedy = (
        (f"with {allowed}", "use that method")
        if allowed
        else ("a path that is there" if error.status_code == 404 else error.detail, "look at /openapi.json")
    )
    _tell(request, error.status_code, f"{value}: {error.detail}")
    about = {"kind": InvalidRequest.__name__, "what": "request", "value": value, "bound": bound, "remedy": remedy}
    answer = _answer(error.status_code, f"request is {value}, but must be {bound}; {remedy}", **about)
    answer.headers.update(error.headers or {})
    return answer


async def _conflict(request: Request, error: Conflict) -> JSONResponse:
    _tell(request, 409, str(error))
    about: dict[str, Any] = {"what": error.what, "holder": error.holder, "remedy": error.remedy}
    if isinstance(error, Superseded):
        about |= {"who": error.who, "at_ms": error.at_ms, "changes": msgspec.to_builtins(error.changes)}
    return _answer(409, error, kind=type(error).__name__, **about)


async def _forbidden(request: Request, error: Forbidden) -> JSONResponse:
    _tell(request, 403, str(error))
    about = {"what": error.what, "value": error.value, "bound": error.bound, "remedy": error.remedy}
    return _answer(403, error, kind=type(error).__name__, **about)


async def _unauthorised(request: Request, error: Unauthorised) -> JSONResponse:
    _tell(request, 401, str(error))
    answer = _answer(401, error, kind=type(error).__name__, what=error.what, remedy=error.remedy)
    answer.headers["WWW-Authenticate"] = "Bearer"
    return answer


async def _unavailable(request: Request, error: Unavailable) -> JSONResponse:
    _tell(request, 503, str(error))
    answer = _answer(503, error, kind=type(error).__name__, what=error.what, reason=error.detail, remedy=error.remedy)
    answer.headers["Retry-After"] = "1"
    return answer


async def _other(request: Request, error: HeadraceError) -> JSONResponse:
    _tell(request, 500, str(error))
    return _answer(500, error, kind=type(error).__name__, what=type(error).__name__, remedy="read the server's log")


async def _unknown(request: Request, error: Exception) -> JSONResponse:
    log.error("request failed", path=request.url.path, error=repr(error), exc_info=error)
    return _answer(500, "internal error", kind="Exception", what=type(error).__name__, remedy="read the server's log")


#: The nearest class of an error's tree decides.
HANDLERS: dict[type[Exception], Any] = {
    InvalidValue: _invalid,
    RequestValidationError: _unreadable,
    HTTPException: _elsewhere,
    Conflict: _conflict,
    Forbidden: _forbidden,
    Unauthorised: _unauthorised,
    Unavailable: _unavailable,
    HeadraceError: _other,
    Exception: _unknown,
}


def handle_failures(app: FastAPI) -> None:
    """Map the error tree to status codes: 422 a broken bound, 404 not there, 409 held by somebody else, 401 nobody known,
    403 not allowed, 503 not available, 500 ours.
    """
    for kind, handler in HANDLERS.items():
        app.add_exception_handler(kind, handler)
