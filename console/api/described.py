"""Endpoints described by the structs that they take and answer with, so that the OpenAPI document is complete."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Final, TypeVar

import msgspec
from fastapi import FastAPI, Request
from fastapi.responses import Response
from msgspec import Meta

from console.api.reading import plain
from reward.desk.shapes import taken
from schemas.decisions import Change, Role
from schemas.errors import InvalidRequest

#: Larger bodies are refused (bytes).
LARGEST = 1_000_000
#: The last number that a version or revision can have: a column of 32 bits.
LAST: Final = 2**31 - 1
Number = Annotated[int, Meta(ge=1, le=LAST)]
Seen = Annotated[int, Meta(ge=0, le=LAST)]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]

T = TypeVar("T")
_types: dict[str, Any] = {}
_FAILURES = {
    401: "no token, or none that is good",
    403: "the role is not enough, or nobody else has approved",
    404: "there is no such thing",
    409: "another editor was quicker",
    422: "a value breaks its bound",
    503: "something outside does not answer",
}


class Failure(msgspec.Struct, omit_defaults=True):
    """Every refusal; ``kind`` is a class of `schemas.errors`."""

    error: str
    kind: str
    what: str
    remedy: str
    value: str | float | None = None
    bound: str | None = None
    holder: str | None = None
    who: str | None = None
    at_ms: int | None = None
    changes: list[Change] | None = None
    reason: str | None = None


def described(role: Role, answer: Any, body: type[msgspec.Struct] | None = None, status: int = 200) -> dict[str, Any]:
    """What a route's decorator is given: its answer, its refusals, its body, and the role it takes (``x-role``)."""
    refusals = [code for code in _FAILURES if code != 409 or body is not None]
    extra: dict[str, Any] = {"x-role": str(role), "security": [{"token": []}]}
    if body is not None:
        extra["requestBody"] = {"required": True, "content": _content(body)}
    responses: dict[int, dict[str, Any]] = {status: {"description": "done", "content": _content(answer)}}
    responses |= {code: {"description": _FAILURES[code], "content": _content(Failure)} for code in refusals}
    return {"responses": responses, "openapi_extra": extra, "response_class": Response, "status_code": status}


def answer(value: Any, status: int = 200) -> Response:
    """Structs as JSON."""
    return Response(msgspec.json.encode(value), status_code=status, media_type="application/json")


def body_of(kind: type[T]) -> Callable[[Request], Awaitable[T]]:
    """A dependency: the request's body as a struct.

    Raises:
        InvalidWeight: a number that is not finite.
        InvalidRequest: too large, not JSON, a key twice in an object, an unknown field, a wrong type, or the character zero
            in a text.
    """

    async def read(request: Request) -> T:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
            given = request.headers.get("content-type", "none")
            raise InvalidRequest("content-type", given, "application/json", "say that the body is JSON")
        raw = bytearray()
        async for chunk in request.stream():
            raw += chunk
            if len(raw) > LARGEST:
                raise InvalidRequest("the body", f"more than {LARGEST} bytes", f"at most {LARGEST} bytes", "send less")
        return taken(plain(bytes(raw)), kind)

    return read


def complete(app: FastAPI) -> None:
    """Let the application's OpenAPI document hold the structs."""
    made = app.openapi

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = made()
            components = document.setdefault("components", {})
            schemas = components.setdefault("schemas", {})
            _, structs = msgspec.json.schema_components(list(_types.values()), ref_template="#/components/schemas/{name}")
            schemas |= structs
            components["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def _content(kind: Any) -> dict[str, Any]:
    _types[str(kind)] = kind
    (schema,), _ = msgspec.json.schema_components([kind], ref_template="#/components/schemas/{name}")
    return {"application/json": {"schema": schema}}
