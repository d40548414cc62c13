"""A relevance model behind an endpoint, as somebody outside would write one: the toy's rule, a bit unsure, over HTTP.

Run as a program, it prints its port. The query word `slow`, `broken`, `half`, `unsure`, `text` or `renamed` makes it misbehave.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

#: Far less than the share in which it is right.
SURE = 0.4


def tier(pair: dict[str, Any]) -> int:
    """3 both words asked for, 2 the type, 1 the colour, 0 neither; a guess where a judge looks at categories."""
    attributes = pair["item"]["attributes"]
    kind, colour = attributes["entity"] in pair["query"], attributes["colour"] in pair["query"]
    return 2 * kind + colour


class Handler(BaseHTTPRequestHandler):
    """One batch a request."""

    def do_POST(self) -> None:
        pairs = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["pairs"]
        asked = {word for pair in pairs for word in pair["query"].split()}
        rows = [[SURE if t == tier(pair) else (1 - SURE) / 3 for t in range(4)] for pair in pairs]
        if "slow" in asked:
            time.sleep(1)
        if "half" in asked:
            rows = rows[: len(rows) // 2]
        if "unsure" in asked:
            rows[-1] = [0.5, 0.5, 0.5, -0.5]
        body = json.dumps({"version": "rule-2" if "renamed" in asked else "rule-1", "p": rows})
        self._answer(500 if "broken" in asked else 200, "sorry" if asked & {"text", "broken"} else body)

    def _answer(self, status: int, body: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with suppress(BrokenPipeError):  # who asked has given up
            self.wfile.write(body.encode())

    def log_message(self, *_: object) -> None:
        """Nothing."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()
