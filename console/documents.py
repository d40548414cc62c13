"""The documents of the topics at `/schemas`: made from the code when the console starts, so that they are never stale."""

from __future__ import annotations

from html import escape
from importlib.metadata import version

from fastapi import FastAPI
from fastapi.responses import HTMLResponse, Response

from schemas.documents import documents, render
from schemas.errors import InvalidRequest
from schemas.topics import TOPICS, Topic
from schemas.versions import members, version_of

_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Headrace schemas</title>
<style>
:root {{ color-scheme: light dark }}
body {{ max-width: 960px; margin: 0 auto; padding: 20px 16px; font: 15px/1.5 system-ui, sans-serif }}
table {{ border-collapse: collapse }} th, td {{ text-align: left; padding: 4px 16px 4px 0; vertical-align: top }}
</style>
<h1>Schemas</h1>
<p><a href="/schemas/asyncapi.json">AsyncAPI 3.0 of all topics</a>; a JSON Schema for each:</p>
<table>
<tr><th>topic</th><th>key</th><th>records (version)</th><th>purpose</th></tr>
{rows}
</table>
</html>
"""


def add_documents(app: FastAPI, policy: str) -> None:
    """`/schemas` and what it links to. ``policy``: what the browser holds the page to."""
    rendered = {name: render(document) for name, document in documents(version("headrace")).items()}
    page = _PAGE.format(rows="\n".join(map(_row, TOPICS)))

    @app.get("/schemas", include_in_schema=False)
    def index() -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": policy})

    @app.get("/schemas/{name}.json", include_in_schema=False)
    def document(name: str) -> Response:
        if name not in rendered:
            raise InvalidRequest("schema", name, f"one of {', '.join(rendered)}", "/schemas links to them")
        return Response(rendered[name], media_type="application/json")


def _row(topic: Topic) -> str:
    records = ", ".join(f"{record.__name__} ({version_of(record)})" for record in members(topic.kind))
    link = f'<a href="/schemas/{escape(topic.name)}.json">{escape(topic.name)}</a>'
    return f"<tr><td>{link}</td><td>{escape(topic.key)}</td><td>{escape(records)}</td><td>{escape(topic.purpose)}</td></tr>"
